/* T3: hypothetical hardware whose finished tiles start their own transfer and are added up in
 * memory: fill + max(product, transfer) + drain, with what the transfer takes of memory added to
 * the product. An upper bound for every overlap of products and sends. */
#include "sim/devices/devices.h"

#define STEPS 16 /* of tiles; the first's product and the last's transfer overlap nothing */

static void run(moe_int_devices *x) {
    const moe_int_local l = moe_int_devices_all(x, 1);
    const moe_int_load rows = moe_int_devices_tokens(x, 1, x->d * x->element);
    const double link =
        x->ep > 1 ? moe_int_transfer_link_us(x->node, MOE_INT_CARRIER_ALLTOALL, &rows) : 0;
    const double bytes = rows.near + rows.far;
    const double product = l.second + (x->ep > 1 ? moe_int_devices_stream(x, 2 * bytes) : 0);
    int last = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                    MOE_INT_CARRIER_ALLTOALL, &rows, MOE_INT_NO_TASK);
    last = moe_int_devices_gather(x, &rows, last);
    last = moe_int_tl_add(&x->t, moe_int_pass_name(x, "A", "dH"), MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                          l.first, 0, last, MOE_INT_NO_TASK);
    for (int i = 0; i < STEPS; i++) {
        x->t.chunk = i;
        last = moe_int_tl_add(&x->t, moe_int_pass_name(x, "Y", "dX~"), MOE_INT_TL_SMS,
                              MOE_INT_TL_COUNT, product / STEPS, 0, last, MOE_INT_NO_TASK);
        moe_int_tl_add(&x->t, moe_int_pass_name(x, "O of tiles", "dX of tiles"), MOE_INT_TL_OUT,
                       MOE_INT_TL_IN, link / STEPS, bytes / STEPS, last, MOE_INT_NO_TASK);
    }
    x->t.chunk = 0;
    moe_int_devices_scatter(x, &rows, last);
    if (l.rest > 0)
        moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, l.rest, 0, last,
                       MOE_INT_NO_TASK);
}

const moe_int_devices_method moe_int_devices_t3 = {
    .brief = "T3: hypothetical tiles that start their own transfer: a bound", .run = run};
