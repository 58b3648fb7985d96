#include "sim/methods/alltoall.h"

#include <math.h>

/* A message to another host takes its share of the adapter's time, and a start of its own. */
#define MESSAGE_US 0.7 /* assumed: two work requests a microsecond and a completion */

double moe_int_alltoall_linear_us(const moe_int_devices *x, const moe_int_load *rows) {
    const double messages = x->hosts > 1 ? x->ep - x->peers : 0;
    return moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, rows) + messages * MESSAGE_US;
}

double moe_int_alltoall_two_level_us(const moe_int_devices *x, const moe_int_load *rows) {
    moe_int_load inside = *rows, outside = *rows;
    if (x->hosts < 2 || x->peers < 2)
        return 0;
    inside.ranks = x->peers;
    inside.near = (rows->near + rows->far) * (x->peers - 1) / x->peers; /* all change place */
    inside.far = 0;
    outside.near = 0;
    const double swap = 2 * rows->copies * rows->row;
    return moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, &inside) +
           moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, &outside) +
           (x->hosts - 1) * MESSAGE_US + moe_int_devices_stream(x, swap);
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
    const bool far = rows->far > 0, near = rows->near > 0;
    const moe_int_tl_row also = !far ? MOE_INT_TL_IN : near ? MOE_INT_TL_OUT : MOE_INT_TL_COUNT;
    return moe_int_tl_add(&x->t, name, far ? MOE_INT_TL_NETWORK : MOE_INT_TL_OUT, also, us,
                          rows->near + rows->far, after, MOE_INT_NO_TASK);
}
