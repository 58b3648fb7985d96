/* Logits and weights, which 16-bit kernels keep in fp32, of rows of any width: what tensor cores
 * cut off grows with the width, and no right sum may fail, nor a wrong one pass. */
#include "both_oracles.h"
#include "check/compare/compare.h"
#include "moeref/arithmetic.h"
#include "route/route.h"

#include <stdlib.h>

enum { T = 16, E = 64, K = 4, LOGITS = T * E };

/* Terms that are added exactly before the sum is cut off to fp32; 0: the chain that `chain` names.
 */
typedef struct way {
    const char *name, *chain;
    int exact;
} way;

static const way right[] = {{"Hopper", "sm_90", 0},     {"Ampere", "sm_80", 0},
                            {"fp32", "fp32", 0},        {"split", "sm_90+split=4", 0},
                            {"of 16, exact", NULL, 16}, {"of 8, exact", NULL, 8}};

static float towards_0(double exact) {
    const float v = (float)exact;
    return fabs((double)v) > fabs(exact) ? nextafterf(v, 0) : v;
}

static float exact_steps(const double *x, const double *w, int64_t d, int terms) {
    float sum = 0;
    for (int64_t k = 0; k < d; k += terms) {
        double exact = sum;
        for (int64_t i = k; i < k + terms && i < d; i++)
            exact += x[i] * w[i];
        sum = towards_0(exact);
    }
    return sum;
}

/* Of the reference, whose products are those of that unit. */
static void chained(const both *b, const char *name, moe_dtype arithmetic, float *ret) {
    moe_arithmetic how;
    moe_reference_params params = {.tokens = T,
                                   .precision = arithmetic,
                                   .threads = 2,
                                   .plan = b->routing.plan,
                                   .products = &how};
    moe_reference_result *res = NULL;
    cr_assert_eq(moe_arithmetic_parse(name, &how), MOE_OK);
    cr_assert_eq(moe_reference_run(&b->problem->layer, &b->problem->in, &params, NULL, &res),
                 MOE_OK);
    cr_assert_eq(res->out.t[MOE_T_LOGITS].dtype, MOE_F32);
    memcpy(ret, res->out.t[MOE_T_LOGITS].data, LOGITS * sizeof *ret);
    moe_reference_result_destroy(&res);
}

static void make_logits(const both *b, const way *how, moe_dtype arithmetic, float *ret) {
    const int64_t d = b->problem->layer.d;
    if (how->chain) {
        chained(b, how->chain, arithmetic, ret);
        return;
    }
    double *x = moe_int_doubles(&b->problem->in.t[MOE_T_X], 0, T * d);
    double *w = moe_int_doubles(&b->problem->in.t[MOE_T_W_R], 0, E * d);
    for (int i = 0; i < LOGITS; i++)
        ret[i] = exact_steps(x + i / E * d, w + i % E * d, d, how->exact);
    free(x);
    free(w);
}

static moe_tensor_verdict judge(const both *b, moe_tensor_id id, moe_dtype arithmetic, float *got) {
    moe_tensor t = b->full.oracle->out.t[id];
    t.data = got;
    t.dtype = MOE_F32;
    const moe_int_comparison c = {.id = id,
                                  .arithmetic = arithmetic,
                                  .promised_fp32 = true,
                                  .in_fp32 = true,
                                  .desc = &b->problem->layer,
                                  .got = &t,
                                  .want = &b->full.oracle->out.t[id],
                                  .variance = &b->full.variance.t[id],
                                  .plan = b->routing.plan,
                                  .truth = "oracle"};
    moe_tensor_verdict v;
    moe_int_compare(&c, &v);
    return v;
}

/* softmax over a token's experts, in fp32. */
static void make_weights(const both *b, const float *z, float *ret) {
    const moe_plan *plan = b->routing.plan;
    for (int64_t t = 0; t < T; t++) {
        float top = -INFINITY, sum = 0;
        for (int pass = 0; pass < 3; pass++)
            for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
                const int64_t p = plan->pair_of_token[i];
                const float own = z[t * E + moe_int_plan_expert_of(plan, p)];
                if (pass == 0)
                    top = fmaxf(top, own);
                else if (pass == 1)
                    sum += ret[p] = expf(own - top);
                else
                    ret[p] /= sum;
            }
    }
}

static both open_wide(int64_t d, moe_dtype arithmetic) {
    char line[128];
    snprintf(line, sizeof line, "T=%d d=%lld n=1 E=%d K=%d dtype=%s renorm=1 pass=fwd seed=%lld", T,
             (long long)d, E, K, moe_dtype_name(arithmetic), (long long)d);
    return open_both(line, arithmetic);
}

