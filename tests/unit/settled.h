/* A choice of experts, changed and settled. */
#ifndef MOE_TESTS_SETTLED_H
#define MOE_TESTS_SETTLED_H

#include "check/routing/routing.h"
#include "check/verdict/result.h"
#include "drawn.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The router's own plan. */
static inline moe_plan *route(const moe_problem *p) {
    moe_reference_params params = {.tokens = p->T, .precision = MOE_F64, .seed = p->seed};
    moe_plan *plan = NULL;
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, NULL, &plan), MOE_OK);
    return plan;
}

static inline bool chose(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
        if (plan->token[r] == t)
            return true;
    return false;
}

/* `plan` with token t's expert `from` replaced by `to`; to < 0: dropped; from < 0: added. */
static inline moe_plan *change(const moe_plan *plan, int64_t t, int64_t from, int64_t to) {
    int32_t token[512], expert[512];
    int64_t n = 0;
    moe_plan *out = NULL;
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++) {
            if (plan->token[r] == t && e == from)
                continue;
            token[n] = plan->token[r];
            expert[n++] = (int32_t)e;
        }
    if (to >= 0) {
        token[n] = (int32_t)t;
        expert[n++] = (int32_t)to;
    }
    cr_assert_eq(
        moe_plan_create(plan->n_tokens, plan->n_experts, n, token, expert, NULL, NULL, &out),
        MOE_OK);
    return out;
}

typedef struct outcome {
    moe_verdict verdict;
    int64_t ambiguous, wrong, exempt;
    bool foreign;
    char why[160], truth[16];
} outcome;

static inline outcome settle(const moe_problem *p, const moe_plan *got, moe_dtype arithmetic) {
    moe_check_result *result = NULL;
    moe_int_routing routing;
    outcome o = {0};
    cr_assert_eq(moe_int_result_create(p, "test", "--backend test", NULL, &result), MOE_OK);
    cr_assert_eq(moe_int_routing_settle(p, got, MOE_INT_TOLD, &(moe_int_reading){arithmetic, 0}, 1,
                                        NULL, result, &routing),
                 MOE_OK);
    const moe_tensor_verdict *v = moe_int_result_find(result, "topk_index");
    o.ambiguous = routing.ambiguous;
    o.wrong = routing.wrong;
    o.foreign = routing.foreign;
    if (v) {
        o.verdict = v->verdict;
        o.exempt = v->not_compared;
        strcpy(o.why, v->why);
        snprintf(o.truth, sizeof o.truth, "%s", v->truth);
    }
    if (got && o.foreign)
        cr_expect(routing.plan->n_pairs == got->n_pairs &&
                  memcmp(routing.plan->token, got->token,
                         (size_t)got->n_pairs * sizeof *got->token) == 0);
    moe_int_routing_destroy(&routing);
    moe_check_result_destroy(&result);
    return o;
}

#endif
