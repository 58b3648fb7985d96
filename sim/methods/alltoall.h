/* Internal: all-to-alls of methods that choose between a linear and a two-level one. */
#ifndef MOE_SIM_METHODS_ALLTOALL_H
#define MOE_SIM_METHODS_ALLTOALL_H

#include "sim/devices/devices.h"

/* Between peers, the ranks of all groups that hold the same part of the width. Linear: a message to
 * each of them. Two-level: within the host, then one message to each host. us; the second is 0
 * where there is one host, or one peer on each. */
double moe_int_alltoall_linear_us(const moe_int_devices *x, const moe_int_load *rows);
double moe_int_alltoall_two_level_us(const moe_int_devices *x, const moe_int_load *rows);
/* The faster. */
double moe_int_alltoall_us(const moe_int_devices *x, const moe_int_load *rows);

int moe_int_alltoall_add(moe_int_devices *x, const char *name, double us, const moe_int_load *rows,
                         int after);

#endif
