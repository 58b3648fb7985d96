/* Drawn logits, and the plan that a layer's router makes of them. */
#ifndef MOE_TESTS_PROPS_ROUTED_H
#define MOE_TESTS_PROPS_ROUTED_H

#include "moeref/plan.h"
#include "moeref/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static inline double *draw_logits(int64_t tokens, int64_t n, uint64_t seed) {
    double *z = malloc((size_t)(tokens * n) * sizeof *z);
    moe_rng_fill(z, MOE_F64, 0, (size_t)(tokens * n), MOE_FILL_NORMAL, 1.5, seed, 99);
    return z;
}

static inline moe_layer_desc layer(int64_t E, int64_t K, int32_t select) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = 8;
    desc.E = E;
    desc.K = K;
    desc.router.select = select;
    return desc;
}

static inline moe_plan *route(const moe_layer_desc *desc, int64_t tokens, const double *z,
                              const double *bias, uint64_t seed) {
    moe_plan *plan = NULL;
    cr_assert_eq(moe_layer_desc_check(desc, tokens, NULL), MOE_OK);
    cr_assert_eq(moe_route(desc, tokens, z, bias, seed, NULL, &plan), MOE_OK);
    cr_assert_eq(moe_plan_check(plan, NULL), MOE_OK);
    return plan;
}

static inline int has_pair(const moe_plan *plan, int64_t token, int64_t expert) {
    for (int64_t p = plan->offsets[expert]; p < plan->offsets[expert + 1]; p++)
        if (plan->token[p] == token)
            return 1;
    return 0;
}

static inline int64_t count_of(const moe_plan *plan, int64_t e) {
    return plan->offsets[e + 1] - plan->offsets[e];
}

#endif
