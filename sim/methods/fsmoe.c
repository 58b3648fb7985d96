/* FSMoE: tokens in r chunks over three resources: network (all-to-all), links of the host
 * (all-gather and reduce-scatter of the expert-sharding group), SMs; r is chosen for forward and
 * backward apart, and the gradients' all-reduce fills the network's gaps. */
#include "sim/methods/alltoall.h"

#include <math.h>

/* An all-reduce over all ranks: within hosts a sum and a copy, of which each rank passes its part
 * on to the other hosts; there the network, else the links, are what it takes. */
static double all_reduce_us(const moe_int_devices *x, double bytes) {
    const double hosts = x->ranks / x->here;
    moe_int_load load = {.ranks = hosts > 1 ? hosts : x->ranks};
    if (hosts > 1)
        load.far = 2 * (hosts - 1) / hosts * bytes / x->here;
    else
        load.near = 2 * (x->ranks - 1) / x->ranks * bytes;
    return moe_int_transfer_us(x->node, MOE_INT_CARRIER_ALLTOALL, &load);
}

/* Gradients of what the backward pass has been through before. */
static void reduce_beside(moe_int_devices *x, double from) {
    const double bytes = x->backward && x->ranks > 1 ? x->o->beside_bytes : 0;
    const double start = all_reduce_us(x, 0);
    if (bytes > 0)
        moe_int_tl_fill(&x->t, "gradients beside",
                        x->ranks > x->here ? MOE_INT_TL_NETWORK : MOE_INT_TL_OUT, from, start,
                        all_reduce_us(x, bytes) - start, bytes);
}

static void run(moe_int_devices *x) {
    const double from = x->t.end_us;
    const double share = 1.0 / (double)x->chunks;
    const moe_int_local l = moe_int_devices_all(x, share);
    const moe_int_load rows = moe_int_devices_rows(x, share, x->d * x->element);
    const double us = moe_int_alltoall_us(x, &rows);
    const double work = moe_int_local_us(&l);
    int ready[MOE_INT_CHUNKS_MOST] = {0};
    for (int64_t i = 0; i < x->chunks; i++) {
        x->t.chunk = (int32_t)i;
        const int rows_in = moe_int_alltoall_add(
            x, moe_int_pass_name(x, "dispatch X", "dispatch dO"), us, &rows, MOE_INT_NO_TASK);
        ready[i] = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, work, 0,
                                  moe_int_devices_gather(x, share, rows_in), MOE_INT_NO_TASK);
    }
    /* What comes goes before what leaves: no SM waits for rows while the network sends results. */
    for (int64_t i = 0; i < x->chunks; i++) {
        x->t.chunk = (int32_t)i;
        moe_int_alltoall_add(x, moe_int_pass_name(x, "combine Y", "combine dX~"), us, &rows,
                             moe_int_devices_scatter(x, share, ready[i]));
    }
    reduce_beside(x, from);
}

const moe_int_devices_method moe_int_devices_fsmoe = {
    .brief = "FSMoE: chunks over network, host links and SMs, forward and backward apart",
    .run = run,
    .chunked = true,
    .any_chunks = true};
