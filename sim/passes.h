/* Internal: what a layer's passes consist of. */
#ifndef MOE_SIM_PASSES_H
#define MOE_SIM_PASSES_H

#include "sim/methods/methods.h"

/* Adds the kernels of w->pass to a list whose sizes are set. */
void moe_int_passes_list(const moe_int_method *method, const moe_workload *w, moe_int_list *l);

/* Adds parameters and, with a backward pass, their gradients; returns their bytes. */
double moe_int_passes_params(moe_int_list *l, int pass);

#endif
