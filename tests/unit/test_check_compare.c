/* moe_compare on tensors made by hand: what fails, at which gate, and where it says the error is.
 */
#include "made_by_hand.h"

Test(check_compare, equal_tensors_pass) {
    moe_layer_desc desc = layer(16, 8, 4);
    moe_tensor want = normal(2, 32, 16, 0, 1), got = normal(2, 32, 16, 0, 1);
    moe_tensor_verdict v;
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    cr_expect_str_eq(v.name, "O");
    cr_expect_eq(v.nmse, 0);
    cr_expect_eq(v.nonzero, 32 * 16);
    cr_expect_eq(v.bad_elements, 0);
    cr_expect_str_eq(v.why, "");
    cr_expect_str_eq(v.where, "");
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

/* 3 % on a value of 2: the figures that are reported. */
Test(check_compare, figures) {
    moe_layer_desc desc = layer(4, 8, 2);
    int64_t shape[] = {2, 4};
    moe_tensor want, got;
    moe_tensor_verdict v;
    moe_tensor_alloc(MOE_F64, 2, shape, &want);
    moe_tensor_alloc(MOE_F32, 2, shape, &got);
    for (int64_t i = 0; i < 8; i++) {
        *at(&want, i) = 2;
        moe_store(got.data, MOE_F32, (size_t)i, 2);
    }
    moe_store(got.data, MOE_F32, 6, 2.5);
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect_float_eq(v.nmse, 0.25 / 32, 1e-15);
    cr_expect_float_eq(v.worst_group_nmse, 0.25 / 16, 1e-15);
    cr_expect_eq(v.worst_group, 1);
    cr_expect_float_eq(v.max_abs, 0.5, 1e-15);
    cr_expect_eq(v.worst_ndim, 2);
    cr_expect_eq(v.worst_index[0], 1);
    cr_expect_eq(v.worst_index[1], 2);
    cr_expect_eq(v.got, 2.5);
    cr_expect_eq(v.want, 2);
    cr_expect(strstr(v.why, "NMSE 7.81e-03 > 1.0e-11 (fp32 gate)"), "%s", v.why);
    cr_expect(strstr(v.where, "token 1 (of 2)"), "%s", v.where);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

Test(check_compare, shapes) {
    moe_layer_desc desc = layer(16, 8, 4);
    moe_tensor want = normal(2, 32, 16, 0, 1), got = normal(2, 16, 32, 0, 1);
    moe_tensor_verdict v;
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(v.why, "[16, 32] instead of [32, 16]"), "%s", v.why);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

/* Not a number where one is due fails at every arithmetic, the worst element is the first such. */
Test(check_compare, nan_fails) {
    static const moe_dtype types[] = {MOE_F64, MOE_F32, MOE_F16, MOE_BF16};
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    moe_layer_desc desc = layer(16, 8, 4);
    for (int k = 0; k < 12; k++) {
        moe_tensor want = normal(2, 32, 16, 0, 1), got;
        moe_tensor_verdict v;
        cr_assert_eq(moe_tensor_cast(&want, types[k / 3], &got), MOE_OK);
        moe_store(got.data, got.dtype, 100, bad[k % 3]);
        moe_compare(MOE_T_O, types[k / 3], &desc, &got, &want, NULL, NULL, &v);
        cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(v.bad_elements, 1);
        cr_expect_eq(v.worst_index[0], 6);
        cr_expect_eq(v.worst_index[1], 4);
        cr_expect(strstr(v.why, "1 elements are not finite where the oracle is"), "%s", v.why);
        moe_tensor_destroy(&want);
        moe_tensor_destroy(&got);
    }
}

/* Where the truth is not finite any NaN or infinity is right, and no number. */
Test(check_compare, truth_not_finite) {
    moe_layer_desc desc = layer(16, 8, 4);
    moe_tensor want = normal(2, 32, 16, 0, 1), got = normal(2, 32, 16, 0, 1);
    moe_tensor_verdict v;
    for (int64_t i = 0; i < 16; i++)
        *at(&want, 16 + i) = i % 2 ? NAN : INFINITY;
    for (int64_t i = 0; i < 16; i++)
        *at(&got, 16 + i) = i % 3 ? NAN : -INFINITY;
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    cr_expect_eq(v.not_compared, 16);
    *at(&got, 18) = 0;
    *at(&got, 19) = 1e30;
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(v.why, "2 elements are finite where the oracle is"), "%s", v.why);
    for (int64_t i = 0; i < 32 * 16; i++)
        *at(&want, i) = *at(&got, i) = NAN;
    moe_compare(MOE_T_O, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_SKIP);
    cr_expect_eq(v.nonzero, 0);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

/* A kink hides a gradient whose error is known: any number may stand there. */
Test(check_compare, hidden_truth_is_a_number) {
    moe_layer_desc desc = layer(16, 8, 4);
    moe_tensor want = normal(2, 32, 16, 0, 1), got = normal(2, 32, 16, 0, 1);
    moe_tensor variance = normal(2, 32, 16, 0, 1);
    moe_tensor_verdict v;
    for (int64_t i = 0; i < 32 * 16; i++)
        *at(&variance, i) = 1;
    *at(&want, 17) = NAN;
    moe_compare(MOE_T_DX, MOE_F32, &desc, &got, &want, &variance, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    *at(&got, 17) = NAN;
    moe_compare(MOE_T_DX, MOE_F32, &desc, &got, &want, &variance, NULL, &v);
    cr_expect_eq(v.bad_elements, 1);
    *at(&variance, 17) = NAN;
    moe_compare(MOE_T_DX, MOE_F32, &desc, &got, &want, &variance, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
    moe_tensor_destroy(&variance);
}

/* Elements that still hold the poison were not written, also where the truth is not finite. */
Test(check_compare, poison) {
    static const moe_dtype types[] = {MOE_F64, MOE_F32, MOE_F16, MOE_BF16};
    moe_layer_desc desc = layer(16, 8, 4);
    for (int k = 0; k < 4; k++) {
        moe_tensor want = normal(2, 8, 16, 0, 1);
        moe_int_guarded got;
        moe_tensor_verdict v;
        cr_assert_eq(moe_int_guard_alloc(&want, types[k], &got), MOE_OK);
        for (size_t i = 0; i < 126; i++)
            moe_store(got.tensor.data, types[k], i, *at(&want, (int64_t)i));
        *at(&want, 127) = NAN;
        moe_compare(MOE_T_O, types[k], &desc, &got.tensor, &want, NULL, NULL, &v);
        cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(v.bad_elements, 2);
        cr_expect(strstr(v.why, "2 of 128 elements were not written"), "%s", v.why);
        moe_int_guard_destroy(&got);
        moe_tensor_destroy(&want);
    }
}

/* A token without experts, an expert without tokens: exactly zero, not nearly. Minus zero is zero.
 */
Test(check_compare, exact_zeros) {
    moe_layer_desc desc = layer(4, 2, 3);
    moe_tensor want = normal(3, 3, 4, 4, 1), got = normal(3, 3, 4, 4, 1);
    moe_tensor_verdict v;
    for (int64_t i = 16; i < 32; i++)
        *at(&want, i) = *at(&got, i) = 0;
    *at(&got, 20) = -0.0;
    moe_compare(MOE_T_DW1, MOE_F32, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    *at(&got, 20) = 1e-300;
    moe_compare(MOE_T_DW1, MOE_BF16, &desc, &got, &want, NULL, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(v.why, "expert 1 must be exactly 0"), "%s", v.why);
    cr_expect(strstr(v.where, "expert 1 (of 3); row 1 (of 4)"), "%s", v.where);
    cr_expect_eq(v.worst_group, 1);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

/* One bad row among 512 is under the tensor's gate and over the row's. */
Test(check_compare, worst_row_and_tile) {
    moe_layer_desc desc = layer(16, 64, 4);
    moe_tensor want = normal(2, 512, 16, 0, 1), got = normal(2, 512, 16, 0, 1);
    moe_plan *plan = blocks(512, 4);
    moe_tensor_verdict v;
    for (int64_t i = 0; i < 16; i++)
        *at(&got, 300 * 16 + i) *= 1.05;
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, NULL, plan, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect_lt(v.nmse, 6e-5);
    cr_expect_eq(v.worst_group, 300);
    cr_expect_eq(v.worst_tile, 256);
    cr_expect(strstr(v.why, "token 300: NMSE 2.50e-03 > 1.5e-04 (bf16 gate)"), "%s", v.why);
    cr_expect(strstr(v.where, "token 300 (of 512), which is routed to expert 2"), "%s", v.where);
    moe_plan_destroy(&plan);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}

/* Tiles of pair rows do not cross experts: rows 100..139 of an expert that ends at 140. */
Test(check_compare, rows_of_an_expert) {
    moe_layer_desc desc = layer(8, 16, 2);
    moe_tensor want = normal(2, 280, 8, 0, 1), got = normal(2, 280, 8, 0, 1);
    moe_plan *plan = blocks(280, 2);
    moe_tensor_verdict v;
    for (int64_t i = 268 * 8; i < 280 * 8; i++)
        *at(&got, i) = 0;
    moe_compare(MOE_T_Y, MOE_F32, &desc, &got, &want, NULL, plan, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(v.worst_tile, 140 + 128);
    cr_expect_float_eq(v.worst_tile_nmse, 1, 1e-12);
    cr_expect_eq(v.worst_expert, 1);
    cr_expect(strstr(v.where, "rows 128..139 (12 of 140; tile 1 of 128 rows) of expert 1"), "%s",
              v.where);
    moe_plan_destroy(&plan);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
}
