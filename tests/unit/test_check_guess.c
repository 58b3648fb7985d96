/* A subject that does not say which experts it chose: its O does. */
#include "untold_choice.h"

/* One token's expert is another one, which no rounding explains: it is named, with every router,
 * and everything else is right for that choice. */
Test(check_guess, a_wrong_expert_is_named) {
    static const struct {
        const char *line;
        moe_dtype arithmetic;
    } cases[] = {
        {"T=40 d=32 n=16 E=8 K=2 dtype=fp32 renorm=1 seed=1", MOE_F32},
        {"T=40 d=32 n=16 E=8 K=2 dtype=bf16 renorm=1 seed=2", MOE_BF16},
        {"T=40 d=32 n=16 E=8 K=2 dtype=fp16 score=softmax_topk router_bias=1 seed=3", MOE_F16},
        {"T=40 d=32 n=16 E=8 K=2 dtype=fp32 score=sigmoid select_bias=1 bias=1 seed=4", MOE_F32},
        {"T=40 d=32 n=16 E=8 K=2 dtype=fp32 score=sparsemixer jitter=0.1 seed=5", MOE_F32},
        {"T=40 d=32 n=16 E=8 K=3 dtype=fp32 score=sigmoid select=group_topk groups=4 "
         "topk_groups=2 seed=6",
         MOE_F32},
        {"T=40 d=32 n=16 E=8 K=1 dtype=fp32 score=sigmoid on=input shared=16 seed=7", MOE_F32},
        {"T=40 d=32 n=16 E=8 K=3 dtype=fp32 on=input renorm=1 bias=1 seed=8", MOE_F32},
        {"T=40 d=32 n=16 E=6 K=3 dtype=fp32 zero=2 shared=16 shared_gate=1 seed=9", MOE_F32},
        {"T=40 d=32 n=16 E=8 K=2 dtype=fp32 select=capacity capacity=40 renorm=1 seed=10", MOE_F32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moe_problem *p = drawn(cases[i].line);
        moe_plan *plan = route(p, NULL);
        const fault f = {17, 17, -1, -1};
        moe_plan *got = change(plan, &f, 1);
        moe_reference_result *made = run(p, cases[i].arithmetic, got);
        moe_check_result *r = judge(p, cases[i].arithmetic, made, -1);
        char words[96], exchange[64];
        moe_int_print_exchange(got, plan, 17, exchange, sizeof exchange);
        snprintf(words, sizeof words, "routing: token 17 behaves as if it had chosen %.40s",
                 exchange);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s: %s", cases[i].line, r->why);
        cr_expect_eq(strncmp(r->why, words, strlen(words)), 0, "%s: '%s', not '%s'", cases[i].line,
                     r->why, words);
        cr_expect_eq(entry(r, "topk_index")->got, (double)moe_int_first_without(got, plan, 17));
        expect_rest_passes(r, cases[i].line);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_plan_destroy(&got);
        moe_plan_destroy(&plan);
        moe_problem_destroy(&p);
    }
}

/* Several tokens are counted, and one is shown; the sampled truth tells of those it sees. */
Test(check_guess, several_tokens) {
    const char *line = "T=512 d=32 n=16 E=16 K=4 dtype=fp32 renorm=1 seed=1";
    moe_problem *p = drawn(line);
    moe_plan *plan = route(p, NULL);
    const fault f = {17, 27, -1, -1}, end = {511, 511, -1, -1};
    for (int sampled = 0; sampled < 2; sampled++) {
        moe_plan *got = change(plan, sampled ? &end : &f, 1);
        moe_reference_result *made = run(p, MOE_F32, got);
        moe_check_result *r = judge(p, MOE_F32, made, sampled ? 1 : -1);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect(strstr(r->why, sampled ? "routing: token 511 behaves as if it had chosen {"
                                         : "routing: 11 of 512 tokens behave as if they had "
                                           "chosen other experts, e.g. token 17 {"),
                  "%s", r->why);
        expect_rest_passes(r, line);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_plan_destroy(&got);
    }
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* All logits equal and another rule for ties: ambiguous, with all that follows from it. */
Test(check_guess, exact_ties_are_ambiguous) {
    static const char *const lines[] = {
        "T=12 d=32 n=16 E=6 K=2 dtype=fp32 r_scale=0 seed=31",
        "T=12 d=32 n=16 E=6 K=3 dtype=fp32 r_scale=0 score=sigmoid renorm=1 shared=8 seed=32",
        ("T=12 d=32 n=16 E=8 K=3 dtype=fp32 r_scale=0 score=sigmoid select=group_topk groups=4 "
         "topk_groups=2 seed=33"),
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *p = drawn(lines[i]);
        moe_plan *plan = route(p, NULL);
        int32_t token[64], expert[64];
        int64_t n = 0, E = p->layer.E, K = p->layer.K;
        moe_plan *got = NULL;
        for (int64_t t = 0; t < 12; t++) /* half the tokens: the highest; else one in the middle */
            for (int64_t k = 0; k < K; k++) {
                token[n] = (int32_t)t;
                expert[n++] = (int32_t)(t % 2 ? E - 1 - k : k ? E - k : E / 2);
            }
        cr_assert_eq(moe_plan_create(12, E, n, token, expert, NULL, NULL, &got), MOE_OK);
        moe_reference_result *made = run(p, MOE_F32, got);
        moe_check_result *r = judge(p, MOE_F32, made, -1);
        cr_expect_eq(r->verdict, MOE_VERDICT_AMBIGUOUS, "%s: %s", lines[i], r->why);
        cr_expect_eq(r->ambiguous_tokens, 12);
        expect_rest_passes(r, lines[i]);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_plan_destroy(&got);
        moe_plan_destroy(&plan);
        moe_problem_destroy(&p);
    }
}

/* Expert `low`'s logits become those of `high` times (1 - gap): W_r's row is a copy. */
static void make_close(moe_problem *p, int64_t high, int64_t low, double gap) {
    float *w = p->in.t[MOE_T_W_R].data;
    for (int64_t i = 0; i < p->layer.d; i++)
        w[low * p->layer.d + i] = (float)(w[high * p->layer.d + i] * (1 - gap));
}

/* A gap of 3e-7 is what fp32 cannot tell, one of 1e-3 it can; in a sample too, where the gradients
 * of the weights are wrong for tokens whose O is not looked at. */
Test(check_guess, margin) {
    const char *line = "T=200 d=32 n=16 E=6 K=2 dtype=fp32 seed=11";
    for (int close = 0; close < 2; close++)
        for (int sampled = 0; sampled <= close; sampled++) {
            moe_problem *p = drawn(line);
            make_close(p, 1, 4, close ? 3e-7 : 1e-3);
            moe_plan *plan = route(p, NULL), *got, *next;
            cr_assert_eq(moe_plan_copy(plan, &got), MOE_OK);
            int64_t changed = 0;
            for (int64_t t = 0; t < p->T; t++) {
                if (chose(plan, t, 1) == chose(plan, t, 4))
                    continue;
                int64_t from = chose(plan, t, 1) ? 1 : 4;
                const fault f = {t, t, from, 5 - from};
                next = change(got, &f, 1);
                moe_plan_destroy(&got);
                got = next;
                changed++;
            }
            cr_assert_gt(changed, 32);
            moe_reference_result *made = run(p, MOE_F32, got);
            moe_check_result *r = judge(p, MOE_F32, made, sampled ? 1 : -1);
            cr_expect_eq(r->verdict, close ? MOE_VERDICT_AMBIGUOUS : MOE_VERDICT_FAIL, "%d: %s",
                         sampled, r->why);
            cr_expect_eq(r->ambiguous_tokens, close ? changed : 0);
            cr_expect_eq(r->sampled[0] != '\0', sampled);
            expect_rest_passes(r, line);
            moe_check_result_destroy(&r);
            moe_reference_result_destroy(&made);
            moe_plan_destroy(&got);
            moe_plan_destroy(&plan);
            moe_problem_destroy(&p);
        }
}

/* A missing expert is no choice of another one, however little that one would weigh; nor is a
 * wrong factor, or noise. */
Test(check_guess, other_faults_are_no_routing) {
    const char *line = "T=64 d=32 n=16 E=32 K=2 dtype=bf16 seed=5 r_scale=4";
    static const moe_dtype types[] = {MOE_F32, MOE_BF16};
    for (int i = 0; i < 6; i++) {
        moe_problem *p = drawn(line);
        moe_reference_result *made = run(p, types[i % 2], NULL);
        const moe_plan *plan = made->plan;
        float *O = made->out.t[MOE_T_O].data, *Y = made->out.t[MOE_T_Y].data;
        for (int64_t t = 0; t < p->T; t += 7) {
            int64_t row = plan->pair_of_token[plan->token_offsets[t]];
            for (int64_t c = 0; c < 32; c++) {
                if (i / 2 == 0)
                    O[t * 32 + c] -= (float)plan->weight[row] * Y[row * 32 + c];
                else if (i / 2 == 1)
                    O[t * 32 + c] *= 1.5f;
                else
                    O[t * 32 + c] += (float)moe_rng_normal(1, 2, (uint64_t)(t * 32 + c));
            }
        }
        moe_check_result *r = judge(p, types[i % 2], made, -1);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(strncmp(r->why, "O: ", 3), 0, "%d: %s", i, r->why);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_problem_destroy(&p);
    }
}

/* With expert choice two tokens trade a place: ambiguous where they are alike, else no routing that
 * a router would make. */
Test(check_guess, two_tokens_trade_a_place) {
    for (int close = 0; close < 2; close++) {
        moe_problem *p = drawn("T=12 d=16 n=8 E=3 K=1 dtype=fp32 select=expert_choice seed=21");
        float *x = p->in.t[MOE_T_X].data;
        double *z = NULL, scores[36];
        moe_plan *plan = route(p, &z);
        moe_route_selection_scores(&p->layer, 12, z, NULL, scores);
        int64_t in = plan->token[0], out = 0;
        for (int64_t r = 0; r < plan->offsets[1]; r++)
            in = scores[plan->token[r] * 3] < scores[in * 3] ? plan->token[r] : in;
        while (chose(plan, out, 0))
            out++;
        moe_plan_destroy(&plan);
        for (int64_t i = 0; close && i < 16; i++)
            x[out * 16 + i] = x[in * 16 + i] * (1 - 1e-7f);
        plan = route(p, NULL);
        cr_assert_neq(chose(plan, in, 0), chose(plan, out, 0));
        int64_t a = chose(plan, in, 0) ? in : out, n = 0;
        int32_t token[36], expert[36];
        for (int64_t t = 0; t < 12; t++)
            for (int64_t e = 0; e < 3; e++)
                if (e == 0 && (t == in || t == out) ? t != a : chose(plan, t, e)) {
                    token[n] = (int32_t)t;
                    expert[n++] = (int32_t)e;
                }
        moe_plan *got = NULL;
        cr_assert_eq(moe_plan_create(12, 3, n, token, expert, NULL, NULL, &got), MOE_OK);
        moe_reference_result *made = run(p, MOE_F32, got);
        moe_check_result *r = judge(p, MOE_F32, made, -1);
        cr_expect_eq(r->verdict, close ? MOE_VERDICT_AMBIGUOUS : MOE_VERDICT_FAIL, "%s", r->why);
        if (close)
            expect_rest_passes(r, "expert choice");
        else
            cr_expect_neq(strncmp(r->why, "routing: ", 9), 0, "%s", r->why);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_plan_destroy(&got);
        moe_plan_destroy(&plan);
        free(z);
        moe_problem_destroy(&p);
    }
}
