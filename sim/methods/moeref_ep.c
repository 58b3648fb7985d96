/* This project's own: experts in chunks on two streams; rows are gathered by the kernel that writes
 * them into their owner's memory, and results are read from there by the kernel that adds them up
 * at home. The rows of the next chunk travel while one is multiplied; its results leave while the
 * next is. Kernels that move rows take SMs from the products beside them. */
#include "sim/devices/devices.h"

#include <math.h>

/* SM time that copying a chunk's rows, in and out, takes from the products beside it. */
static double taken_us(const moe_int_devices *x, const moe_int_load *rows, int64_t chunks) {
    double sms = 132;
    moe_gpu_get(x->gpu, "sms", &sms);
    const double share = fmin(1, x->node->c[MOE_INT_CARRIER_PEER][MOE_INT_CP_SMS] / sms);
    return chunks > 1 && x->ep > 1
               ? 2 * share * moe_int_transfer_us(x->node, MOE_INT_CARRIER_PEER, rows)
               : 0;
}

typedef struct chunk {
    moe_int_local local;
    moe_int_load rows;
    int experts; /* the task */
} chunk;

static void prepare(moe_int_devices *x, int64_t chunks, chunk *all) {
    const int64_t experts = moe_int_devices_experts(x, x->group);
    for (int64_t i = 0; i < chunks; i++) {
        const int64_t first = i * experts / chunks, end = (i + 1) * experts / chunks;
        all[i].local = moe_int_devices_local(x, x->group, first, end, 1);
        all[i].rows =
            moe_int_devices_rows(x, (double)(end - first) / (double)experts, x->d * x->element);
    }
}

/* Weight gradients come last: results of all chunks leave beside them. */
static void add_experts(moe_int_devices *x, int64_t chunks, chunk *all, const int *ready) {
    for (int64_t i = 0; i < chunks; i++) {
        const moe_int_local *l = &all[i].local;
        x->t.chunk = (int32_t)i;
        all[i].experts = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                        l->first + l->second + taken_us(x, &all[i].rows, chunks), 0,
                                        ready[i], MOE_INT_NO_TASK);
    }
    for (int64_t i = 0; i < chunks; i++) {
        x->t.chunk = (int32_t)i;
        if (all[i].local.rest > 0)
            moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, all[i].local.rest, 0,
                           all[i].experts, MOE_INT_NO_TASK);
    }
}

static void run(moe_int_devices *x) {
    const int64_t experts = moe_int_devices_experts(x, x->group);
    int64_t chunks = x->chunks < experts ? x->chunks : experts;
    chunk all[MOE_INT_CHUNKS_MOST];
    int ready[MOE_INT_CHUNKS_MOST];
    chunks = chunks < 1 ? 1 : chunks > MOE_INT_CHUNKS_MOST ? MOE_INT_CHUNKS_MOST : chunks;
    prepare(x, chunks, all);
    for (int64_t i = 0; i < chunks; i++) {
        x->t.chunk = (int32_t)i;
        const int rows = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                              MOE_INT_CARRIER_PEER, &all[i].rows, MOE_INT_NO_TASK);
        ready[i] = moe_int_devices_gather(x, 1.0 / (double)chunks, rows);
    }
    add_experts(x, chunks, all, ready);
    for (int64_t i = 0; i < chunks; i++) {
        x->t.chunk = (int32_t)i;
        const int last = moe_int_devices_scatter(x, 1.0 / (double)chunks, all[i].experts);
        moe_int_devices_move(x, moe_int_pass_name(x, "combine O", "combine dX"),
                             MOE_INT_CARRIER_PEER, &all[i].rows, last);
    }
}

const moe_int_devices_method moe_int_devices_moeref_ep = {
    .brief = "this project's own: chunks of experts, fused gather and sum, two streams",
    .run = run,
    .chunked = true};
