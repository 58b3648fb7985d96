/* FSMoE: tokens in r chunks over three resources: network (all-to-all), links of the host
 * (all-gather and reduce-scatter of the expert-sharding group), SMs; r is chosen for forward and
 * backward apart, and the gradients' all-reduce fills the network's gaps. */
#include "sim/methods/alltoall.h"

#include <math.h>

static void run(moe_int_devices *x) {
    const double share = 1.0 / (double)x->chunks;
    const moe_int_local l = moe_int_devices_all(x, share);
    const moe_int_load rows = moe_int_devices_rows(x, share, x->d * x->element);
    const double us = moe_int_alltoall_us(x, &rows);
    const double work = moe_int_local_us(&l);
    int ready[MOE_INT_CHUNKS_MOST];
    for (int64_t i = 0; i < x->chunks && i < MOE_INT_CHUNKS_MOST; i++) {
        x->t.chunk = (int32_t)i;
        int last = moe_int_alltoall_add(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"), us,
                                        &rows, MOE_INT_NO_TASK);
        last = moe_int_devices_gather(x, share, last);
        last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, work, 0, last,
                              MOE_INT_NO_TASK);
        ready[i] = last;
        /* The chunk before is through by now: its results leave while this one is multiplied. */
        if (i > 0) {
            x->t.chunk = (int32_t)i - 1;
            last = moe_int_devices_scatter(x, share, ready[i - 1]);
            moe_int_alltoall_add(x, moe_int_pass_name(x, "combine Y", "combine dX~"), us, &rows,
                                 last);
        }
    }
    x->t.chunk = (int32_t)x->chunks - 1;
    const int end = moe_int_devices_scatter(x, share, ready[x->chunks - 1]);
    moe_int_alltoall_add(x, moe_int_pass_name(x, "combine Y", "combine dX~"), us, &rows, end);
}

const moe_int_devices_method moe_int_devices_fsmoe = {
    .brief = "FSMoE: chunks over network, host links and SMs, forward and backward apart",
    .run = run,
    .chunked = true};
