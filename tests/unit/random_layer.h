/* Random layers of every kind, as lines of the case grammar; the same for the same number. */
#ifndef MOE_TESTS_RANDOM_LAYER_H
#define MOE_TESTS_RANDOM_LAYER_H

#include "moeref/rng.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Layer number `index` and the random numbers it has used. */
typedef struct drawing {
    uint64_t index, used;
    char line[512];
} drawing;

static inline uint64_t below(drawing *d, uint64_t n) {
    return moe_rng_bits(2026, d->index, d->used++) % n;
}

static inline void put(drawing *d, const char *format, ...) {
    size_t used = strlen(d->line);
    va_list args;
    va_start(args, format);
    vsnprintf(d->line + used, sizeof d->line - used, format, args);
    va_end(args);
}

static inline void put_sizes(drawing *d, int64_t *ret_T, int64_t *ret_E, int64_t *ret_K) {
    static const int64_t T[] = {1, 2, 3, 5, 8, 16, 17, 64, 130}, D[] = {8, 9, 16, 24, 48, 96};
    static const int64_t N[] = {1, 4, 8, 16, 48}, E[] = {1, 2, 4, 5, 8, 16};
    *ret_T = T[below(d, 9)];
    *ret_E = E[below(d, 6)];
    *ret_K = 1 + (int64_t)below(d, *ret_E < 4 ? (uint64_t)*ret_E : 4);
    const int64_t units = N[below(d, 5)], width = D[below(d, 6)];
    put(d, "T=%lld d=%lld n=%lld E=%lld K=%lld seed=%llu", (long long)*ret_T, (long long)width,
        (long long)units, (long long)*ret_E, (long long)*ret_K, (unsigned long long)d->index);
}

static inline void put_experts(drawing *d) {
    static const char *const acts[] = {"swiglu",
                                       "swiglu glu=interleaved",
                                       "geglu",
                                       "geglu glu=interleaved",
                                       "reglu",
                                       "swiglu_clamp limit=1",
                                       "swiglu_clamp limit=7 glu=interleaved",
                                       "relu2",
                                       "relu",
                                       "gelu",
                                       "silu"};
    put(d, " act=%s", acts[below(d, 11)]);
    if (below(d, 3) == 0)
        put(d, " bias=1");
    if (below(d, 3) == 0) {
        const int gate = (int)below(d, 2), units = below(d, 2) ? 4 : 16;
        put(d, " shared=%d shared_gate=%d", units, gate);
    }
    if (below(d, 5) == 0)
        put(d, " on=input");
    if (below(d, 8) == 0)
        put(d, " data=outlier");
}

static inline void put_router(drawing *d, int64_t T, int64_t E, int64_t K) {
    static const char *const scores[] = {"softmax", "softmax_topk", "sigmoid", "sparsemixer"};
    static const char *const rounds[] = {"nr", "up", "down", "sr", "balance"};
    uint64_t score = below(d, 4), select = below(d, 6);
    put(d, " score=%s scale=%s", scores[score], below(d, 4) ? "1" : "2.5");
    if (below(d, 3) == 0)
        put(d, " router_bias=1");
    if (score != 3 && below(d, 2) == 0)
        put(d, " renorm=1");
    if (select == 0 && (score == 0 || score == 2))
        put(d, " select=expert_choice");
    else if (select == 1 && score != 3)
        put(d, " select=capacity capacity=%lld capacity_group=%lld",
            (long long)(1 + T * K / (2 * E)), (long long)(below(d, 2) ? 1 + T / 2 : 0));
    else if (select == 2 && score == 0) {
        const char *rounding = rounds[below(d, 5)];
        put(d, " select=token_rounding tile=%d rounding=%s", below(d, 2) ? 1 : 4, rounding);
    } else if ((score == 0 || score == 2) && below(d, 3) == 0)
        put(d, " select_bias=1");
}

static inline void draw_layer(uint64_t index, drawing *ret) {
    static const char *const routes[] = {"uniform", "balanced", "zipf:1.1", "hot:0"};
    int64_t T, E, K;
    *ret = (drawing){.index = index};
    put_sizes(ret, &T, &E, &K);
    put_experts(ret);
    if (below(ret, 2))
        put_router(ret, T, E, K);
    else
        put(ret, " route=%s", routes[below(ret, 4)]);
    if (E > 1 && below(ret, 8) == 0)
        put(ret, " zero=2");
}

/* A call draws once: C leaves the order of a call's arguments to the compiler. */
static inline const char *pick(drawing *d, const char *const *words, uint64_t count) {
    return words[below(d, count)];
}
#define PICK(d, ...)                                                                               \
    pick(d, (const char *const[]){__VA_ARGS__},                                                    \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* What the layers above do not have: many experts, rarer activations, scores and choices, eps,
 * masks, values of other sizes. Not every combination is a layer. */
static inline void draw_rare_layer(uint64_t index, drawing *ret) {
    drawing *d = ret;
    *d = (drawing){.index = index + 5000000};
    const char *K = PICK(d, "1", "2", "4", "8", "12"), *E = PICK(d, "4", "8", "12", "64", "160");
    const char *n = PICK(d, "1", "5", "16", "40"), *width = PICK(d, "8", "17", "40", "96");
    put(d, "T=%s d=%s n=%s E=%s K=%s seed=%llu", PICK(d, "1", "3", "17", "64", "150"), width, n, E,
        K, (unsigned long long)index);
    put(d, " act=%s",
        PICK(d, "swiglu_limit limit=1", "swiglu_limit_after limit=0.5", "geglu_tanh",
             "swiglu_softcap alpha=2 limit=1.5", "swiglu_clamp alpha=1 limit=0.5", "swiglu"));
    const char *scale =
        PICK(d, "", " renorm=1", " renorm=1 eps=0.125", " renorm=1 eps=1e-06 scale=2.5");
    put(d, " score=%s%s",
        PICK(d, "softmax", "sigmoid", "sigmoid_logit", "sqrt_softplus", "sigmoid_cap jitter=0.5",
             "softmax_topk"),
        scale);
    put(d, "%s",
        PICK(d, "", " select=group_topk groups=4 topk_groups=2",
             " select=group_max groups=4 topk_groups=2",
             " select=group_zero groups=4 topk_groups=1", " route=uniform drop=3",
             " route=zipf:1.5 masked=1"));
    const char *sizes =
        PICK(d, "", "", "", " data=outlier", " x_scale=8", " x_scale=0.1", " r_scale=4");
    const char *more = PICK(d, "", "", " bias=1 zero=3", " shared=12 shared_gate=1", " on=input");
    put(d, "%s%s%s", PICK(d, "", "", " select_bias=1 b_scale=20"), more, sizes);
}

#endif
