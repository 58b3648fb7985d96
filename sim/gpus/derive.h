/* Internal: what a description may leave out, and what is taken instead. */
#ifndef MOE_SIM_DERIVE_H
#define MOE_SIM_DERIVE_H

#include "sim/gpus/params.h"

/* The default of parameter i, from `arch` and clock_max_mhz. False if a description must say it, or
 * if calibration finds it: then the nearest description has it. */
bool moe_int_gpu_derive(moe_int_gp i, const double *p, double *ret);

/* The shipped description whose efficiencies a GPU of that architecture starts from. */
const char *moe_int_gpu_nearest(double arch);

#endif
