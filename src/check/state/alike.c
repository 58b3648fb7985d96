#include "check/state/alike.h"
#include "check/explain/explain.h"
#include "check/routing/choice.h"
#include "check/verdict/result.h"
#include "moeref/layer.h"
#include "route/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FLOPS 1e10

/* Every row is `src`'s row t. */
static moe_status repeat_row(const moe_tensor *src, int64_t t, moe_tensor *ret) {
    moe_status status = moe_tensor_alloc(src->dtype, src->ndim, src->shape, ret);
    const size_t bytes = status ? 0 : (size_t)(moe_tensor_bytes(src) / src->shape[0]);
    for (int64_t i = 0; !status && i < src->shape[0]; i++)
        memcpy((char *)ret->data + (size_t)i * bytes, (const char *)src->data + (size_t)t * bytes,
               bytes);
    return status;
}

/* The plan in which every token has the pairs of token t. */
static moe_status repeat_pairs(const moe_plan *plan, int64_t t, moe_plan **ret) {
    int64_t *order = malloc((size_t)plan->n_tokens * sizeof *order);
    for (int64_t i = 0; order && i < plan->n_tokens; i++)
        order[i] = t;
    moe_status status = order ? moe_plan_subset(plan, order, plan->n_tokens, ret) : MOE_E_NOMEM;
    free(order);
    return status;
}

static void destroy(moe_problem *alike) {
    moe_tensor_destroy(&alike->in.t[MOE_T_X]);
    moe_tensor_destroy(&alike->in.t[MOE_T_DO]);
    moe_plan_destroy(&alike->plan);
}

static moe_status make(const moe_problem *problem, const moe_plan *plan, moe_problem *ret) {
    int64_t t = 0;
    while (t + 1 < problem->T && moe_int_experts_of(plan, t) == 0)
        t++;
    *ret = *problem;
    ret->plan = NULL;
    ret->expected_plan = NULL;
    ret->in.t[MOE_T_X] = ret->in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = repeat_row(&problem->in.t[MOE_T_X], t, &ret->in.t[MOE_T_X]);
    if (!status)
        status = repeat_row(&problem->in.t[MOE_T_DO], t, &ret->in.t[MOE_T_DO]);
    if (!status && problem->plan)
        status = repeat_pairs(plan, t, &ret->plan);
    return status;
}

/* The first element of a gradient that is not 0 and of an expert that has no token now; -1: none.
 */
static int64_t first_left(const moe_tensor *t, const moe_plan *now, int64_t E,
                          int64_t *ret_expert) {
    const int64_t width = moe_tensor_count(t) / E;
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; now->offsets[e + 1] == now->offsets[e] && i < width; i++)
            if (moe_load(t->data, t->dtype, (size_t)(e * width + i)) != 0) {
                *ret_expert = e;
                return e * width + i;
            }
    return -1;
}

static void judge(const moe_problem *problem, const moe_int_run *run, const moe_int_run *other,
                  const moe_plan *now, moe_check_result *r) {
    static const moe_tensor_id of_experts[] = {MOE_T_DW1, MOE_T_DB1, MOE_T_DW2, MOE_T_DB2};
    for (size_t i = 0; i < sizeof of_experts / sizeof *of_experts; i++) {
        const moe_tensor *t = &other->first[of_experts[i]].tensor;
        const moe_tensor *before = &run->first[of_experts[i]].tensor;
        int64_t e, at = t->data ? first_left(t, now, problem->layer.E, &e) : -1;
        if (at < 0)
            continue;
        const char *name = moe_tensor_name(of_experts[i]);
        const double got = moe_load(t->data, t->dtype, (size_t)at);
        moe_tensor_verdict *v = moe_int_result_entry(r, name);
        moe_int_entry_fail(v,
                           "an input of equal tokens: expert %lld has none, and its part, which "
                           "must be exactly 0, has %g",
                           (long long)e, got);
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", name, v->why);
        if (!r->first_wrong_stage[0])
            snprintf(r->first_wrong_stage, sizeof r->first_wrong_stage, "%s", name);
        moe_int_explain_left(
            of_experts[i], e,
            before->data && moe_load(before->data, before->dtype, (size_t)at) == got, r);
    }
}

static bool is_small(const moe_problem *problem, const moe_plan *plan) {
    const int64_t pairs = plan->offsets[problem->layer.E];
    return moe_layer_flops(&problem->layer, problem->T, pairs, 0) +
               moe_layer_flops(&problem->layer, problem->T, pairs, 1) <=
           MOST_FLOPS;
}

void moe_int_alike_try(const moe_backend *backend, const moe_problem *problem, const moe_log *log,
                       moe_check_result *result, const moe_int_run *run) {
    const moe_plan *plan = problem->plan ? problem->plan : run->plan;
    moe_int_run other = {.layer = NULL};
    moe_problem alike;
    if (!plan || !(problem->pass & MOE_PASS_BWD) || !is_small(problem, plan))
        return;
    if (make(problem, plan, &alike)) {
        moe_fail(log, MOE_E_NOMEM, "no memory for an input of equal tokens");
        moe_int_result_set(result, MOE_VERDICT_ERROR, "no memory for an input of equal tokens");
    } else if (moe_int_run_on(backend, run->layer, &run->support, &alike, result, &other)) {
        const moe_plan *now = alike.plan ? alike.plan : other.plan;
        if (now)
            judge(problem, run, &other, now, result);
    }
    moe_int_run_clear(&other);
    destroy(&alike);
}
