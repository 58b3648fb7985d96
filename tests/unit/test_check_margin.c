/* How far rounding may shift a logit: each side alone, and what both together decide. */
#include "check/routing/routing.h"
#include "check/verdict/result.h"
#include "drawn.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <string.h>

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

/* Roundings of a score s near b: of exp, its argument z below the largest, the sum and the
 * division, and of adding b (margin.c). */
static double score_error(double s, double below, double b) {
    return 0x1p-24 * (4 * s + below * s + fabs(s + b)) + FLT_MIN;
}

static void fill(moe_tensor *t, float value) {
    cr_assert_eq(t->dtype, MOE_F32);
    for (int64_t i = 0; i < moe_tensor_count(t); i++)
        ((float *)t->data)[i] = value;
}

/* Logits from zero weights have no rounding of their own, so the shifts are the score's alone: up
 * to s + ds, down to s - ds, no bound where that leaves (0, 1). 1e-6: a float64 logit of 30 has a
 * rounding of 4e-15, the smallest shift here is 2e-7. */
Test(check_margin, score_shifts_either_way) {
    static const double z[] = {-200, -30, -3, -0.5, 0.25, 2, 12, 40};
    double up[8], down[8];
    for (int bias = 0; bias < 2; bias++) {
        moe_problem *p =
            drawn("T=1 d=8 n=4 E=8 K=2 dtype=fp32 score=sigmoid select_bias=1 r_scale=0");
        fill(&p->in.t[MOE_T_B_SELECT], (float)bias);
        cr_assert_eq(moe_int_routing_margin(p, z, &(moe_int_reading){MOE_F32, 0}, 1, up, down),
                     MOE_OK);
        for (int i = 0; i < 8; i++) {
            double s = sigmoid(z[i]), ds = score_error(s, 0, bias);
            if (s + ds >= 1)
                cr_expect_gt(up[i], 1000, "z %g: up %g", z[i], up[i]);
            else
                cr_expect_float_eq((sigmoid(z[i] + up[i]) - s) / ds, 1, 1e-6, "z %g: up", z[i]);
            if (s - ds <= 0)
                cr_expect_gt(down[i], 1000, "z %g: down %g", z[i], down[i]);
            else
                cr_expect_float_eq((s - sigmoid(z[i] - down[i])) / ds, 1, 1e-6, "z %g: down", z[i]);
        }
        moe_problem_destroy(&p);
    }
}

/* Two experts whose scores lie `gap` errors ds apart, and a backend that takes the lower one. */
static moe_verdict choose_the_lower(const char *line, double gap) {
    moe_problem *p = drawn(line);
    const float bias = 1000; /* beside it the roundings of the logits count for nothing */
    float *w = p->in.t[MOE_T_W_R].data, *x = p->in.t[MOE_T_X].data, z = 0;
    double s = p->layer.router.score == MOE_SCORE_SOFTMAX ? 0.5 : 0, steep;
    fill(&p->in.t[MOE_T_B_SELECT], bias);
    for (int i = 0; i < 8; i++)
        z += w[i] * x[i];
    if (s == 0)
        s = sigmoid(z);
    steep = p->layer.router.score == MOE_SCORE_SOFTMAX ? s : s * (1 - s); /* ds per shift of z */
    for (int i = 0; i < 8; i++)
        w[8 + i] = (float)(w[i] * (1 - gap * score_error(s, 0, bias) / steep / z));
    moe_check_result *result = NULL;
    moe_int_routing routing;
    moe_plan *got = NULL;
    cr_assert_eq(moe_plan_create(1, 2, 1, (int32_t[]){0}, (int32_t[]){1}, NULL, NULL, &got),
                 MOE_OK);
    cr_assert_eq(moe_int_result_create(p, "test", "--backend test", NULL, &result), MOE_OK);
    cr_assert_eq(moe_int_routing_settle(p, got, MOE_INT_TOLD, &(moe_int_reading){MOE_F32, 0}, 1,
                                        NULL, result, &routing),
                 MOE_OK);
    moe_verdict verdict = moe_int_result_find(result, "topk_index")->verdict;
    moe_int_routing_destroy(&routing);
    moe_plan_destroy(&got);
    moe_check_result_destroy(&result);
    moe_problem_destroy(&p);
    return verdict;
}

/* Both scores err, one up and one down: less than 2 ds apart they may trade places, 1 ds would be
 * the reach of one side alone. */
