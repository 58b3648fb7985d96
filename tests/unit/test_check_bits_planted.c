/* Bugs too small for any tolerance, planted in a layer that a tensor core's bits are known of:
 * tolerances pass, bits name the stage. */
#include "check/bits/products.h"
#include "check/judge.h"
#include "check/verdict/result.h"
#include "core/convert.h"
#include "drawn.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYER "T=96 d=144 n=80 E=3 K=2 route=uniform seed=5 dtype="

/* One element of a stage made wrong: where it is, what its sum is right. */
typedef struct place {
    int64_t row, column; /* of the product */
    float sum;
} place;

typedef struct planted {
    const char *what;
    moe_tensor_id id, from;
    const char *arithmetic;         /* of the wrong elements */
    float (*wrong)(const place *p); /* their sum; NULL: as that arithmetic has it */
    int64_t rows, columns;          /* of each product, that are wrong; 0: all */
} planted;

static float stale(const place *p) {
    return p->sum + 1e-6f;
}

static float twice(const place *p) {
    return p->sum + 0x1p-20f * p->sum;
}

static float lost_place(const place *p) {
    return p->sum - 0x1p-18f;
}

static float toward_zero(const place *p) {
    const uint32_t bits = moe_int_f32_bits(p->sum) & 0xffff0000u;
    return moe_int_f32_from_bits(bits);
}

static float half_step_lost(const place *p) {
    return p->sum * (1 - 0x1p-12f);
}

static const planted bugs[] = {
    {"2^-18 of a sum lost in a tile", MOE_T_H, MOE_T_COUNT, "sm_90", lost_place, 32, 64},
    {"an accumulator not cleared, 1e-6", MOE_T_Y, MOE_T_A, "sm_90", stale, 0, 0},
    {"an element added twice at 2^-20", MOE_T_DXP, MOE_T_DH, "sm_90", twice, 0, 0},
    {"rounded toward zero in a tile", MOE_T_Y, MOE_T_A, "sm_90", toward_zero, 8, 8},
    {"blocks of K in another order", MOE_T_H, MOE_T_COUNT, "sm_90+descending", NULL, 0, 0},
    {"a carry in bf16 between blocks of a tile", MOE_T_Y, MOE_T_A, "sm_90+block=16+carry_bf16",
     NULL, 8, 8},
    {"promotion every 16", MOE_T_DXP, MOE_T_DH, "sm_90+promote=16", NULL, 0, 0},
    {"split K", MOE_T_DW1, MOE_T_DH, "sm_90+split=2", NULL, 0, 0},
    {"two sums of 8", MOE_T_DW1, MOE_T_DH, "sm_80", NULL, 0, 0},
    {"a factor of 1 - 2^-12 in one column", MOE_T_H, MOE_T_COUNT, "sm_90", half_step_lost, 0, 1},
};

/* What the planted tests share: a layer and its right results. */
typedef struct bench {
    moe_problem *p;
    moe_reference_result *res;
    moe_arithmetic how;
} bench;

static bench play(const char *line, moe_dtype dtype) {
    bench b = {.p = drawn(line)};
    cr_assert_eq(moe_arithmetic_parse("sm_90", &b.how), MOE_OK);
    moe_reference_params params = {.tokens = b.p->T,
                                   .precision = (int32_t)dtype,
                                   .threads = 2,
                                   .plan = b.p->plan,
                                   .plan_given = b.p->plan != NULL,
                                   .seed = b.p->seed,
                                   .products = &b.how};
    cr_assert_eq(moe_reference_run(&b.p->layer, &b.p->in, &params, NULL, &b.res), MOE_OK);
    return b;
}

static void put_away(bench *b) {
    moe_reference_result_destroy(&b->res);
    moe_problem_destroy(&b->p);
}

static moe_check_result *judge(const bench *b, moe_dtype dtype, const char *bits) {
    moe_check_params params = {.threads = 2, .no_explanation = true, .bits = bits};
    moe_check_result *r = NULL;
    cr_assert_eq(moe_int_result_create(b->p, "test", "--backend test", NULL, &r), MOE_OK);
    moe_int_subject subject = {
        .problem = b->p, .arithmetic = dtype, .got = b->res->out, .plan = b->res->plan};
    cr_assert_eq(moe_int_judge(&subject, &params, NULL, r), MOE_OK);
    return r;
}

