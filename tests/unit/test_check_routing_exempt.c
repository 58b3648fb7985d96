/* Tokens whose choice is no matter of scores: no numbers, saturated ones, golden files. */
#include "settled.h"

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
