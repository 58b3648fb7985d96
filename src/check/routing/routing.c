/* Is a backend's choice of experts the router's? Exact integers, outside the rounding margin.
 *
 * A choice is inside the margin if moving every logit by no more than the margin, towards the
 * backend's choice, makes the router choose just that. Asking the router itself covers every kind
 * of selection, also those where one token's choice moves another's (capacity, token rounding,
 * expert choice), without a second description of them here. */
#include "check/routing/routing.h"
#include "check/routing/choice.h"
#include "check/verdict/result.h"
#include "layer/problem.h"
#include "moeref/reference.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Larger than any logit, also one of another token that an expert compares it with. exp is only
 * taken of differences from the largest and of negative numbers (score.c). */
#define FORCED_LOGIT 1e300

static bool finite_row(const double *z, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(z[i]))
            return false;
    return true;
}

double moe_int_tie_break(double z) {
    return 8 * DBL_EPSILON * fabs(z) + DBL_MIN;
}

/* Moves z towards `got`: chosen logits up by their margin, all others down, and a little more, so
 * that equal ones part too. Tokens without finite logits have no right choice: theirs is forced to
 * be got's. */
static void lean(const moe_plan *got, int64_t n, const double *z, const double *up,
                 const double *down, double *ret) {
    for (int64_t t = 0; t < got->n_tokens; t++) {
        int64_t first = t * n;
        bool finite = finite_row(z + first, n);
        for (int64_t i = first; i < first + n; i++)
            ret[i] = finite ? z[i] - down[i] - moe_int_tie_break(z[i]) : -FORCED_LOGIT;
        for (int64_t k = 0; k < moe_int_experts_of(got, t); k++) {
            int64_t i = first + moe_int_expert_at(got, t, k);
            ret[i] = finite ? z[i] + up[i] + moe_int_tie_break(z[i]) : FORCED_LOGIT;
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
    if (!status)
        status = moe_int_mask_plan(problem, ret);
    free(b_select);
    return status;
}

/* The plan that the router makes of logits that lean towards `got`. */
static moe_status route_leaning(const moe_problem *problem, const moe_plan *got,
                                const double *logits, const moe_int_reading *reading, int threads,
                                moe_plan **ret) {
    int64_t n = got->n_experts;
    size_t count = (size_t)(problem->T * n);
    double *up = malloc(count * sizeof *up), *down = malloc(count * sizeof *down);
    double *z = malloc(count * sizeof *z);
    moe_status status = up && down && z
                            ? moe_int_routing_margin(problem, logits, reading, threads, up, down)
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

/* Writes what is wrong, or not certain, with `count` tokens' choices, of which token t is one. */
static void describe(const moe_plan *got, const moe_plan *want, int64_t t, int64_t count,
                     moe_int_told told, char *ret, size_t size) {
    char words[64];
    if (told == MOE_INT_TOLD) {
        moe_int_print_differing(got, want, t, words, sizeof words);
        snprintf(ret, size, "%lld tokens chose wrong experts; token %lld: %s", (long long)count,
                 (long long)t, words);
        return;
    }
    moe_int_print_exchange(got, want, t, words, sizeof words);
    if (count == 1)
        snprintf(ret, size, "token %lld behaves as if it had chosen %s", (long long)t, words);
    else
        snprintf(
            ret, size,
            "%s%lld of %lld tokens behave as if they had chosen other experts, e.g. token %lld %s",
            told == MOE_INT_GUESSED_PARTLY ? ">= " : "", (long long)count, (long long)got->n_tokens,
            (long long)t, words);
}

static void report_wrong(const moe_plan *got, const moe_plan *want, int64_t t, moe_int_routing *r,
                         moe_tensor_verdict *v) {
    char words[160];
    describe(got, want, t, r->wrong, r->told, words, sizeof words);
    v->worst_ndim = 1;
    v->worst_index[0] = t;
    v->worst_group = t;
    v->got = (double)moe_int_first_without(got, want, t);
    v->want = (double)moe_int_first_without(want, got, t);
    moe_int_entry_fail(v, "%s", words);
}

static void report_ambiguous(const moe_plan *got, const moe_plan *want, int64_t t,
                             moe_int_routing *r, moe_tensor_verdict *v) {
    if (v->verdict == MOE_VERDICT_FAIL)
        return;
    v->verdict = MOE_VERDICT_AMBIGUOUS;
    if (r->told == MOE_INT_TOLD)
        snprintf(v->why, sizeof v->why, "%lld tokens chose within the rounding margin",
                 (long long)r->ambiguous);
    else
        describe(got, want, t, r->ambiguous, r->told, v->why, sizeof v->why);
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
    int64_t wrong = -1, ambiguous = -1;
    for (int64_t t = 0; t < got->n_tokens; t++) {
        if (moe_int_same_choice(got, want, t))
            continue;
        ret->foreign = true;
        if (!finite_row(logits + t * got->n_experts, got->n_experts)) {
            v->not_compared++;
        } else if (moe_int_same_choice(got, leaning->got, t) &&
                   moe_int_same_choice(want, leaning->want, t)) {
            if (ret->ambiguous++ == 0)
                ambiguous = t;
        } else if (ret->wrong++ == 0) {
            wrong = t;
        }
    }
    if (ret->wrong > 0)
        report_wrong(got, want, wrong, ret, v);
    else if (ret->ambiguous > 0)
        report_ambiguous(got, want, ambiguous, ret, v);
}

static bool all_same(const moe_plan *a, const moe_plan *b) {
    for (int64_t t = 0; t < a->n_tokens; t++)
        if (!moe_int_same_choice(a, b, t))
            return false;
    return true;
}

static moe_status judge_against(const moe_problem *problem, const moe_plan *got,
                                const moe_plan *want, const moe_int_reading *reading, int threads,
                                moe_check_result *result, moe_int_routing *ret) {
    moe_tensor_verdict *v = moe_int_result_entry(result, "topk_index");
    v->truth = problem->expected_plan ? "golden" : "oracle";
    if (all_same(got, want))
        return MOE_OK;
    leanings leaning = {0};
    moe_status status = route_leaning(problem, got, ret->logits, reading, threads, &leaning.got);
    if (!status)
        status = route_leaning(problem, want, ret->logits, reading, threads, &leaning.want);
    if (!status)
        judge_choice(got, want, &leaning, ret->logits, ret, v);
    moe_plan_destroy(&leaning.got);
    moe_plan_destroy(&leaning.want);
    return status;
}

static moe_status settle(const moe_problem *problem, const moe_plan *got,
                         const moe_int_reading *reading, int threads, const moe_log *log,
                         moe_check_result *result, moe_int_routing *ret) {
    moe_reference_params params = {
        .tokens = problem->T, .precision = MOE_F64, .threads = threads, .seed = problem->seed};
    moe_plan *routed = NULL;
    moe_status status =
        moe_reference_route(&problem->layer, &problem->in, &params, log, &ret->logits, &routed);
    if (!status)
        status = moe_int_mask_plan(problem, &routed);
    if (status) {
        moe_plan_destroy(&routed);
        return status;
    }
    const moe_plan *want = problem->expected_plan ? problem->expected_plan : routed;
    if (got)
        status = judge_against(problem, got, want, reading, threads, result, ret);
    if (!status)
        status = moe_plan_copy(ret->foreign ? got : want, &ret->plan);
    if (!status)
        status = moe_route_weigh(&problem->layer, ret->logits, ret->plan);
    moe_plan_destroy(&routed);
    return status;
}

/* A choice that is given is copied, or it is wrong. */
static moe_status settle_given(const moe_problem *problem, const moe_plan *got,
                               moe_check_result *result, moe_int_routing *ret) {
    int64_t first = -1;
    for (int64_t t = 0; got && t < got->n_tokens; t++)
        if (!moe_int_same_choice(got, problem->plan, t) && ret->wrong++ == 0)
            first = t;
    if (got)
        moe_int_result_entry(result, "topk_index")->truth = "given";
    if (ret->wrong > 0)
        report_wrong(got, problem->plan, first, ret, moe_int_result_entry(result, "topk_index"));
    return moe_plan_copy(problem->plan, &ret->plan);
}

moe_status moe_int_routing_settle(const moe_problem *problem, const moe_plan *got,
                                  moe_int_told told, const moe_int_reading *reading, int threads,
                                  const moe_log *log, moe_check_result *result,
                                  moe_int_routing *ret) {
    moe_int_routing r = {.told = told};
    moe_status status = problem->plan ? settle_given(problem, got, result, &r)
                                      : settle(problem, got, reading, threads, log, result, &r);
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
