/* The rounding margin of the router: how far a correct backend's logits may lie from the oracle's.
 *
 * The GEMM. A sum of d products added in fp32 (roundoff u) errs with variance
 * (u^2 / 3) (1 + d/2) sum_i (x_i w_i)^2 (see errors.h); the bound is 8 u sqrt((1 + d/2) sum (x
 * w)^2), some 14 standard deviations of a sequential sum. A bias adds the roundoff of one addition.
 * Beside 16 bits six deviations of what tensor cores cut off (errors.h) come to it.
 *
 * Logits that the recipe stores in 16 bits (MOE_POINT_LOGITS) move by half a step of that type.
 *
 * The score. A backend may choose by softmax(z) or sigmoid(z) evaluated in fp32, with b_select
 * added. An error ds of the score s is the same as a shift of the logit by which s becomes s + ds:
 * log(1 + ds/s) for softmax; logit(s + ds) - z up and z - logit(s - ds) down for sigmoid, where
 *     ds = u (4 s + |z - z_max| s + |s + b|) + smallest normal number
 * counts the roundings of exp, its argument, the sum and the division, and of adding b. */
#include "check/errors/errors.h"
#include "check/routing/routing.h"
#include "reference/loops.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Squares of a tensor's elements; NULL without memory. */
static double *squares(const moe_tensor *t) {
    int64_t count = moe_tensor_count(t);
    double *out = malloc((size_t)count * sizeof *out);
    if (!out)
        return NULL;
    moe_convert(out, MOE_F64, t->data, t->dtype, (size_t)count);
    moe_int_loop_square_f64(out, count, out);
    return out;
}

/* sum_i (x_i w_i)^2 for every token and expert. */
static moe_status sum_squares(const moe_problem *problem, int64_t n, int threads, double *ret) {
    double *x = squares(&problem->in.t[MOE_T_X]), *w = squares(&problem->in.t[MOE_T_W_R]);
    if (x && w)
        moe_int_loop_linear_f64(x, problem->T, problem->layer.d, w, n, NULL, threads, ret);
    moe_status status = x && w ? MOE_OK : MOE_E_NOMEM;
    free(x);
    free(w);
    return status;
}

static double logit(double s) {
    return log(s) - log1p(-s);
}

/* Largest shift: a score that rounds to 1 stands above every logit. */
#define SATURATED 1e4

static void add_sigmoid_shift(double z, double b, double u, double *up, double *down) {
    double s = 1 / (1 + exp(-z)), ds = u * (4 * s + fabs(s + b)) + FLT_MIN;
    *up += s + ds >= 1 ? SATURATED : fmax(logit(s + ds) - z, 0);
    *down += s - ds <= 0 ? SATURATED : fmax(z - logit(s - ds), 0);
}

/* One token: adds what evaluating the score may shift. */
static void add_score_shift(const moe_problem *problem, const double *z, int64_t n, double u,
                            double *up, double *down) {
    const moe_router_desc *r = &problem->layer.router;
    const moe_tensor *b = &problem->in.t[MOE_T_B_SELECT];
    double top = -INFINITY, sum = 0;
    if (r->score != MOE_SCORE_SOFTMAX && r->score != MOE_SCORE_SIGMOID)
        return;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    for (int64_t i = 0; i < n; i++) {
        double bias = r->select_bias ? moe_load(b->data, b->dtype, (size_t)i) : 0;
        if (r->score == MOE_SCORE_SIGMOID) {
            add_sigmoid_shift(z[i], bias, u, &up[i], &down[i]);
            continue;
        }
        double s = exp(z[i] - top) / sum;
        double ds = u * (4 * s + (top - z[i]) * s + fabs(s + bias)) + FLT_MIN;
        double shift = log1p(ds / fmax(s, DBL_MIN));
        up[i] += shift;
        down[i] += shift;
    }
}

/* Six deviations of what tensor cores cut off of a logit, whose squares sum to `square`. */
static double cut_off(const moe_int_rounding *r, double d, double square, double dot) {
    moe_int_rounding whole = *r;
    whole.sum = 0;
    return 6 * sqrt(r->u2 * moe_int_dot_errors(&whole, d, d * square, dot));
}

moe_status moe_int_routing_margin(const moe_problem *problem, const double *logits,
                                  const moe_int_reading *reading, int threads, double *ret_up,
                                  double *ret_down) {
    int64_t n = problem->layer.E + problem->layer.n_zero, count = problem->T * n;
    double u = moe_dtype_roundoff(reading->arithmetic == MOE_F64 ? MOE_F64 : MOE_F32);
    double stored =
        reading->points & MOE_POINT_LOGITS ? moe_dtype_roundoff(reading->arithmetic) : 0;
    double terms = 1 + (double)problem->layer.d / 2;
    const moe_int_rounding rounding = moe_int_rounding_at(reading->arithmetic, reading->points);
    const moe_tensor *b = &problem->in.t[MOE_T_B_R];
    moe_status status = sum_squares(problem, n, threads, ret_up);
    if (status)
        return status;
    for (int64_t i = 0; i < count; i++) {
        double bias = problem->layer.router.bias ? u * fabs(logits[i]) : 0;
        double added = b->data ? moe_load(b->data, b->dtype, (size_t)(i % n)) : 0;
        ret_up[i] = ret_down[i] =
            8 * u * sqrt(terms * ret_up[i]) + bias + stored * fabs(logits[i]) +
            cut_off(&rounding, (double)problem->layer.d, ret_up[i], logits[i] - added);
    }
    for (int64_t t = 0; t < problem->T; t++)
        add_score_shift(problem, logits + t * n, n, u, ret_up + t * n, ret_down + t * n);
    return MOE_OK;
}
