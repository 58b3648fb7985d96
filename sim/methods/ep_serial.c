/* What frameworks without fused kernels do: counts, all-to-all of rows, experts, all-to-all back,
 * sum over a token's experts; each waits for the one before. */
#include "sim/devices/devices.h"

static void run(moe_int_devices *x) {
    const bool serial = x->t.serial;
    const moe_int_local l = moe_int_devices_all(x, 1);
    const moe_int_load rows = moe_int_devices_rows(x, 1, x->d * x->element);
    const moe_int_load counts = {.ranks = x->ep, .near = x->E * 4 * (x->ep - 1) / x->ep};
    int last = MOE_INT_NO_TASK;
    x->t.serial = true;
    if (!x->backward) /* the plan of the forward pass serves both */
        last = moe_int_devices_move(x, "counts", MOE_INT_CARRIER_ALLTOALL, &counts, last);
    last = moe_int_tl_add(&x->t, "rows by rank", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                          moe_int_devices_stream(x, 2 * rows.copies * rows.row), 0, last,
                          MOE_INT_NO_TASK);
    last = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                MOE_INT_CARRIER_ALLTOALL, &rows, last);
    last = moe_int_devices_gather(x, &rows, last);
    last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                          l.first + l.second + l.rest, 0, last, MOE_INT_NO_TASK);
    last = moe_int_devices_scatter(x, &rows, last);
    last = moe_int_devices_move(x, moe_int_pass_name(x, "combine Y", "combine dX~"),
                                MOE_INT_CARRIER_ALLTOALL, &rows, last);
    moe_int_tl_add(&x->t, moe_int_pass_name(x, "O", "dX"), MOE_INT_TL_SMS, MOE_INT_TL_COUNT, l.sum,
                   0, last, MOE_INT_NO_TASK);
    x->t.serial = serial;
}

const moe_int_devices_method moe_int_devices_ep_serial = {
    .brief = "counts, all-to-all, experts, all-to-all, sum: one after another (NCCL)", .run = run};
