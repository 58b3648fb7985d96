/* This project's own: tokens go to all owners by plain copies while they are routed; experts are
 * multiplied in chunks, and results of one go home by copies while the next is multiplied. Chunks
 * take turns on two streams, two at a time, so that the tiles of one fill what another leaves idle:
 * together they take what all experts at once do. Backward multiplies all at once, and copies dX~
 * while the weights' gradients are made. Copy engines take no SMs; the last step is a sum of rows
 * that are at home. */
#include "sim/devices/devices.h"

typedef struct chunk {
    double share;      /* of the experts */
    int experts, home; /* tasks */
} chunk;

/* The last chunk has half as many experts as the others, as backends/cuda/ep/chunks.h has it. */
static int64_t chunk_begin(int64_t experts, int64_t chunks, int64_t i) {
    return i == chunks ? experts : 2 * i * experts / (2 * chunks - 1);
}

static int add_experts(moe_int_devices *x, int64_t i, double us, int after) {
    x->t.chunk = (int32_t)i;
    return moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, us, 0, after,
                          MOE_INT_NO_TASK);
}

static void bring(moe_int_devices *x, int64_t i, chunk *c) {
    const moe_int_load rows = moe_int_devices_rows(x, c->share, x->d * x->element);
    x->t.chunk = (int32_t)i;
    c->home = moe_int_devices_scatter(x, &rows, c->experts);
    c->home = moe_int_devices_move(x, moe_int_pass_name(x, "combine O", "combine dX"),
                                   MOE_INT_CARRIER_PEER, &rows, c->home);
}

/* Two chunks' first products, then their second ones. */
static void add_two(moe_int_devices *x, const moe_int_local *l, int64_t chunks, int64_t first,
                    chunk *all, int ready) {
    const int64_t end = first + 2 < chunks ? first + 2 : chunks;
    for (int64_t i = first; i < end; i++)
        all[i].experts = add_experts(x, i, l->first * all[i].share, ready);
    for (int64_t i = first; i < end; i++)
        all[i].experts = add_experts(x, i, l->second * all[i].share, all[i].experts);
    for (int64_t i = first; i < end; i++)
        bring(x, i, &all[i]);
}

/* Weight gradients, then the sum of all chunks' rows. */
static void add_rest(moe_int_devices *x, const moe_int_local *l, const chunk *last) {
    if (l->rest > 0)
        moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, l->rest, 0, last->experts,
                       MOE_INT_NO_TASK);
    moe_int_tl_add(&x->t, moe_int_pass_name(x, "sum O", "sum dX"), MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                   l->sum, 0, last->home, MOE_INT_NO_TASK);
}

static void run(moe_int_devices *x) {
    const int64_t experts = moe_int_devices_experts(x, x->group);
    const moe_int_load tokens = moe_int_devices_tokens(x, 1, x->d * x->element);
    const moe_int_local all = moe_int_devices_all(x, 1);
    int64_t chunks = x->backward ? 1 : x->chunks < experts ? x->chunks : experts;
    chunk part[MOE_INT_CHUNKS_MOST];
    chunks = chunks < 1 ? 1 : chunks > MOE_INT_CHUNKS_MOST ? MOE_INT_CHUNKS_MOST : chunks;
    for (int64_t i = 0; i < chunks; i++) {
        const int64_t count = chunk_begin(experts, chunks, i + 1) - chunk_begin(experts, chunks, i);
        part[i].share = (double)count / (double)(experts > 0 ? experts : 1);
    }
    const int rows = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                          MOE_INT_CARRIER_PEER, &tokens, MOE_INT_NO_TASK);
    const int ready = moe_int_devices_gather(x, &tokens, rows);
    for (int64_t i = 0; i < chunks; i += 2)
        add_two(x, &all, chunks, i, part, ready);
    add_rest(x, &all, &part[chunks - 1]);
}

const moe_int_devices_method moe_int_devices_moeref_ep = {
    .brief = "this project's own: chunks of experts, rows by copy engines, a sum at home",
    .run = run,
    .chunks_most = 16};
