#include "backends/cuda/buffers.h"

enum {
    FEWEST_OF_CHUNK = 256, /* tokens that a block sorts, if there is more than one */
    FEWEST_OF_SLICE = 256  /* tokens that are summed apart */
};

const char *moe_int_cuda_buffer_name(BufferId id) {
    static const char *const names[] = {
#define BUFFER_NAME(id, name) name,
        BUFFERS(BUFFER_NAME)
#undef BUFFER_NAME
    };
    return names[id];
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t outputs_of(const moe_layer_desc *desc) {
    return desc->E + desc->n_zero;
}

/* T K, but for selections that give experts a number of tokens; routing.cu stops at a new one. */
int64_t moe_int_cuda_most_rows(const LayerShape *s) {
    const moe_router_desc *r = &s->desc->router;
    const int64_t T = s->tokens, K = s->desc->K, n = outputs_of(s->desc);
    if (s->plan_given)
        return T * s->columns;
    if (r->select == MOE_SELECT_EXPERT_CHOICE)
        return n * least(T, (T * K + n - 1) / n);
    if (r->select == MOE_SELECT_TOKEN_ROUNDING)
        return least(T * n, T * K + n * r->tile);
    return T * K;
}

int64_t moe_int_cuda_most_tiles(int64_t rows, int64_t E) {
    return rows / BUFFER_TILE_ROWS + E;
}

int moe_int_cuda_chunk(int64_t tokens, int sms) {
    const int64_t even = (tokens + sms - 1) / sms;
    return (int)most(FEWEST_OF_CHUNK,
                     (even + BUFFER_CHUNK_STEP - 1) / BUFFER_CHUNK_STEP * BUFFER_CHUNK_STEP);
}

int moe_int_cuda_slices(int64_t tokens, int64_t d, int64_t height, int sms) {
    const int64_t tiles = ((height + 127) / 128) * ((d + 127) / 128);
    return (int)most(1, least((int64_t)2 * sms / tiles, tokens / FEWEST_OF_SLICE));
}

int moe_int_cuda_dz_ld(const moe_layer_desc *desc) {
    return 2 * (int)((outputs_of(desc) + 7) / 8 * 8);
}

/* ---- the list ---- */

static void put(LayerBuffers *b, BufferId id, BufferKind kind, int64_t bytes) {
    b->bytes[id] = bytes;
    b->kind[id] = kind;
}

static void list_tokens(const LayerShape *s, LayerBuffers *b) {
    const int64_t bytes = s->tokens * s->desc->d * 2;
    put(b, BUFFER_OFFSETS, BUFFER_CACHED, (outputs_of(s->desc) + 1) * 4);
    put(b, BUFFER_TILE_OFFSETS, BUFFER_CACHED, (s->desc->E + 1) * 4);
    put(b, BUFFER_TOKEN_OFFSETS, BUFFER_CACHED, (s->tokens + 1) * 4);
    if (s->of_caller)
        return;
    put(b, BUFFER_O, BUFFER_WORK, bytes);
    if (s->backward)
        put(b, BUFFER_DX, BUFFER_WORK, bytes);
    if (s->away)
        return;
    put(b, BUFFER_X, BUFFER_CACHED, bytes);
    if (s->backward)
        put(b, BUFFER_DOUT, BUFFER_WORK, bytes);
}

/* Parameters of `E` experts of width n and their gradients. */
static void list_parameters(const LayerShape *s, bool shared, int64_t E, int64_t n,
                            LayerBuffers *b) {
    const int64_t d = s->desc->d, hw = moe_h_width(s->desc, n);
    const bool bias = s->desc->expert_bias && !shared;
    if (!s->of_caller) {
        put(b, buffer_of_experts(BUFFER_W1, shared), BUFFER_WEIGHTS, E * hw * d * 2);
        put(b, buffer_of_experts(BUFFER_W2, shared), BUFFER_WEIGHTS, E * d * n * 2);
        if (bias) {
            put(b, BUFFER_B1, BUFFER_WEIGHTS, E * hw * 2);
            put(b, BUFFER_B2, BUFFER_WEIGHTS, E * d * 2);
        }
    }
    if (s->backward && !s->of_caller) {
        put(b, buffer_of_experts(BUFFER_DW1, shared), BUFFER_GRADIENTS, E * hw * d * 2);
        put(b, buffer_of_experts(BUFFER_DW2, shared), BUFFER_GRADIENTS, E * d * n * 2);
    }
    if (s->backward && bias) {
        put(b, BUFFER_DB1, BUFFER_GRADIENTS, E * hw * 4);
        put(b, BUFFER_DB2, BUFFER_GRADIENTS, E * d * 4);
    }
}

/* What is between the products of R rows. */
static void list_stages(const LayerShape *s, bool shared, int64_t R, int64_t n, LayerBuffers *b) {
    const int64_t d = s->desc->d, hw = moe_h_width(s->desc, n);
    const bool fused = s->hopper && d % 64 == 0 && n % 64 == 0 && hw != n; /* with activations */
    const bool on_input = !shared && s->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    if (s->keeps || !fused) /* else A alone is stored */
        put(b, buffer_of_experts(BUFFER_H, shared), BUFFER_CACHED, R * hw * 2);
    put(b, buffer_of_experts(BUFFER_A, shared), BUFFER_WORK, R * n * 2);
    put(b, buffer_of_experts(BUFFER_Y, shared), BUFFER_WORK, R * d * 2);
    if (!s->backward)
        return;
    put(b, buffer_of_experts(BUFFER_DH, shared), BUFFER_WORK, R * hw * 2);
    put(b, buffer_of_experts(BUFFER_DS_PART, shared), BUFFER_WORK,
        R * ((n + BUFFER_DS_COLUMNS - 1) / BUFFER_DS_COLUMNS) * 4);
    if (!fused)
        put(b, buffer_of_experts(BUFFER_DA, shared), BUFFER_WORK, R * n * 4);
    if (on_input)
        put(b, BUFFER_DH_SCALED, BUFFER_WORK, R * hw * 2);
}

static void list_routed(const LayerShape *s, LayerBuffers *b) {
    const int64_t E = s->desc->E, R = most(s->rows, 1);
    put(b, BUFFER_TILES, BUFFER_CACHED, moe_int_cuda_most_tiles(R, E) * BUFFER_TILE_BYTES);
    put(b, BUFFER_TOKEN, BUFFER_CACHED, R * 4);
    put(b, BUFFER_WEIGHT, BUFFER_CACHED, R * 4);
    put(b, BUFFER_PAIR_OF_TOKEN, BUFFER_CACHED, R * 4);
    if (s->backward)
        put(b, BUFFER_DS, BUFFER_WORK, R * 4);
    if (s->away)
        return;
    list_parameters(s, false, E, s->desc->n, b);
    list_stages(s, false, R, s->desc->n, b);
}

static void list_shared(const LayerShape *s, LayerBuffers *b) {
    const int64_t T = s->tokens, d = s->desc->d;
    if (!s->desc->n_shared)
        return;
    list_parameters(s, true, 1, s->desc->n_shared, b);
    list_stages(s, true, T, s->desc->n_shared, b);
    if (!s->desc->shared_gate)
        return;
    if (!s->of_caller)
        put(b, BUFFER_W_GATE, BUFFER_WEIGHTS, d * 2);
    put(b, BUFFER_GATE, BUFFER_CACHED, T * 4);
    if (!s->backward)
        return;
    put(b, BUFFER_DS_SHARED, BUFFER_WORK, T * 4);
    put(b, BUFFER_GATE_DZ, BUFFER_WORK, T * 4);
    put(b, BUFFER_DW_GATE, BUFFER_GRADIENTS, d * 4);
}

/* All tokens in order as the rows of one expert, and slices of them. */
static void list_all_tokens(const LayerShape *s, LayerBuffers *b) {
    const int64_t T = s->tokens, d = s->desc->d;
    const int64_t height = s->plan_given ? 1 : moe_int_cuda_dz_ld(s->desc);
    if (!s->plan_given || s->desc->n_shared) {
        put(b, BUFFER_ALL_OFFSETS, BUFFER_WORK, 8);
        put(b, BUFFER_ALL_TILE_OFFSETS, BUFFER_WORK, 8);
        put(b, BUFFER_ALL_TILES, BUFFER_WORK, moe_int_cuda_most_tiles(T, 1) * BUFFER_TILE_BYTES);
        put(b, BUFFER_ALL_TOKENS, BUFFER_WORK, T * 4);
    }
    if (s->backward && (!s->plan_given || s->desc->shared_gate)) {
        const int64_t slices = moe_int_cuda_slices(T, d, height, s->sms);
        put(b, BUFFER_SLICE_OFFSETS, BUFFER_WORK, (slices + 1) * 4);
        put(b, BUFFER_SLICE_SUMS, BUFFER_WORK, slices * height * d * 4);
    }
}

/* How often each expert is chosen in each chunk of the tokens. */
static int64_t counts_bytes(const LayerShape *s) {
    const int64_t chunk = moe_int_cuda_chunk(s->tokens, s->sms);
    return (s->tokens + chunk - 1) / chunk * outputs_of(s->desc) * 4;
}

static void list_router(const LayerShape *s, LayerBuffers *b) {
    const int64_t T = s->tokens, d = s->desc->d, outputs = outputs_of(s->desc);
    const moe_router_desc *r = &s->desc->router;
    const BufferKind parameter = s->of_caller ? BUFFER_WORK : BUFFER_WEIGHTS;
    if (!s->of_caller)
        put(b, BUFFER_W_R, BUFFER_WEIGHTS, outputs * d * 2);
    if (!s->of_caller && r->bias)
        put(b, BUFFER_B_R, BUFFER_WEIGHTS, outputs * 2);
    if (r->select_bias) /* in fp32, a caller's too */
        put(b, BUFFER_B_SELECT, parameter, outputs * 4);
    put(b, BUFFER_LOGITS, BUFFER_CACHED, T * outputs * 4);
    put(b, BUFFER_CHOICE, BUFFER_CACHED, T * s->desc->K * 4);
    put(b, BUFFER_CHOICE_WEIGHT, BUFFER_WORK, T * s->desc->K * 4);
    put(b, BUFFER_COUNTS, BUFFER_WORK, counts_bytes(s));
    if (!s->backward)
        return;
    put(b, BUFFER_DZ, BUFFER_WORK, T * moe_int_cuda_dz_ld(s->desc) * 2);
    put(b, BUFFER_DZ_ROWS, BUFFER_WORK, (int64_t)moe_int_cuda_dz_ld(s->desc) * 4);
    put(b, BUFFER_DX_ROUTER, BUFFER_WORK, T * d * 4);
    put(b, BUFFER_DW_R, BUFFER_GRADIENTS, outputs * d * 4);
    if (r->bias)
        put(b, BUFFER_DB_R, BUFFER_GRADIENTS, outputs * 4);
}

/* The caller's choices as the sort takes them. */
static void list_slots(const LayerShape *s, LayerBuffers *b) {
    const int64_t slots = s->tokens * s->columns;
    put(b, BUFFER_CHOICE, BUFFER_WORK, slots * 4);
    put(b, BUFFER_CHOICE_WEIGHT, BUFFER_WORK, slots * 4);
    put(b, BUFFER_COUNTS, BUFFER_WORK, counts_bytes(s));
}

void moe_int_cuda_buffers(const LayerShape *s, LayerBuffers *ret) {
    for (int i = 0; i < BUFFER_COUNT; i++)
        put(ret, (BufferId)i, BUFFER_WORK, -1);
    list_tokens(s, ret);
    list_routed(s, ret);
    list_shared(s, ret);
    list_all_tokens(s, ret);
    if (!s->plan_given)
        list_router(s, ret);
    else if (s->of_caller && !s->backward)
        list_slots(s, ret);
}
