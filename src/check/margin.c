/* The rounding margin of the router: how far a correct backend's logits may lie from the oracle's.
 *
 * The GEMM. A sum of d products added in fp32 (roundoff u) errs with variance
 * (u^2 / 3) (1 + d/2) sum_i (x_i w_i)^2 (see zscore.c); the bound is 8 u sqrt((1 + d/2) sum (x
 * w)^2), some 14 standard deviations of a sequential sum. A bias adds the roundoff of one addition.
 *
 * The score. A backend may choose by softmax(z) or sigmoid(z) evaluated in fp32, with b_select
 * added. An error ds of the score s is the same as a shift of the logit by which s becomes s + ds:
 * log(1 + ds/s) for softmax, logit(s + ds) - z for sigmoid, where
 *     ds = u (4 s + |z - z_max| s + |s + b|) + smallest normal number
 * counts the roundings of exp, its argument, the sum and the division, and of adding b. */
#include "check/check_int.h"

#include "reference/loops.h"

#include <float.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

int moe_int_check_threads(int32_t wanted) {
    if (wanted > 0)
        return wanted;
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

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
    moe_status s = x && w ? MOE_OK : MOE_E_NOMEM;
    free(x);
    free(w);
    return s;
}

static double sigmoid_shift(double z, double b, double u) {
    double s = 1 / (1 + exp(-z));
    double raised = s + u * (4 * s + fabs(s + b)) + FLT_MIN;
    if (raised >= 1)
        raised = 1 - DBL_EPSILON / 2;
    double shift = log(raised) - log1p(-raised) - z;
    return shift > 0 ? shift : 0;
}

/* One token: adds what evaluating the score may shift to margin[n]. */
static void add_score_shift(const moe_problem *problem, const double *z, int64_t n, double u,
                            double *margin) {
    int32_t score = problem->layer.router.score;
    const moe_tensor *b = &problem->in.t[MOE_T_B_SELECT];
    double top = -INFINITY, sum = 0;
    if (score != MOE_SCORE_SOFTMAX && score != MOE_SCORE_SIGMOID)
        return;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    for (int64_t i = 0; i < n; i++) {
        double bias =
            problem->layer.router.select_bias ? moe_load(b->data, b->dtype, (size_t)i) : 0;
        if (score == MOE_SCORE_SIGMOID) {
            margin[i] += sigmoid_shift(z[i], bias, u);
            continue;
        }
        double s = exp(z[i] - top) / sum;
        double ds = u * (4 * s + (top - z[i]) * s + fabs(s + bias)) + FLT_MIN;
        margin[i] += log1p(ds / fmax(s, DBL_MIN));
    }
}

moe_status moe_int_routing_margin(const moe_problem *problem, const double *logits,
                                  moe_dtype arithmetic, int threads, double **ret) {
    int64_t n = problem->layer.E + problem->layer.n_zero, count = problem->T * n;
    double u = moe_dtype_roundoff(arithmetic == MOE_F64 ? MOE_F64 : MOE_F32);
    double *margin = malloc((size_t)count * sizeof *margin);
    moe_status s = margin ? sum_squares(problem, n, threads, margin) : MOE_E_NOMEM;
    if (s) {
        free(margin);
        return s;
    }
    double terms = 1 + (double)problem->layer.d / 2;
    for (int64_t i = 0; i < count; i++)
        margin[i] = 8 * u * sqrt(terms * margin[i]) +
                    (problem->layer.router.bias ? u * fabs(logits[i]) : 0);
    for (int64_t t = 0; t < problem->T; t++)
        add_score_shift(problem, logits + t * n, n, u, margin + t * n);
    *ret = margin;
    return MOE_OK;
}
