/* This project's own: tokens go to all owners by plain copies while they are routed; experts are
 * multiplied in chunks, and results of one go home by copies while the next is multiplied. Backward
 * multiplies all at once, and copies dX~ while the weights' gradients are made. Copy engines take
 * no SMs; the last step is a sum of rows that are at home. */
#include "sim/devices/devices.h"

#define CHUNKS_MOST 64

typedef struct chunk {
    moe_int_local local;
    moe_int_load rows;
    int experts, home; /* tasks */
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

static void add_chunk(moe_int_devices *x, int64_t chunks, chunk *c, int ready) {
    c->experts = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                c->local.first + c->local.second, 0, ready, MOE_INT_NO_TASK);
    c->home = moe_int_devices_scatter(x, 1.0 / (double)chunks, c->experts);
    c->home = moe_int_devices_move(x, moe_int_pass_name(x, "combine O", "combine dX"),
                                   MOE_INT_CARRIER_PEER, &c->rows, c->home);
}

/* Weight gradients, then the sum of all chunks' rows. */
static void add_rest(moe_int_devices *x, int64_t chunks, const chunk *all) {
    const double sum = moe_int_devices_all(x, 1).sum;
    double rest = 0;
    for (int64_t i = 0; i < chunks; i++)
        rest += all[i].local.rest;
    x->t.chunk = (int32_t)(chunks - 1);
    if (rest > 0)
        moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, rest, 0,
                       all[chunks - 1].experts, MOE_INT_NO_TASK);
    moe_int_tl_add(&x->t, moe_int_pass_name(x, "sum O", "sum dX"), MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                   sum, 0, all[chunks - 1].home, MOE_INT_NO_TASK);
}

static void run(moe_int_devices *x) {
    const int64_t experts = moe_int_devices_experts(x, x->group);
    const moe_int_load tokens = moe_int_devices_tokens(x, 1, x->d * x->element);
    int64_t chunks = x->backward ? 1 : x->chunks < experts ? x->chunks : experts;
    chunk all[CHUNKS_MOST];
    chunks = chunks < 1 ? 1 : chunks > CHUNKS_MOST ? CHUNKS_MOST : chunks;
    prepare(x, chunks, all);
    const int rows = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                          MOE_INT_CARRIER_PEER, &tokens, MOE_INT_NO_TASK);
    const int ready = moe_int_devices_gather(x, 1, rows);
    for (int64_t i = 0; i < chunks; i++) {
        x->t.chunk = (int32_t)i;
        add_chunk(x, chunks, &all[i], ready);
    }
    add_rest(x, chunks, all);
}

const moe_int_devices_method moe_int_devices_moeref_ep = {
    .brief = "this project's own: chunks of experts, rows by copy engines, a sum at home",
    .run = run,
    .chunked = true};
