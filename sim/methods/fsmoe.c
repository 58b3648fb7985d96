/* FSMoE (arXiv 2501.10714): tokens in r chunks over three resources: network (all-to-all), links of
 * the host (all-gather and reduce-scatter of the expert-sharding group), SMs; r is chosen for
 * forward and backward apart, and the gradients' all-reduce fills the network's gaps. The paper
 * takes r for continuous; its release (github.com/xpan413/FSMoE, tools/optim.py) makes it 1, 2, 4
 * or 8. */
#include "sim/methods/alltoall.h"

#include <math.h>

/* Gradients of what the backward pass has been through before, of which each GPU of a group has its
 * part. */
static void reduce_beside(moe_int_devices *x, double from) {
    const double part = x->backward ? x->o->beside_bytes / x->tp : 0;
    const moe_int_load load =
        moe_int_collective_load(x->node, MOE_INT_ALL_REDUCE, x->ep, x->tp, part);
    moe_int_load none = load;
    if (load.near + load.far <= 0)
        return;
    none.near = none.far = 0;
    const double start = moe_int_transfer_us(x->node, MOE_INT_CARRIER_RING, &none) +
                         (load.far > 0 ? x->node->p[MOE_INT_NP_INTER_US] : 0);
    const double all = moe_int_transfer_us(x->node, MOE_INT_CARRIER_RING, &load);
    const double link = moe_int_transfer_link_us(x->node, MOE_INT_CARRIER_RING, &load);
    moe_int_tl_fill(&x->t, "gradients beside", load.far > 0 ? MOE_INT_TL_NETWORK : MOE_INT_TL_OUT,
                    from, start, fmax(all - start, link), load.near + load.far);
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
                                  moe_int_devices_gather(x, &rows, rows_in), MOE_INT_NO_TASK);
    }
    /* What comes goes before what leaves: no SM waits for rows while the network sends results. */
    for (int64_t i = 0; i < x->chunks; i++) {
        x->t.chunk = (int32_t)i;
        moe_int_alltoall_add(x, moe_int_pass_name(x, "combine Y", "combine dX~"), us, &rows,
                             moe_int_devices_scatter(x, &rows, ready[i]));
    }
    reduce_beside(x, from);
}

const moe_int_devices_method moe_int_devices_fsmoe = {
    .brief = "FSMoE: chunks over network, host links and SMs, forward and backward apart",
    .run = run,
    .chunks_most = 8};