Test(check_margin, both_sides_count) {
    static const char *const lines[] = {
        "T=1 d=8 n=4 E=2 K=1 dtype=fp32 score=sigmoid select_bias=1 seed=1",
        "T=1 d=8 n=4 E=2 K=1 dtype=fp32 score=softmax select_bias=1 seed=2",
    };
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(choose_the_lower(lines[i], 0.7), MOE_VERDICT_AMBIGUOUS, "%s", lines[i]);
        cr_expect_eq(choose_the_lower(lines[i], 1.7), MOE_VERDICT_AMBIGUOUS, "%s", lines[i]);
        cr_expect_eq(choose_the_lower(lines[i], 2.3), MOE_VERDICT_FAIL, "%s", lines[i]);
    }
}

static double added_to(const moe_problem *p, int e) {
    const moe_tensor *b = &p->in.t[MOE_T_B_R];
    return b->data ? moe_load(b->data, b->dtype, (size_t)e) : 0;
}

/* Six deviations of what tensor cores cut off of a sum of 5 terms (errors.h): of the squares, and
 * of the sum, which is at most sqrt(5 squares). */
static double cut_off(double squares, double sum) {
    const double most = sqrt(5 * squares), size = fmin(fabs(sum), most);
    const double drift = 2 * (1 + 4 * size / most) * 5 * size;
    return 6 * sqrt(0x1p-59 * (25 * squares + drift * drift));
}

/* No score beside the logits: the margin is the GEMM's, 8 u sqrt((1 + d/2) sum (x w)^2), and one
 * rounding of the logit where a bias is added; u is fp32's except beside float64. Where the recipe
 * stores the logit in 16 bits, half a step of bf16 comes to it; beside 16 bits what tensor cores
 * cut off. */
Test(check_margin, sums_of_products) {
    const struct {
        moe_dtype arithmetic;
        uint32_t points;
        double u, stored;
    } kinds[] = {{MOE_F32, 0, 0x1p-24, 0},
                 {MOE_BF16, ~(uint32_t)MOE_POINT_LOGITS, 0x1p-24, 0},
                 {MOE_BF16, MOE_POINT_LOGITS, 0x1p-24, 0x1p-8},
                 {MOE_F64, 0, 0x1p-53, 0}};
    for (int bias = 0; bias < 2; bias++)
        for (int k = 0; k < 4; k++) {
            moe_problem *p = drawn(bias ? "T=3 d=5 n=4 E=4 K=2 score=softmax_topk router_bias=1"
                                        : "T=3 d=5 n=4 E=4 K=2 score=softmax_topk");
            const double u = kinds[k].u;
            double z[12], up[12], down[12];
            for (int i = 0; i < 12; i++)
                z[i] = i - 5.5;
            const moe_int_reading reading = {kinds[k].arithmetic, kinds[k].points};
            cr_assert_eq(moe_int_routing_margin(p, z, &reading, 1, up, down), MOE_OK);
            for (int i = 0; i < 12; i++) {
                const moe_tensor *x = &p->in.t[MOE_T_X], *w = &p->in.t[MOE_T_W_R];
                double sum = 0;
                for (int c = 0; c < 5; c++)
                    sum += pow(moe_load(x->data, x->dtype, (size_t)(i / 4 * 5 + c)) *
                                   moe_load(w->data, w->dtype, (size_t)(i % 4 * 5 + c)),
                               2);
                double want =
                    8 * u * sqrt(3.5 * sum) + ((bias ? u : 0) + kinds[k].stored) * fabs(z[i]);
                if (kinds[k].arithmetic == MOE_BF16)
                    want += cut_off(sum, z[i] - added_to(p, i % 4));
                cr_expect_float_eq(up[i] / want, 1, 1e-12, "up %d: %g, not %g", i, up[i], want);
                cr_expect_eq(down[i], up[i]);
            }
            moe_problem_destroy(&p);
        }
}

/* softmax: by log(1 + ds/s), with s from logits of any size and sign. */
Test(check_margin, softmax_shifts) {
    static const double z[] = {-30, -3, -0.5, 1.25};
    double up[4], down[4];
    for (int bias = 0; bias < 2; bias++) {
        moe_problem *p = drawn("T=1 d=8 n=4 E=4 K=2 dtype=fp32 score=softmax select_bias=1 "
                               "r_scale=0");
        fill(&p->in.t[MOE_T_B_SELECT], (float)bias);
        cr_assert_eq(moe_int_routing_margin(p, z, &(moe_int_reading){MOE_F32, 0}, 1, up, down),
                     MOE_OK);
        double sum = 0;
        for (int i = 0; i < 4; i++)
            sum += exp(z[i]);
        for (int i = 0; i < 4; i++) {
            double s = exp(z[i]) / sum, ds = score_error(s, 1.25 - z[i], bias);
            cr_expect_float_eq(up[i] / log1p(ds / s), 1, 1e-9, "z %g", z[i]);
            cr_expect_eq(down[i], up[i]);
        }
        moe_problem_destroy(&p);
    }
}
