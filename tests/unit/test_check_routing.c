/* A backend's choice of experts: exact outside the rounding margin, ambiguous inside it. */
#include "settled.h"

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
