/* Is a backend's choice of experts the router's? Exact integers, outside the rounding margin.
 *
 * A choice is inside the margin if moving every logit by no more than the margin, towards the
 * backend's choice, makes the router choose just that. Asking the router itself covers every kind
 * of selection, also those where one token's choice moves another's (capacity, token rounding,
 * expert choice), without a second description of them here. */
#include "check/routing/routing.h"
#include "check/verdict/result.h"
#include "moeref/reference.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any logit, also one of another token that an expert compares it with. exp is only
 * taken of differences from the largest and of negative numbers (score.c). */
#define FORCED_LOGIT 1e300

static int64_t experts_of(const moe_plan *plan, int64_t t) {
    return plan->token_offsets[t + 1] - plan->token_offsets[t];
}

/* The k-th expert of token t, in ascending order. */
static int64_t expert_at(const moe_plan *plan, int64_t t, int64_t k) {
    return moe_int_plan_expert_of(plan, plan->pair_of_token[plan->token_offsets[t] + k]);
}

static bool same_choice(const moe_plan *a, const moe_plan *b, int64_t t) {
    int64_t n = experts_of(a, t);
    if (experts_of(b, t) != n)
        return false;
    for (int64_t k = 0; k < n; k++)
        if (expert_at(a, t, k) != expert_at(b, t, k))
            return false;
    return true;
}

static bool finite_row(const double *z, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(z[i]))
            return false;
    return true;
}

/* Moves z towards `got`: chosen logits up by their margin, all others down. Tokens without finite
 * logits have no right choice: theirs is forced to be got's. */
static void lean(const moe_plan *got, int64_t n, const double *z, const double *up,
                 const double *down, double *ret) {
    for (int64_t t = 0; t < got->n_tokens; t++) {
        int64_t first = t * n;
        bool finite = finite_row(z + first, n);
        for (int64_t i = first; i < first + n; i++)
            ret[i] = finite ? z[i] - down[i] : -FORCED_LOGIT;
        for (int64_t k = 0; k < experts_of(got, t); k++) {
            int64_t i = first + expert_at(got, t, k);
            ret[i] = finite ? z[i] + up[i] : FORCED_LOGIT;
        }
    }
}

static moe_status route_again(const moe_problem *problem, const double *z, moe_plan **ret) {
    const moe_tensor *b = &problem->in.t[MOE_T_B_SELECT];
    int64_t n = problem->layer.E + problem->layer.n_zero;
    double *b_select = NULL;
    if (problem->layer.router.select_bias) {
        b_select = malloc((size_t)n * sizeof *b_select);
        if (!b_select)
            return MOE_E_NOMEM;
        moe_convert(b_select, MOE_F64, b->data, b->dtype, (size_t)n);
    }
    moe_status status =
        moe_route(&problem->layer, problem->T, z, b_select, problem->seed, NULL, ret);
    free(b_select);
    return status;
}

/* The plan that the router makes of logits that lean towards `got`. */
static moe_status route_leaning(const moe_problem *problem, const moe_plan *got,
                                const double *logits, moe_dtype arithmetic, int threads,
                                moe_plan **ret) {
    int64_t n = got->n_experts;
    size_t count = (size_t)(problem->T * n);
    double *up = malloc(count * sizeof *up), *down = malloc(count * sizeof *down);
    double *z = malloc(count * sizeof *z);
    moe_status status = up && down && z
                            ? moe_int_routing_margin(problem, logits, arithmetic, threads, up, down)
                            : MOE_E_NOMEM;
    if (!status) {
        lean(got, n, logits, up, down, z);
        status = route_again(problem, z, ret);
    }
    free(up);
    free(down);
    free(z);
    return status;
}

/* "0 3 17 ..." */
static void list_experts(const moe_plan *plan, int64_t t, char *ret, size_t size) {
    size_t used = 0;
    ret[0] = '\0';
    for (int64_t k = 0; k < experts_of(plan, t) && used < size; k++) {
        const char *format = k == 0 ? "%lld" : k < 6 ? " %lld" : " ...";
        used += (size_t)snprintf(ret + used, size - used, format, (long long)expert_at(plan, t, k));
        if (k == 6)
            break;
    }
}

static void report_wrong(const moe_plan *got, const moe_plan *want, int64_t t, int64_t wrong,
                         moe_tensor_verdict *v) {
    char is[40], should[40];
    list_experts(got, t, is, sizeof is);
    list_experts(want, t, should, sizeof should);
    v->worst_ndim = 1;
    v->worst_index[0] = t;
    v->worst_group = t;
    moe_int_entry_fail(v, "%lld tokens chose wrong experts; token %lld: {%s} instead of {%s}",
                       (long long)wrong, (long long)t, is, should);
}

