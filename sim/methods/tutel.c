/* Tutel: tokens in chunks, the all-to-all of one beside the experts of another; linear or
 * two-level all-to-all, whichever is faster: in the two-level one ranks of a host first swap rows,
 * so that each message to another host is as many times larger. */
#include "sim/methods/alltoall.h"

static void run(moe_int_devices *x) {
    const double share = 1.0 / (double)x->chunks;
    const moe_int_local l = moe_int_devices_all(x, share);
    const moe_int_load rows = moe_int_devices_rows(x, share, x->d * x->element);
    const double us = moe_int_alltoall_us(x, &rows);
    int experts[MOE_INT_CHUNKS_MOST] = {0};
    for (int64_t i = 0; i < x->chunks; i++) {
        x->t.chunk = (int32_t)i;
        int last = moe_int_alltoall_add(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"), us,
                                        &rows, MOE_INT_NO_TASK);
        last = moe_int_devices_gather(x, &rows, last);
        last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                              moe_int_local_us(&l), 0, last, MOE_INT_NO_TASK);
        experts[i] = moe_int_devices_scatter(x, &rows, last);
    }
    for (int64_t i = 0; i < x->chunks; i++) {
        x->t.chunk = (int32_t)i;
        moe_int_alltoall_add(x, moe_int_pass_name(x, "combine Y", "combine dX~"), us, &rows,
                             experts[i]);
    }
}

const moe_int_devices_method moe_int_devices_tutel = {
    .brief = "Tutel: chunks of tokens, linear or two-level all-to-all",
    .run = run,
    .chunks_most = 8};