/* Expert e's product of a stage, wrong as the bug says; returns elements with other bits. */
static int64_t plant_in(const bench *b, moe_dtype dtype, const planted *bug,
                        const moe_int_chain *chain, const moe_int_source *s, int64_t e) {
    const moe_int_exact_product p = moe_int_exact_product_of(s, bug->id, e);
    moe_int_packed left, right;
    float *out = b->res->out.t[bug->id].data, sum[MOE_INT_LANES];
    int64_t changed = 0;
    cr_assert_eq(moe_int_pack(&p.left, chain->format, MOE_INT_PACK_LEFT, 0, p.M, p.K, &left),
                 MOE_OK);
    cr_assert_eq(moe_int_pack(&p.right, chain->format, MOE_INT_PACK_RIGHT, 0, p.N, p.K, &right),
                 MOE_OK);
    for (int64_t i = 0; i < p.M && (bug->rows == 0 || i < bug->rows); i++)
        for (int64_t j = 0; j < p.N && (bug->columns == 0 || j < bug->columns); j++) {
            if (j % MOE_INT_LANES == 0)
                moe_int_chain_row(chain, &left, i, &right, j / MOE_INT_LANES, sum);
            const place at = {i, j, sum[j % MOE_INT_LANES]};
            float *x = &out[p.out + i * p.N + j];
            const float is = (float)moe_round_to(bug->wrong ? bug->wrong(&at) : at.sum, dtype);
            changed += is != *x;
            *x = is;
        }
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return changed;
}

static int64_t plant(const bench *b, moe_dtype dtype, const planted *bug) {
    moe_int_codes from = {NULL};
    moe_arithmetic how;
    moe_int_chain chain;
    const moe_tensor none = {0};
    int64_t changed = 0;
    moe_int_source s = {.problem = b->p,
                        .plan = b->res->plan,
                        .S = &none,
                        .X = b->p->in.t[MOE_T_X].data,
                        .W1 = b->p->in.t[MOE_T_W1].data,
                        .W2 = b->p->in.t[MOE_T_W2].data};
    cr_assert_eq(moe_arithmetic_parse(bug->arithmetic, &how), MOE_OK);
    cr_assert_eq(moe_int_chain_make(
                     &how, dtype == MOE_BF16 ? MOE_INT_FORMAT_BF16 : MOE_INT_FORMAT_FP16, &chain),
                 MOE_OK);
    if (bug->from != MOE_T_COUNT)
        cr_assert_eq(moe_int_codes_of(&b->res->out.t[bug->from], dtype, &from), MOE_OK);
    s.from = from.at;
    for (int64_t e = 0; e < b->p->layer.E; e++)
        changed += plant_in(b, dtype, bug, &chain, &s, e);
    free(from.at);
    return changed;
}

Test(bits_planted, tolerances_pass_and_bits_name_them) {
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        bench b = play(LAYER "bf16", MOE_BF16);
        const int64_t changed = plant(&b, MOE_BF16, &bugs[i]);
        moe_check_result *by_tolerance = judge(&b, MOE_BF16, "none");
        moe_check_result *by_bits = judge(&b, MOE_BF16, "sm_90");
        cr_expect(changed > 0, "%s: nothing was changed", bugs[i].what);
        cr_expect_eq(by_tolerance->verdict, MOE_VERDICT_PASS, "%s: %s", bugs[i].what,
                     by_tolerance->why);
        cr_expect_eq(by_bits->verdict, MOE_VERDICT_FAIL, "%s passes", bugs[i].what);
        cr_expect_str_eq(by_bits->first_wrong_stage, moe_tensor_name(bugs[i].id), "%s",
                         bugs[i].what);
        fprintf(stderr, "%-42s %-4s %6lld elements of %lld\n", bugs[i].what,
                moe_tensor_name(bugs[i].id), (long long)changed,
                (long long)moe_tensor_count(&b.res->out.t[bugs[i].id]));
        moe_check_result_destroy(&by_tolerance);
        moe_check_result_destroy(&by_bits);
        put_away(&b);
    }
}
