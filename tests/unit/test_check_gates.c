/* moe_compare at its gates: what z is, what a group that cancels may err, and the table. */
#include "made_by_hand.h"

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
