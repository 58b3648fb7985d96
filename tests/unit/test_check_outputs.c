/* Files that any program wrote, judged. */
#include "outputs_file.h"

#include <math.h>
#include <stdio.h>

/* bf16 results under their own gates; what is not in the file is skipped, and says so. */
Test(check_outputs, bf16_file) {
    file *f = open_file(ROUTED, MOE_BF16, MOE_BF16);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add(f, MOE_T_DX);
    add(f, MOE_T_DW1);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(entry(r, "dX")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "dW2")->verdict, MOE_VERDICT_SKIP);
    cr_expect(strstr(entry(r, "dW2")->why, "not given"));
    cr_expect(strstr(r->reproduce, "--outputs"), "%s", r->reproduce);
    moe_check_result_destroy(&r);
    cr_assert_eq(judge(f, MOE_F32, &r), MOE_OK); /* bf16 is not fp32 */
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "fp32 gate"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* dS is fp32 in kernels of any type: alone it tells nothing of the products before it. */
Test(check_outputs, dS_of_a_bf16_kernel_alone) {
    file *f = open_file("T=12 d=16 n=8 E=5 K=2 dtype=bf16 renorm=1 seed=3", MOE_BF16, MOE_F32);
    moe_check_result *r = NULL;
    add_routing(f);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(r->arithmetic_why, "X is bfloat16, and nothing tells another");
    moe_check_result_destroy(&r);
    f->list[2] = (moe_named_tensor){"dS", f->cast.t[MOE_T_DS]}; /* in the plan's order */
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(r->arithmetic, MOE_BF16);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Without a gate nothing can fail, so nothing may pass. */
Test(check_outputs, arithmetic_without_gates) {
    static const moe_dtype types[] = {MOE_I64, MOE_I32, MOE_U8, MOE_DTYPE_COUNT};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(judge(f, types[i], &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", moe_dtype_name(types[i]));
        cr_expect(strstr(r->why, "O: there is no gate for results in "), "%s", r->why);
        cr_expect(strstr(r->why, moe_dtype_name(types[i])), "%s", r->why);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* Where a golden value was lost the oracle's counts: an error there is none the less one. */
Test(check_outputs, lost_golden_values) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    moe_tensor *golden = &f->problem->expected.t[MOE_T_O];
    cr_assert_eq(moe_tensor_cast(&f->cast.t[MOE_T_O], MOE_F32, golden), MOE_OK);
    ((float *)golden->data)[5] = NAN;
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(entry(r, "O")->truth, "golden");
    moe_check_result_destroy(&r);
    ((float *)f->cast.t[MOE_T_O].data)[5] += 1;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(entry(r, "O")->truth, "oracle");
    moe_check_result_destroy(&r);
    close_file(f);
}

/* The weight of a token's only expert is 1 whatever the logits: dW_r is 0, or what rounding leaves
 * of terms that cancel. As much as that is right, and a wrong gradient is not, however small beside
 * those terms. */
Test(check_outputs, a_gradient_that_cancels) {
    static const char *const lines[] = {"T=64 d=16 n=8 E=5 K=1 renorm=1 seed=3",
                                        "T=64 d=16 n=8 E=5 K=1 score=softmax_topk seed=3",
                                        "T=64 d=16 n=8 E=5 K=1 score=sigmoid renorm=1 seed=3"};
    static const moe_dtype types[] = {MOE_F32, MOE_BF16};
    static const double wrong[] = {0, 1e-4, 1};
    for (int i = 0; i < 3 * 2 * 3; i++) {
        const double add_to = wrong[i % 3];
        file *f = open_file(lines[i / 6], types[i / 3 % 2], MOE_F32);
        moe_check_result *r = NULL;
        add(f, MOE_T_O);
        add(f, MOE_T_DW_R);
        ((float *)f->cast.t[MOE_T_DW_R].data)[7] += (float)add_to;
        const moe_check_params params = {.no_explanation = true, .threads = 1};
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        cr_assert_eq(
            moe_check_outputs(f->path, f->problem, (int32_t)types[i / 3 % 2], &params, NULL, &r),
            MOE_OK);
        cr_expect_eq(entry(r, "dW_r")->verdict, add_to == 0 ? MOE_VERDICT_PASS : MOE_VERDICT_FAIL,
                     "%s in %s, %g: %s", lines[i / 6], moe_dtype_name(types[i / 3 % 2]), add_to,
                     r->why);
        moe_check_result_destroy(&r);
        close_file(f);
    }
}

/* Slots in any order; per-slot vectors follow topk_index. */
Test(check_outputs, routing_by_slots) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add(f, MOE_T_H);
    add_routing(f);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(entry(r, "topk_index")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "topk_weight")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "H")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    f->dS[7] *= 1.01f;
    f->weight[3] *= 1.01f;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(entry(r, "topk_weight")->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->first_wrong_stage, "topk_weight");
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Tokens without experts, by a given plan and by a mask of the router's: their slots are -1, their
 * O and dX are the shared expert's alone; a token that has experts all the same is wrong. */
Test(check_outputs, masked_tokens) {
    static const char *const lines[] = {GIVEN " masked=4 drop=3", ROUTED " masked=4",
                                        ROUTED " masked=4 shared=8", ROUTED " masked=12"};
    for (int i = 0; i < 4; i++) {
        file *f = open_file(lines[i], MOE_F32, MOE_F32);
        moe_check_result *r = NULL;
        int64_t t = 0;
        add(f, MOE_T_O);
        add(f, MOE_T_DX);
        add(f, MOE_T_DW1);
        add_routing(f);
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(r->verdict, i == 3 ? MOE_VERDICT_MISTRUSTED : MOE_VERDICT_PASS, "%s: %s",
                     lines[i], r->why);
        moe_check_result_destroy(&r);
        while (f->index[2 * t] >= 0 || f->index[2 * t + 1] >= 0)
            t++;
        f->index[2 * t] = 3;
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        char words[64];
        snprintf(words, sizeof words, "token %lld: has 3 too many", (long long)t);
        cr_expect(r->verdict == MOE_VERDICT_FAIL && strstr(r->why, words), "%s: '%s' lacks '%s'",
                  lines[i], r->why, words);
        moe_check_result_destroy(&r);
        f->index[2 * t] = -1;
        ((float *)f->cast.t[MOE_T_O].data)[t * 16 + 5] += 0.5f;
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_FAIL, "%s: %s", lines[i], r->why);
        moe_check_result_destroy(&r);
        close_file(f);
    }
}

/* Gradients in the file of a case that has none: not judged, and nothing else suffers. */
Test(check_outputs, forward_only_case) {
    static const moe_tensor_id gradients[] = {MOE_T_DX, MOE_T_DW1, MOE_T_DS, MOE_T_DH, MOE_T_DXP};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_problem *both = f->problem;
    moe_check_result *r = NULL;
    f->problem = drawn(ROUTED " pass=fwd");
    for (int i = 0; i < 5; i++)
        add(f, gradients[i]);
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    expect_refused(f, MOE_E_NOTFOUND, "none of the tensors that can be judged");
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(r->n_tensors, 1);
    cr_expect_str_eq(r->tensor[0].name, "O");
    moe_check_result_destroy(&r);
    moe_problem_destroy(&both);
    close_file(f);
}

/* With a given plan the pairs' order is known; a NaN fails. */
Test(check_outputs, given_plan) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    static const moe_tensor_id all[] = {MOE_T_H,  MOE_T_A,   MOE_T_Y,  MOE_T_O,   MOE_T_DS,
                                        MOE_T_DH, MOE_T_DXP, MOE_T_DX, MOE_T_DW1, MOE_T_DW2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        add(f, all[i]);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
    ((float *)f->cast.t[MOE_T_DXP].data)[9] = NAN;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->first_wrong_stage, "dXp");
    moe_check_result_destroy(&r);
    close_file(f);
}
