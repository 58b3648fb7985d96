/* A backend's choice of experts: exact outside the rounding margin, ambiguous inside it. */
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
static moe_plan *route(const moe_problem *p) {
    moe_reference_params params = {.tokens = p->T, .precision = MOE_F64, .seed = p->seed};
    moe_plan *plan = NULL;
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, NULL, &plan), MOE_OK);
    return plan;
}

static bool chose(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
        if (plan->token[r] == t)
            return true;
    return false;
}

/* `plan` with token t's expert `from` replaced by `to`; to < 0: dropped; from < 0: added. */
static moe_plan *change(const moe_plan *plan, int64_t t, int64_t from, int64_t to) {
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

static outcome settle(const moe_problem *p, const moe_plan *got, moe_dtype arithmetic) {
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

Test(check_routing, the_routers_own_choice) {
    moe_problem *p = drawn("T=16 d=16 n=8 E=6 K=2 seed=1");
    moe_plan *plan = route(p);
    outcome o = settle(p, plan, MOE_F32);
    cr_expect_eq(o.verdict, MOE_VERDICT_PASS);
    cr_expect(!o.foreign);
    o = settle(p, NULL, MOE_F32); /* not told: assumed */
    cr_expect_eq(o.verdict, MOE_VERDICT_PASS);
    cr_expect(!o.foreign);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* Any change of any token's choice is wrong where scores are well apart, with every kind of router.
 */
Test(check_routing, wrong_choices_fail) {
    static const char *const lines[] = {
        "T=16 d=16 n=8 E=6 K=2 seed=1",
        "T=16 d=16 n=8 E=6 K=2 score=softmax_topk router_bias=1 seed=2",
        "T=16 d=16 n=8 E=6 K=2 score=sigmoid select_bias=1 seed=3",
        "T=16 d=16 n=8 E=6 K=2 score=sparsemixer seed=4",
        "T=16 d=16 n=8 E=8 K=2 score=sigmoid select=group_topk groups=4 topk_groups=2 seed=5",
        "T=16 d=16 n=8 E=4 K=2 select=expert_choice seed=6",
        "T=16 d=16 n=8 E=4 K=2 select=capacity capacity=5 seed=7",
        "T=16 d=16 n=8 E=4 K=2 select=token_rounding tile=4 renorm=1 seed=8",
        "T=16 d=16 n=8 E=4 K=2 zero=2 seed=9",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *p = drawn(lines[i]);
        moe_plan *plan = route(p);
        int tried = 0;
        for (int64_t t = 0; t < p->T; t++) {
            int64_t from = 0, to = 0;
            while (from < plan->n_experts && !chose(plan, t, from))
                from++;
            while (to < plan->n_experts && chose(plan, t, to))
                to++;
            if (from == plan->n_experts || to == plan->n_experts)
                continue;
            tried++;
            moe_plan *changed[] = {change(plan, t, from, to), change(plan, t, from, -1),
                                   change(plan, t, -1, to)};
            for (int k = 0; k < 3; k++) {
                outcome o = settle(p, changed[k], MOE_F32);
                char words[32];
                snprintf(words, sizeof words, "token %lld:", (long long)t);
                cr_expect_eq(o.verdict, MOE_VERDICT_FAIL, "%s: token %lld, change %d", lines[i],
                             (long long)t, k);
                cr_expect_eq(o.wrong, 1, "%s: %lld wrong", lines[i], (long long)o.wrong);
                cr_expect(strstr(o.why, words), "%s: %s", lines[i], o.why);
                cr_expect(o.foreign);
                moe_plan_destroy(&changed[k]);
            }
        }
        cr_expect_gt(tried, 0, "%s: nothing to change", lines[i]);
        moe_plan_destroy(&plan);
        moe_problem_destroy(&p);
    }
}

/* Logit `low` of token t becomes that of the chosen expert `high` times (1 - gap): W_r's row is a
 * copy. */
static void make_close(moe_problem *p, int64_t high, int64_t low, double gap) {
    float *w = p->in.t[MOE_T_W_R].data;
    cr_assert_eq(p->in.t[MOE_T_W_R].dtype, MOE_F32);
    for (int64_t i = 0; i < p->layer.d; i++)
        w[low * p->layer.d + i] = (float)(w[high * p->layer.d + i] * (1 - gap));
}

/* A gap of 3e-7 is what fp32 cannot tell; one of 1e-4 it can. fp64 tells both. */
Test(check_routing, margin) {
    static const char *const lines[] = {
        "T=12 d=16 n=8 E=6 K=2 dtype=fp32 seed=11",
        "T=12 d=16 n=8 E=6 K=2 dtype=fp32 score=sigmoid seed=12",
        "T=12 d=16 n=8 E=6 K=2 dtype=fp32 score=softmax_topk seed=13",
        ("T=12 d=16 n=8 E=6 K=2 dtype=fp32 score=sigmoid select=group_topk groups=1 topk_groups=1 "
         "seed=14"),
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        for (int close = 0; close < 2; close++) {
            moe_problem *p = drawn(lines[i]);
            make_close(p, 1, 4, close ? 3e-7 : 1e-4);
            moe_plan *plan = route(p);
            int tried = 0;
            for (int64_t t = 0; t < p->T; t++) {
                if (chose(plan, t, 1) == chose(plan, t, 4))
                    continue;
                int64_t from = chose(plan, t, 1) ? 1 : 4;
                moe_plan *got = change(plan, t, from, 5 - from);
                outcome o = settle(p, got, MOE_F32);
                cr_expect_eq(o.verdict, close ? MOE_VERDICT_AMBIGUOUS : MOE_VERDICT_FAIL,
                             "%s: token %lld: %s", lines[i], (long long)t, o.why);
                cr_expect_eq(o.ambiguous, close);
                cr_expect_eq(settle(p, got, MOE_F64).verdict, MOE_VERDICT_FAIL);
                moe_plan_destroy(&got);
                tried++;
            }
            cr_expect_gt(tried, 0, "%s has no token at the edge", lines[i]);
            moe_plan_destroy(&plan);
            moe_problem_destroy(&p);
        }
    }
}

/* The last token that expert 0 takes, and a copy of it that stays outside: who of the two is in
 * decides over the other, not over its own experts. */
Test(check_routing, ambiguity_across_tokens) {
    moe_problem *p = drawn("T=12 d=16 n=8 E=3 K=1 dtype=fp32 select=expert_choice seed=21");
    float *x = p->in.t[MOE_T_X].data;
    moe_reference_params params = {.tokens = 12, .precision = MOE_F64};
    double *z = NULL, scores[36];
    moe_plan *plan = NULL;
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, &z, &plan), MOE_OK);
    moe_route_selection_scores(&p->layer, 12, z, NULL, scores);
    int64_t in = plan->token[0], out = 0;
    for (int64_t r = 0; r < plan->offsets[1]; r++)
        in = scores[plan->token[r] * 3] < scores[in * 3] ? plan->token[r] : in;
    while (chose(plan, out, 0))
        out++;
    moe_plan_destroy(&plan);
    for (int64_t i = 0; i < 16; i++)
        x[out * 16 + i] = x[in * 16 + i] * (1 - 1e-7f);
    plan = route(p);
    cr_assert_neq(chose(plan, in, 0), chose(plan, out, 0));
    int64_t a = chose(plan, in, 0) ? in : out;
    moe_plan *less = change(plan, a, 0, -1), *got = change(less, in + out - a, -1, 0);
    outcome o = settle(p, got, MOE_F32);
    cr_expect_eq(o.verdict, MOE_VERDICT_AMBIGUOUS, "%s", o.why);
    cr_expect_eq(o.ambiguous, 2);
    free(z);
    moe_plan_destroy(&less);
    moe_plan_destroy(&got);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* All logits equal: the reference's tie goes to the lower index, but no rounding is needed to take
 * another. An expert fewer is no other way to break it. */
Test(check_routing, exact_ties) {
    static const char *const lines[] = {
        "T=6 d=16 n=8 E=5 K=2 dtype=fp32 r_scale=0 score=softmax_topk seed=31",
        "T=6 d=16 n=8 E=5 K=2 dtype=fp32 r_scale=0 score=sigmoid seed=32",
        ("T=6 d=16 n=8 E=6 K=2 dtype=fp32 r_scale=0 select=group_topk groups=3 topk_groups=2 "
         "seed=33"),
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *p = drawn(lines[i]);
        moe_plan *plan = route(p), *got = change(plan, 3, 1, 2), *less = change(plan, 3, 1, -1);
        cr_expect(chose(plan, 3, 0) && chose(plan, 3, 1));
        outcome o = settle(p, got, MOE_F32);
        cr_expect(o.verdict == MOE_VERDICT_AMBIGUOUS && o.ambiguous == 1, "%s: %s", lines[i],
                  o.why);
        cr_expect_eq(settle(p, got, MOE_F64).verdict, MOE_VERDICT_AMBIGUOUS);
        o = settle(p, less, MOE_F32);
        cr_expect(o.verdict == MOE_VERDICT_FAIL && strstr(o.why, "token 3: lacks 1"), "%s", o.why);
        moe_plan_destroy(&less);
        moe_plan_destroy(&got);
        moe_plan_destroy(&plan);
        moe_problem_destroy(&p);
    }
}

/* What differs is named, however many experts both choices share. */
Test(check_routing, only_what_differs_is_named) {
    moe_problem *p = drawn("T=4 d=16 n=8 E=24 K=16 seed=8");
    moe_plan *plan = route(p);
    int64_t from = 23, to = 23;
    while (!chose(plan, 2, from))
        from--;
    while (chose(plan, 2, to))
        to--;
    moe_plan *got = change(plan, 2, from, to);
    char words[96];
    snprintf(words, sizeof words, "token 2: has %lld; should have %lld", (long long)to,
             (long long)from);
    outcome o = settle(p, got, MOE_F32);
    cr_expect(strstr(o.why, words), "'%s' lacks '%s'", o.why, words);
    moe_plan_destroy(&got);
    got = change(plan, 2, -1, to);
    snprintf(words, sizeof words, "token 2: has %lld too many", (long long)to);
    o = settle(p, got, MOE_F32);
    cr_expect(strstr(o.why, words), "'%s' lacks '%s'", o.why, words);
    moe_plan_destroy(&got);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* A token whose logits are no numbers has no right choice; its neighbours keep theirs. */
Test(check_routing, nan_tokens_are_exempt) {
    moe_problem *p = drawn("T=8 d=16 n=8 E=6 K=2 inject=nan@3 seed=41");
    moe_plan *plan = route(p), *got = change(plan, 3, 0, 5);
    outcome o = settle(p, got, MOE_F32);
    cr_expect_eq(o.verdict, MOE_VERDICT_PASS, "%s", o.why);
    cr_expect_eq(o.exempt, 1);
    cr_expect(o.foreign);
    int64_t e = 0, to = 0;
    while (!chose(plan, 4, e))
        e++;
    while (chose(plan, 4, to))
        to++;
    moe_plan *both = change(got, 4, e, to);
    o = settle(p, both, MOE_F32);
    cr_expect(o.verdict == MOE_VERDICT_FAIL && o.wrong == 1);
    moe_plan_destroy(&both);
    moe_plan_destroy(&got);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* An expert that takes such a token, as one that ranks NaN first does, has less room for the
 * others: theirs is right, however large their logits are. */
Test(check_routing, nan_token_takes_a_place) {
    moe_problem *p = drawn("T=8 d=16 n=8 E=4 K=1 select=expert_choice score=softmax_topk "
                           "r_scale=1e4 inject=nan@3 seed=42");
    moe_reference_params params = {.tokens = 8, .precision = MOE_F64};
    double *z = NULL;
    moe_plan *plan = NULL;
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, &z, &plan), MOE_OK);
    int64_t last = plan->token[0];
    for (int64_t r = 0; r < plan->offsets[1]; r++)
        last = z[plan->token[r] * 4] < z[last * 4] ? plan->token[r] : last;
    cr_assert(!chose(plan, 3, 0) && z[last * 4] > 600);
    moe_plan *less = change(plan, last, 0, -1), *got = change(less, 3, -1, 0);
    outcome o = settle(p, got, MOE_F32);
    cr_expect_eq(o.verdict, MOE_VERDICT_AMBIGUOUS, "%s", o.why);
    cr_expect_eq(o.exempt, 1);
    cr_expect_eq(o.ambiguous, 1);
    free(z);
    moe_plan_destroy(&less);
    moe_plan_destroy(&got);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* A saturated sigmoid ties in fp32 where the logits do not. */
Test(check_routing, saturated_scores) {
    moe_problem *p = drawn("T=6 d=16 n=8 E=5 K=1 dtype=fp32 r_scale=200 score=sigmoid seed=51");
    double *z = NULL;
    moe_plan *plan = NULL;
    moe_reference_params params = {.tokens = 6, .precision = MOE_F64};
    cr_assert_eq(moe_reference_route(&p->layer, &p->in, &params, NULL, &z, &plan), MOE_OK);
    int tried = 0;
    for (int64_t t = 0; t < 6; t++) {
        int64_t best = 0, second = -1;
        for (int64_t e = 0; e < 5; e++)
            best = z[t * 5 + e] > z[t * 5 + best] ? e : best;
        for (int64_t e = 0; e < 5; e++)
            if (e != best && (second < 0 || z[t * 5 + e] > z[t * 5 + second]))
                second = e;
        bool saturated = z[t * 5 + second] > 25; /* 1 - sigmoid < 2^-36: equal in fp32 */
        moe_plan *got = change(plan, t, best, second);
        cr_expect_eq(settle(p, got, MOE_F32).verdict,
                     saturated ? MOE_VERDICT_AMBIGUOUS : MOE_VERDICT_FAIL, "token %lld: %g, %g",
                     (long long)t, z[t * 5 + best], z[t * 5 + second]);
        tried += saturated;
        moe_plan_destroy(&got);
    }
    cr_expect_gt(tried, 0);
    free(z);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* Golden routing outranks the oracle's: where it is not the router's choice, the router's is wrong.
 */
Test(check_routing, golden_routing) {
    moe_problem *p = drawn("T=16 d=16 n=8 E=6 K=2 seed=1");
    moe_plan *plan = route(p);
    int64_t from = 0, to = 0;
    while (!chose(plan, 5, from))
        from++;
    while (chose(plan, 5, to))
        to++;
    cr_expect_str_eq(settle(p, plan, MOE_F32).truth, "oracle");
    p->expected_plan = change(plan, 5, from, to);
    cr_expect_str_eq(settle(p, plan, MOE_F32).truth, "golden");
    cr_expect_eq(settle(p, p->expected_plan, MOE_F32).verdict, MOE_VERDICT_PASS);
    outcome o = settle(p, plan, MOE_F32);
    cr_expect_eq(o.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(o.why, "token 5:"), "%s", o.why);
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}