/* With what sums of the published tensor cores reach, and a step that cuts off more than any. */
static void expect_right(const both *b, const way *how, moe_dtype arithmetic) {
    const bool made_up = !how->chain;
    float z[LOGITS], w[T * K];
    make_logits(b, how, arithmetic, z);
    make_weights(b, z, w);
    const moe_tensor_verdict logits = judge(b, MOE_T_LOGITS, arithmetic, z),
                             weights = judge(b, MOE_T_S, arithmetic, w);
    const long long d = b->problem->layer.d;
    cr_expect_eq(logits.verdict, MOE_VERDICT_PASS, "%s, d %lld: %s", how->name, d, logits.why);
    cr_expect_eq(weights.verdict, MOE_VERDICT_PASS, "%s, d %lld: %s", how->name, d, weights.why);
    cr_expect_lt(logits.max_z, made_up ? 4 : 2.5, "%s, d %lld: z %g", how->name, d, logits.max_z);
    cr_expect_lt(logits.row_rms_z, made_up ? 1.25 : 0.75, "%s, d %lld: row rms z %g", how->name, d,
                 logits.row_rms_z);
    cr_expect_lt(weights.max_z, made_up ? 4 : 3, "%s, d %lld: z %g", how->name, d, weights.max_z);
}

/* Logits `z` are wrong: they fail, and weights of them. */
static void expect_wrong(const both *b, moe_dtype arithmetic, const char *what, float *z) {
    float w[T * K];
    make_weights(b, z, w);
    const long long d = b->problem->layer.d;
    cr_expect_eq(judge(b, MOE_T_LOGITS, arithmetic, z).verdict, MOE_VERDICT_FAIL, "%s, d %lld",
                 what, d);
    if (strstr(what, "fp16")) /* of which d = 32768 may make as much */
        return;
    cr_expect_eq(judge(b, MOE_T_S, arithmetic, w).verdict, MOE_VERDICT_FAIL, "%s, d %lld: weights",
                 what, d);
}

static void expect_rounded_wrong(const both *b, moe_dtype arithmetic, moe_dtype type) {
    const double *truth = b->full.oracle->out.t[MOE_T_LOGITS].data;
    const float off = 1 + 0x1p-22F; /* no more than rounding, which no longer looks like it */
    float z[LOGITS], w[T * K];
    for (int i = 0; i < LOGITS; i++)
        z[i] = off * (float)moe_round_to(truth[i], type);
    expect_wrong(b, arithmetic, type == MOE_F16 ? "stored in fp16" : "stored in bf16", z);
    for (int i = 0; i < LOGITS; i++)
        z[i] = (float)truth[i];
    make_weights(b, z, w);
    for (int i = 0; i < T * K; i++)
        w[i] = (float)moe_round_to((double)w[i], type);
    cr_expect_eq(judge(b, MOE_T_S, arithmetic, w).verdict, MOE_VERDICT_FAIL,
                 "weights stored in %s, d %lld", moe_dtype_name(type),
                 (long long)b->problem->layer.d);
}

/* Of a W_r that lost three bits, and of sums that are kept in bf16 every 16 terms. */
static void expect_lost_bits_wrong(const both *b, moe_dtype arithmetic) {
    const int64_t d = b->problem->layer.d;
    float z[LOGITS];
    chained(b, "sm_90+block=16+carry_bf16", arithmetic, z);
    expect_wrong(b, arithmetic, "carried in bf16", z);
    double *x = moe_int_doubles(&b->problem->in.t[MOE_T_X], 0, T * d);
    double *w = moe_int_doubles(&b->problem->in.t[MOE_T_W_R], 0, E * d);
    for (int64_t i = 0; i < E * d; i++)
        w[i] = moe_round_to(w[i], MOE_BF16);
    for (int i = 0; arithmetic == MOE_F16 && i < LOGITS; i++)
        z[i] = exact_steps(x + i / E * d, w + i % E * d, d, 16);
    if (arithmetic == MOE_F16) /* bf16 has those bits alone */
        expect_wrong(b, arithmetic, "of W_r in bf16", z);
    free(x);
    free(w);
}

Test(check_logits, of_wide_rows, .timeout = 300) {
    static const int64_t widths[] = {64, 1024, 7168, 32768};
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++) {
        const moe_dtype arithmetic = i & 1 ? MOE_F16 : MOE_BF16;
        both b = open_wide(widths[i / 2], arithmetic);
        for (size_t k = 0; k < sizeof right / sizeof *right; k++)
            expect_right(&b, &right[k], arithmetic);
        expect_rounded_wrong(&b, arithmetic, MOE_BF16);
        expect_rounded_wrong(&b, arithmetic, MOE_F16);
        expect_lost_bits_wrong(&b, arithmetic);
        close_both(&b);
    }
}
