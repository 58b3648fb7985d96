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
    put(d, "T=%lld d=%lld n=%lld E=%lld K=%lld seed=%llu", (long long)*ret_T,
        (long long)D[below(d, 6)], (long long)N[below(d, 5)], (long long)*ret_E, (long long)*ret_K,
        (unsigned long long)d->index);
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
    if (below(d, 3) == 0)
        put(d, " shared=%d shared_gate=%d", below(d, 2) ? 4 : 16, (int)below(d, 2));
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
    else if (select == 2 && score == 0)
        put(d, " select=token_rounding tile=%d rounding=%s", below(d, 2) ? 1 : 4,
            rounds[below(d, 5)]);
    else if ((score == 0 || score == 2) && below(d, 3) == 0)
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

#endif
