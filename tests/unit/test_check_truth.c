/* What an arithmetic cannot hold is no truth to judge by: the edges of that range. */
#include "check/truth/truth.h"
#include "check/verdict/result.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The sentence for a truth whose tensor `id` is the `n` values; "" when they are inside. */
static const char *range(moe_dtype arithmetic, moe_tensor_id id, double *values, int64_t n) {
    static moe_int_truth t;
    moe_reference_result oracle = {0};
    memset(&t, 0, sizeof t);
    t.oracle = &oracle;
    oracle.out.t[id] = (moe_tensor){values, MOE_F64, 1, {n}};
    moe_int_truth_range(arithmetic, &t);
    return t.out_of_range;
}

#define RANGE(arithmetic, id, ...)                                                                 \
    range(arithmetic, id, (double[]){__VA_ARGS__}, sizeof((double[]){__VA_ARGS__}) / sizeof(double))

typedef struct limits {
    moe_dtype arithmetic;
    double low, high; /* smallest normal and largest number */
} limits;

static const limits types[] = {
    {MOE_F16, 0x1p-14, 65504},
    {MOE_BF16, 0x1p-126, 0x1.fep127},
    {MOE_F32, FLT_MIN, FLT_MAX},
};

/* A bf16 or fp16 number above the largest is stored as an infinity by every kernel. */
Test(check_truth, largest_number) {
    for (int i = 0; i < 3; i++) {
        double high = types[i].high, above = nextafter(high, INFINITY);
        moe_dtype dtype = types[i].arithmetic;
        char words[40];
        cr_expect_str_eq(RANGE(dtype, MOE_T_O, 1, -high, 2), "", "%s", moe_dtype_name(dtype));
        cr_expect_str_neq(RANGE(dtype, MOE_T_DW_R, 1, 2, above), "", "%s", moe_dtype_name(dtype));
        cr_expect_str_neq(RANGE(dtype, MOE_T_O, -above, 1, 2), "", "%s", moe_dtype_name(dtype));
        snprintf(words, sizeof words, "outside the range of %s", moe_dtype_name(dtype));
        cr_expect(strstr(RANGE(dtype, MOE_T_DX, above), words));
        cr_expect_eq(strncmp(RANGE(dtype, MOE_T_DX, above), "dX (size ", 9), 0);
    }
}

/* The size is the root mean square of what is not 0; a quarter of it must be a normal number. 1e-9
 * is far above the roundings of that mean. */
Test(check_truth, smallest_size) {
    for (int i = 0; i < 3; i++) {
        double least = 4 * types[i].low, below = least * (1 - 1e-9);
        moe_dtype dtype = types[i].arithmetic;
        cr_expect_str_eq(RANGE(dtype, MOE_T_H, least, -least, 0, 0), "", "%s",
                         moe_dtype_name(dtype));
        cr_expect_str_neq(RANGE(dtype, MOE_T_H, below, -below), "", "%s", moe_dtype_name(dtype));
        cr_expect_str_eq(RANGE(dtype, MOE_T_H, least * M_SQRT2, least / 1e9), "");
        cr_expect_str_neq(RANGE(dtype, MOE_T_H, below * M_SQRT2, least / 1e9), "");
        cr_expect_str_eq(RANGE(dtype, MOE_T_H, 0, 0), "", "zeros are exact");
    }
}

/* Only what everything else passes through must be of normal size. */
Test(check_truth, small_ends_are_allowed) {
    for (int id = MOE_T_LOGITS; id < MOE_T_COUNT; id++) {
        moe_tensor_role role = moe_tensor_role_of((moe_tensor_id)id);
        if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM)
            continue;
        bool carries = id == MOE_T_H || id == MOE_T_A || id == MOE_T_Y || id == MOE_T_O ||
                       id == MOE_T_DH || id == MOE_T_DXP || id == MOE_T_DX || id == MOE_T_DW1 ||
                       id == MOE_T_DW2;
        cr_expect_eq(RANGE(MOE_F16, (moe_tensor_id)id, 1e-6)[0] != '\0', carries, "%s",
                     moe_tensor_name((moe_tensor_id)id));
    }
}

/* The router is fp32 whatever the layer is stored in; fp64 is the truth's own; and where the truth
 * is no number nothing is compared. */
Test(check_truth, what_has_no_range) {
    cr_expect_str_eq(RANGE(MOE_F16, MOE_T_LOGITS, 1e6), "");
    cr_expect_str_eq(RANGE(MOE_F16, MOE_T_S, 1e6), "");
    cr_expect_str_eq(RANGE(MOE_F64, MOE_T_O, 1e300), "");
    cr_expect_str_eq(RANGE(MOE_F64, MOE_T_O, 1e-300), "");
    cr_expect_str_eq(RANGE(MOE_F16, MOE_T_O, NAN, INFINITY, 1), "");
    cr_expect_str_neq(RANGE(MOE_F16, MOE_T_O, NAN, 1e6), "");
}

/* The first tensor in the order of computation is named; of a sample, the parts that are judged. */
Test(check_truth, which_tensor_is_named) {
    double fine[] = {1}, large[] = {1e6};
    moe_reference_result oracle = {0};
    moe_int_truth t = {.oracle = &oracle};
    oracle.out.t[MOE_T_DX] = oracle.out.t[MOE_T_Y] = (moe_tensor){large, MOE_F64, 1, {1}};
    oracle.out.t[MOE_T_H] = (moe_tensor){fine, MOE_F64, 1, {1}};
    moe_int_truth_range(MOE_F16, &t);
    cr_expect_eq(strncmp(t.out_of_range, "Y (", 3), 0, "%s", t.out_of_range);

    t = (moe_int_truth){.oracle = &oracle, .sampled = true};
    t.part[MOE_T_DX].want = oracle.out.t[MOE_T_H];
    oracle.out.t[MOE_T_Y] = oracle.out.t[MOE_T_H];
    moe_int_truth_range(MOE_F16, &t);
    cr_expect_str_eq(t.out_of_range, "");
    t.part[MOE_T_DW1].want = oracle.out.t[MOE_T_DX];
    moe_int_truth_range(MOE_F16, &t);
    cr_expect_eq(strncmp(t.out_of_range, "dW1 (", 5), 0, "%s", t.out_of_range);
}
