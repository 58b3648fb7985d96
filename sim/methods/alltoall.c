#include "sim/methods/alltoall.h"

#include <math.h>

/* A message to another host takes its share of the adapter's time, and a start of its own. */
#define MESSAGE_US 0.7 /* assumed: two work requests a microsecond and a completion */

double moe_int_alltoall_linear_us(const moe_int_devices *x, const moe_int_load *rows) {
    const double messages = x->ranks - x->here;
    return moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, rows) + messages * MESSAGE_US;
}

double moe_int_alltoall_two_level_us(const moe_int_devices *x, const moe_int_load *rows) {
    const double hosts = x->ranks / x->here;
    moe_int_load inside = *rows, outside = *rows;
    if (hosts < 2)
        return 0;
    inside.ranks = x->here;
    inside.near = (rows->near + rows->far) * (x->here - 1) / x->here; /* all rows change place */
    inside.far = 0;
    outside.near = 0;
    const double swap = 2 * rows->copies * rows->row;
    return moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, &inside) +
           moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, &outside) +
           (hosts - 1) * MESSAGE_US + moe_int_devices_stream(x, swap);
}

double moe_int_alltoall_us(const moe_int_devices *x, const moe_int_load *rows) {
    const double linear = moe_int_alltoall_linear_us(x, rows);
    const double two = moe_int_alltoall_two_level_us(x, rows);
    if (x->ep < 2)
        return 0;
    return two > 0 ? fmin(linear, two) : linear;
}

int moe_int_alltoall_add(moe_int_devices *x, const char *name, double us, const moe_int_load *rows,
                         int after) {
    const bool far = rows->far > 0;
    return moe_int_tl_add(&x->t, name, far ? MOE_INT_TL_NETWORK : MOE_INT_TL_OUT,
                          far ? MOE_INT_TL_COUNT : MOE_INT_TL_IN, us, rows->near + rows->far, after,
                          MOE_INT_NO_TASK);
}
