#include "sim/methods/cache.h"

#define MRS_ALPHA 0.5 /* HybriMoE's */
#define MRS_TOP   2   /* times K scores count */

typedef struct cache {
    moe_int_cache policy;
    const int32_t *use;
    const double *scores;
    int64_t steps, K, E, slots;
    bool in[MOE_INT_CACHE_EXPERTS];
    double worth[MOE_INT_CACHE_EXPERTS]; /* the least goes */
    int64_t held;
} cache;

/* Whether fewer than `top` scores of the step are higher. */
static bool is_high(const cache *c, const double *scores, int64_t e, int64_t top) {
    int64_t higher = 0;
    for (int64_t i = 0; i < c->E; i++)
        higher += scores[i] > scores[e];
    return higher < top;
}

static void update_scores(cache *c, int64_t step) {
    const double *s = c->scores + step * c->E;
    for (int64_t e = 0; e < c->E; e++)
        c->worth[e] = MRS_ALPHA * (is_high(c, s, e, MRS_TOP * c->K) ? s[e] : 0) +
                      (1 - MRS_ALPHA) * c->worth[e];
}

/* Steps until the expert is used again, negated. */
static double next_use(const cache *c, int64_t step, int64_t e) {
    for (int64_t i = (step + 1) * c->K; i < c->steps * c->K; i++) {
        const int64_t at = i / c->K;
        if (c->use[i] == e)
            return (double)(step - at);
    }
    return -(double)(c->steps + 1);
}

static bool is_used(const cache *c, int64_t step, int64_t e) {
    for (int64_t k = 0; k < c->K; k++) {
        if (c->use[step * c->K + k] == e)
            return true;
    }
    return false;
}

static double worth_of(const cache *c, int64_t step, int64_t e) {
    return c->policy == MOE_INT_CACHE_BELADY ? next_use(c, step, e) : c->worth[e];
}

/* The one that goes; the step's own stay. */
static void evict(cache *c, int64_t step) {
    int64_t least = -1;
    for (int64_t e = 0; e < c->E; e++) {
        if (c->in[e] && !is_used(c, step, e) &&
            (least < 0 || worth_of(c, step, e) < worth_of(c, step, least)))
            least = e;
    }
    if (least >= 0) {
        c->in[least] = false;
        c->held--;
    }
}

static int64_t use_step(cache *c, int64_t step) {
    int64_t misses = 0;
    if (c->policy == MOE_INT_CACHE_MRS)
        update_scores(c, step);
    for (int64_t k = 0; k < c->K; k++) {
        const int32_t e = c->use[step * c->K + k];
        if (c->policy == MOE_INT_CACHE_LRU)
            c->worth[e] = (double)(step * c->K + k + 1);
        if (c->in[e])
            continue;
        misses++;
        if (c->held == c->slots)
            evict(c, step);
        c->in[e] = true;
        c->held++;
    }
    return misses;
}

int64_t moe_int_cache_misses(moe_int_cache policy, const int32_t *use, const double *scores,
                             int64_t steps, int64_t K, int64_t E, int64_t slots) {
    cache c = {policy, use, scores, steps, K, E, slots, {0}, {0}, 0};
    int64_t misses = 0;
    if (E > MOE_INT_CACHE_EXPERTS || slots < K)
        return -1;
    for (int64_t step = 0; step < steps; step++)
        misses += use_step(&c, step);
    return misses;
}