/* The plans that the router makes of logits that lean towards either side. */
typedef struct leanings {
    moe_plan *got, *want;
} leanings;

/* Counts tokens that differ from `want`, and those of them that the margin does not explain: it
 * must explain either choice, or a golden choice that is none of the router's would count for
 * nothing. */
static void judge_choice(const moe_plan *got, const moe_plan *want, const leanings *leaning,
                         const double *logits, moe_int_routing *ret, moe_tensor_verdict *v) {
    int64_t first = -1;
    for (int64_t t = 0; t < got->n_tokens; t++) {
        if (same_choice(got, want, t))
            continue;
        ret->foreign = true;
        if (!finite_row(logits + t * got->n_experts, got->n_experts)) {
            v->not_compared++;
        } else if (same_choice(got, leaning->got, t) && same_choice(want, leaning->want, t)) {
            ret->ambiguous++;
        } else if (ret->wrong++ == 0) {
            first = t;
        }
    }
    if (ret->wrong > 0)
        report_wrong(got, want, first, ret->wrong, v);
    else if (ret->ambiguous > 0) {
        v->verdict = MOE_VERDICT_AMBIGUOUS;
        snprintf(v->why, sizeof v->why, "%lld tokens chose within the rounding margin",
                 (long long)ret->ambiguous);
    }
}

static bool all_same(const moe_plan *a, const moe_plan *b) {
    for (int64_t t = 0; t < a->n_tokens; t++)
        if (!same_choice(a, b, t))
            return false;
    return true;
}

static moe_status judge_against(const moe_problem *problem, const moe_plan *got,
                                const moe_plan *want, moe_dtype arithmetic, int threads,
                                moe_check_result *result, moe_int_routing *ret) {
    moe_tensor_verdict *v = moe_int_result_entry(result, "topk_index");
    v->truth = problem->expected_plan ? "golden" : "oracle";
    if (all_same(got, want))
        return MOE_OK;
    leanings leaning = {0};
    moe_status status = route_leaning(problem, got, ret->logits, arithmetic, threads, &leaning.got);
    if (!status)
        status = route_leaning(problem, want, ret->logits, arithmetic, threads, &leaning.want);
    if (!status)
        judge_choice(got, want, &leaning, ret->logits, ret, v);
    moe_plan_destroy(&leaning.got);
    moe_plan_destroy(&leaning.want);
    return status;
}

static moe_status settle(const moe_problem *problem, const moe_plan *got, moe_dtype arithmetic,
                         int threads, const moe_log *log, moe_check_result *result,
                         moe_int_routing *ret) {
    moe_reference_params params = {
        .tokens = problem->T, .precision = MOE_F64, .threads = threads, .seed = problem->seed};
    moe_plan *routed = NULL;
    moe_status status =
        moe_reference_route(&problem->layer, &problem->in, &params, log, &ret->logits, &routed);
    if (status)
        return status;
    const moe_plan *want = problem->expected_plan ? problem->expected_plan : routed;
    if (got)
        status = judge_against(problem, got, want, arithmetic, threads, result, ret);
    if (!status)
        status = moe_plan_copy(ret->foreign ? got : want, &ret->plan);
    if (!status)
        status = moe_route_weigh(&problem->layer, ret->logits, ret->plan);
    moe_plan_destroy(&routed);
    return status;
}

moe_status moe_int_routing_settle(const moe_problem *problem, const moe_plan *got,
                                  moe_dtype arithmetic, int threads, const moe_log *log,
                                  moe_check_result *result, moe_int_routing *ret) {
    moe_int_routing r = {0};
    moe_status status = problem->plan ? moe_plan_copy(problem->plan, &r.plan)
                                      : settle(problem, got, arithmetic, threads, log, result, &r);
    if (status) {
        moe_int_routing_destroy(&r);
        return status == MOE_E_NOMEM
                   ? moe_fail(log, status, "no memory to judge the routing of %lld tokens",
                              (long long)problem->T)
                   : status;
    }
    *ret = r;
    return MOE_OK;
}

void moe_int_routing_destroy(moe_int_routing *r) {
    free(r->logits);
    moe_plan_destroy(&r->plan);
    memset(r, 0, sizeof *r);
}
