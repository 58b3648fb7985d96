/* Choices and scores that tests of routers' losses start from. */
#ifndef MOE_TESTS_PROPS_LOSSES_H
#define MOE_TESTS_PROPS_LOSSES_H

#include "moeref/loss.h"
#include "moeref/rng.h"

#include <criterion/criterion.h>

static inline moe_layer_desc layer_of(int64_t experts, int64_t chosen) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = d.n = 8;
    d.E = experts;
    d.K = chosen;
    return d;
}

static inline moe_plan *choose(int64_t tokens, int64_t experts, int64_t chosen,
                               const double *scores) {
    const moe_layer_desc d = layer_of(experts, chosen);
    moe_plan *plan = NULL;
    cr_assert_eq(moe_route(&d, tokens, scores, NULL, 0, NULL, &plan), MOE_OK);
    return plan;
}

static inline void draw(double *z, size_t n, uint64_t seed) {
    moe_rng_fill(z, MOE_F64, 0, n, MOE_FILL_NORMAL, 1.5, seed, 71);
}

#endif
