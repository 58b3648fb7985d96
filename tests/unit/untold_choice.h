/* Layers that choose wrongly and do not say so. */
#ifndef MOE_TESTS_UNTOLD_CHOICE_H
#define MOE_TESTS_UNTOLD_CHOICE_H

#include "check/judge.h"
#include "check/routing/choice.h"
#include "check/verdict/result.h"
#include "drawn.h"
#include "entry.h"
#include "moeref/reference.h"
#include "random_layer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline moe_plan *route(const moe_problem *p, double **ret_z) {
    moe_reference_params params = {.tokens = p->T, .precision = MOE_F64, .seed = p->seed};
    moe_plan *plan = NULL;
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, ret_z, &plan), MOE_OK);
    return plan;
}

static inline bool chose(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++)
        if (moe_int_expert_at(plan, t, k) == e)
            return true;
    return false;
}

/* What a kernel does to tokens `first` .. `last`. */
typedef struct fault {
    int64_t first, last;
    int64_t from, to; /* from < 0: the last one in force, or added; to < 0: the first one outside */
} fault;

/* *plan with the faults' choices instead. */
static inline moe_plan *change(const moe_plan *plan, const fault *f, int64_t count) {
    int32_t token[4096], expert[4096];
    moe_plan *out = NULL;
    int64_t n = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        int64_t from = -1, to = -1;
        for (int64_t i = 0; i < count; i++)
            if (t >= f[i].first && t <= f[i].last) {
                from = f[i].from >= 0 ? f[i].from
                                      : moe_int_expert_at(plan, t, moe_int_experts_of(plan, t) - 1);
                to = f[i].to;
                for (int64_t e = 0; to < 0; e++)
                    to = chose(plan, t, e) ? -1 : e;
            }
        for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++) {
            int64_t e = moe_int_expert_at(plan, t, k);
            token[n] = (int32_t)t;
            expert[n++] = (int32_t)(e == from ? to : e);
        }
    }
    cr_assert_eq(
        moe_plan_create(plan->n_tokens, plan->n_experts, n, token, expert, NULL, NULL, &out),
        MOE_OK);
    return out;
}

/* What a kernel of that arithmetic makes with that choice. */
static inline moe_reference_result *run(const moe_problem *p, moe_dtype arithmetic,
                                        const moe_plan *plan) {
    moe_reference_params params = {.tokens = p->T,
                                   .precision = (int32_t)arithmetic,
                                   .threads = 1,
                                   .plan = plan,
                                   .seed = p->seed};
    moe_reference_result *out = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &p->in, &params, NULL, &out), MOE_OK);
    return out;
}

/* Judges O and the gradients of the weights; the rest is kept back. */
static inline moe_check_result *judge(const moe_problem *p, moe_dtype arithmetic,
                                      const moe_reference_result *made, int64_t sample_above) {
    static const moe_tensor_id shown[] = {MOE_T_O,   MOE_T_DX, MOE_T_DW1,
                                          MOE_T_DW2, MOE_T_DS, MOE_T_DW_R};
    moe_check_params params = {
        .threads = 1, .sample_above_flops = sample_above, .no_explanation = true};
    moe_int_subject subject = {.problem = p, .arithmetic = arithmetic};
    moe_check_result *r = NULL;
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        subject.got.t[shown[i]] = made->out.t[shown[i]];
    cr_assert_eq(moe_int_result_create(p, "test", "--outputs test", NULL, &r), MOE_OK);
    cr_assert_eq(moe_int_judge(&subject, &params, NULL, r), MOE_OK);
    return r;
}

static inline void expect_rest_passes(const moe_check_result *r, const char *line) {
    for (size_t i = 0; i < r->n_tensors; i++)
        cr_expect(r->tensor[i].verdict == MOE_VERDICT_PASS ||
                      strcmp(r->tensor[i].name, "topk_index") == 0,
                  "%s: %s: %s", line, r->tensor[i].name, r->tensor[i].why);
}

#endif
