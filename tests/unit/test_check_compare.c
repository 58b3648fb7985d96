/* moe_compare on tensors made by hand: what fails, at which gate, and where it says the error is.
 */
#include "check/compare/compare.h"
#include "check/subject/guard.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static moe_layer_desc layer(int64_t d, int64_t n, int64_t E) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = d;
    desc.n = n;
    desc.E = E;
    desc.K = 1;
    return desc;
}

/* A float64 tensor of N(0,1) values, the same for the same stream. */
static moe_tensor normal(int32_t ndim, int64_t a, int64_t b, int64_t c, uint64_t stream) {
    int64_t shape[] = {a, b, c};
    moe_tensor t;
    cr_assert_eq(moe_tensor_alloc(MOE_F64, ndim, shape, &t), MOE_OK);
    moe_rng_fill(t.data, MOE_F64, 0, (size_t)moe_tensor_count(&t), MOE_FILL_NORMAL, 1, 11, stream);
    return t;
}

static double *at(const moe_tensor *t, int64_t i) {
    return (double *)t->data + i;
}

/* Plan of T tokens, token t at expert t * E / T. */
static moe_plan *blocks(int64_t T, int64_t E) {
    int32_t token[512], expert[512];
    moe_plan *plan = NULL;
    for (int64_t t = 0; t < T; t++) {
        token[t] = (int32_t)t;
        expert[t] = (int32_t)(t * E / T);
    }
    cr_assert_eq(moe_plan_create(T, E, T, token, expert, NULL, NULL, &plan), MOE_OK);
    return plan;
}

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

/* z: V = 3 makes sigma = 2 u / sqrt(3) at ref = 1; d = 8 sigma is over the gate of 6.5. */
Test(check_compare, z_scores) {
    moe_layer_desc desc = layer(1024, 4096, 2);
    int64_t shape[] = {64, 1024};
    moe_tensor want, got, var;
    moe_tensor_verdict v;
    double sigma = 2 * moe_dtype_roundoff(MOE_BF16) / sqrt(3);
    moe_tensor_alloc(MOE_F64, 2, shape, &want);
    moe_tensor_alloc(MOE_F64, 2, shape, &got);
    moe_tensor_alloc(MOE_F64, 2, shape, &var);
    for (int64_t i = 0; i < 64 * 1024; i++) {
        *at(&want, i) = *at(&got, i) = 1;
        *at(&var, i) = 3;
    }
    *at(&got, 1030) = 1 + 6 * sigma;
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    cr_expect_float_eq(v.max_z, 6, 1e-9);
    cr_expect_float_eq(v.row_rms_z, 6 / 32.0, 1e-9);
    *at(&got, 1030) = 1 - 8 * sigma;
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect_float_eq(v.max_z, 8, 1e-9);
    cr_expect(strstr(v.why, "max z 8 > 6.5 (bf16 gate)"), "%s", v.why);
    cr_expect_eq(v.worst_index[0], 1);
    cr_expect_eq(v.worst_index[1], 6);
    for (int64_t i = 0; i < 1024; i++)
        *at(&got, 1024 + i) = 1 + 1.4 * sigma;
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(v.why, "row rms z 1.4 > 1.3 (bf16 gate)"), "%s", v.why);
    desc.n = 8; /* so few hidden units scatter more */
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
    moe_tensor_destroy(&var);
}

/* A group that cancels is judged by what a correct kernel errs there, and by no more than that. */
Test(check_compare, cancelling_group) {
    moe_layer_desc desc = layer(64, 64, 2);
    moe_tensor want = normal(2, 4, 64, 0, 1), got = normal(2, 4, 64, 0, 1);
    moe_tensor var = normal(2, 4, 64, 0, 1);
    moe_tensor_verdict v;
    double u = moe_dtype_roundoff(MOE_BF16);
    for (int64_t i = 0; i < 4 * 64; i++)
        *at(&var, i) = 2;
    for (int64_t i = 0; i < 64; i++) { /* the truth is small, its summands are not */
        *at(&want, i) *= 0.01;
        *at(&got, i) = *at(&want, i) + u / sqrt(3) * sqrt(2) * (i % 2 ? 1 : -1);
    }
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_PASS, "%s", v.why);
    cr_expect_gt(v.worst_group_nmse, 1e-2);
    for (int64_t i = 0; i < 64; i++)
        *at(&got, i) = *at(&want, i) + u / sqrt(3) * 3 * sqrt(2) * (i % 2 ? 1 : -1);
    moe_compare(MOE_T_O, MOE_BF16, &desc, &got, &want, &var, NULL, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(v.why, "token 0: NMSE"), "%s", v.why);
    moe_tensor_destroy(&want);
    moe_tensor_destroy(&got);
    moe_tensor_destroy(&var);
}

/* Gates of the table, of every arithmetic and class; none for a type that is not arithmetic. */
Test(check_compare, gates) {
    cr_expect_eq(moe_gate_for(MOE_T_O, MOE_F64).nmse, 1e-12);
    cr_expect_eq(moe_gate_for(MOE_T_O, MOE_F32).nmse, 1e-11);
    cr_expect_eq(moe_gate_for(MOE_T_DX, MOE_F16).group_nmse, 2e-6);
    cr_expect_eq(moe_gate_for(MOE_T_DX, MOE_BF16).tile_nmse, 1.5e-4);
    cr_expect_eq(moe_gate_for(MOE_T_DW1, MOE_BF16).group_nmse, 1.5e-4);
    cr_expect_eq(moe_gate_for(MOE_T_DW1, MOE_BF16).tile_nmse, 0);
    cr_expect_eq(moe_gate_for(MOE_T_DS, MOE_BF16).group_nmse, 0);
    cr_expect_eq(moe_gate_for(MOE_T_S, MOE_F32).group_nmse, 0);
    static const struct {
        moe_dtype arithmetic;
        double max_z, row_rms_z;
    } z[] = {{MOE_F32, 25, 5}, {MOE_F16, 6.5, 1.3}, {MOE_BF16, 6.5, 1.3}};
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(moe_gate_for(MOE_T_O, z[i].arithmetic).max_z, z[i].max_z);
        cr_expect_eq(moe_gate_for(MOE_T_O, z[i].arithmetic).row_rms_z, z[i].row_rms_z);
        cr_expect_eq(moe_gate_for(MOE_T_DW1, z[i].arithmetic).max_z, z[i].max_z);
        cr_expect_eq(moe_gate_for(MOE_T_DS, z[i].arithmetic).max_z, z[i].max_z);
    }
    cr_expect_eq(moe_gate_for(MOE_T_O, MOE_I32).nmse, 0);
    cr_expect_float_eq(moe_int_chi2_quantile(1), 21.6, 0.2);
    cr_expect_float_eq(moe_int_chi2_quantile(768), 1.24, 0.01);
}
