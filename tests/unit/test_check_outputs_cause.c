/* What is said of a file of O alone, where no step between can be seen. */
#include "outputs_file.h"

/* O of another layer with the same inputs. */
static void expect_cause(const char *line, const char *made_by, moe_dtype arithmetic,
                         const char *kind) {
    file *f = open_file(made_by, arithmetic, MOE_F32);
    moe_check_result *r = NULL;
    moe_problem_destroy(&f->problem);
    f->problem = drawn(line);
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->explanation.kind, kind, "%s: %s, not %s", made_by, r->explanation.kind,
                     kind);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Weights over another sum give each token's O a factor: of both the sum says why. */
Test(check_outputs_cause, rules_come_before_factors_of_tokens) {
#define LAYER "T=24 d=16 n=8 E=8 K=3 dtype=fp32 seed=3 "
    expect_cause(LAYER "renorm=1", LAYER "renorm=0", MOE_F32, "renorm_missing");
    expect_cause(LAYER "renorm=0", LAYER "renorm=1", MOE_F32, "renorm_added");
    expect_cause(LAYER "score=softmax_topk", LAYER, MOE_F32, "score_other");
}

/* Factors that no rule gives stay what they are. */
Test(check_outputs_cause, factors_of_tokens_without_a_rule) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    float *o = f->cast.t[MOE_T_O].data;
    for (int i = 0; i < ROUTED_T * 16; i++)
        o[i] *= 1 + 0.1F * (float)(i / 16 % 3);
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_str_eq(r->explanation.kind, "factor_by_token");
    moe_check_result_destroy(&r);
    close_file(f);
}

/* A kernel that rounds all of its stages to bf16 and adds in fp32, where fp32 is asked for. */
Test(check_outputs_cause, another_arithmetic) {
    file *f = open_file(LAYER, MOE_BF16, MOE_F32);
    moe_check_result *r = NULL;
    const moe_plan *plan = f->right->plan;
    const float *Y = f->cast.t[MOE_T_Y].data;
    float *o = f->cast.t[MOE_T_O].data;
    memset(o, 0, moe_tensor_bytes(&f->cast.t[MOE_T_O]));
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < 16; i++)
            o[plan->token[p] * 16 + i] += (float)plan->weight[p] * Y[p * 16 + i];
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_str_eq(r->explanation.kind, "arithmetic", "%s", r->explanation.kind);
    cr_expect(strstr(r->explanation.text, "bf16"), "%s", r->explanation.text);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* An error far below bf16's own passes as bf16, and is not made by it. */
Test(check_outputs_cause, better_than_another_arithmetic) {
    file *f = open_file(LAYER, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    float *o = f->cast.t[MOE_T_O].data;
    for (int i = 0; i < 24 * 16; i++)
        o[i] *= 1 + 2e-4F * (float)(i * 7 % 5 - 2);
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->suggestion, "--arithmetic"), "%s", r->suggestion);
    cr_expect_str_neq(r->explanation.kind, "arithmetic");
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Values of dS that are a little off where they stand are in no other order. */
Test(check_outputs_cause, noise_is_no_order) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add_routing(f);
    for (int i = 0; i < ROUTED_T * ROUTED_K; i++)
        f->dS[i] *= 1 + 0.004F * (float)(i * 7 % 5 - 2);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_neq(r->explanation.kind, "reordered", "%s", r->explanation.text);
    moe_check_result_destroy(&r);
    close_file(f);
}
