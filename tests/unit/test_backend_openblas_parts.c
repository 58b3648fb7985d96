/* Parts of the openblas plug-in by themselves: the accuracy of its vector functions, and which
 * OpenBLAS kernels it asks for. */
#include "activation.h"
#include "blas.h"
#include "moeref/rng.h"
#include "vector_math.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 1 << 16 };

/* Distance in units of the last place of fp32 at `want`. */
static double ulps(float got, double want) {
    return fabs((double)got - want) / ldexp(1, ilogb(want) - 23);
}

static double exact_sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double exact_normal_cdf(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

static void expect_accurate(void (*fast)(const float *, float *, int64_t), double (*exact)(double),
                            double low, double high, double limit) {
    float *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
    for (size_t i = 0; i < COUNT; i++)
        x[i] = (float)(low + (high - low) * moe_rng_uniform(1, 0, i));
    fast(x, y, COUNT);
    double worst = 0, at = 0;
    for (size_t i = 0; i < COUNT; i++) {
        double u = ulps(y[i], exact((double)x[i]));
        if (!(u <= worst)) {
            worst = u;
            at = (double)x[i];
        }
    }
    cr_expect(worst <= limit, "%.2f ulp at %g, limit %.1f", worst, at, limit);
    free(x);
    free(y);
}

Test(openblas_parts, vector_functions_are_accurate) {
    expect_accurate(ob_exp_nonpositive, exp, -86.9, 0, 1.5);
    expect_accurate(ob_exp_nonpositive, exp, -1, 0, 1.5);
    expect_accurate(ob_sigmoid, exact_sigmoid, -86, 86, 3.5);
    expect_accurate(ob_sigmoid, exact_sigmoid, -4, 4, 3.5);
    expect_accurate(ob_normal_cdf, exact_normal_cdf, -12.9, 12.9, 8);
    expect_accurate(ob_normal_cdf, exact_normal_cdf, -1, 1, 8);
}

/* Any count: the vector loops have tails. */
Test(openblas_parts, special_values) {
    const float x[] = {-0.0f, 0.0f, -INFINITY, INFINITY, NAN, -1e30f, 1e-40f, 100.0f, -100.0f};
    const int count = sizeof x / sizeof *x;
    float y[sizeof x / sizeof *x];
    const double sigmoid[] = {0.5, 0.5, 0, 1, NAN, 0, 0.5, 1, 0};
    ob_sigmoid(x, y, count);
    for (int i = 0; i < count; i++)
        cr_expect(isnan(sigmoid[i]) ? isnan(y[i]) : y[i] == (float)sigmoid[i], "sigmoid(%g) = %g",
                  (double)x[i], (double)y[i]);
    ob_normal_cdf(x, y, count);
    for (int i = 0; i < count; i++)
        cr_expect(isnan(sigmoid[i]) ? isnan(y[i]) : y[i] == (float)sigmoid[i], "Phi(%g) = %g",
                  (double)x[i], (double)y[i]);
}

/* Slopes against central differences of the function itself, over tails of the vector loops. */
Test(openblas_parts, slopes_match_differences) {
    enum { N = 37 };
    for (int kind = 0; kind < MOE_ACT_COUNT; kind++) {
        ob_act act = {.kind = kind, .layout = MOE_GLU_CONCAT, .n = N, .alpha = 1.702f, .limit = 7};
        float h[2 * N], up[2 * N], down[2 * N], ones[N], scaled[N], dh[2 * N], hi[N], lo[N];
        const float step = 1.0f / 64;
        for (int j = 0; j < N; j++)
            ones[j] = 1;
        for (int j = 0; j < 2 * N; j++) {
            h[j] = (float)(8 * moe_rng_uniform(2, (uint64_t)kind, (uint64_t)j) - 4);
            up[j] = h[j] + (j < N ? step : 0);
            down[j] = h[j] - (j < N ? step : 0);
        }
        ob_act_backward(&act, h, ones, 1, scaled, dh);
        ob_act_forward(&act, up, hi);
        ob_act_forward(&act, down, lo);
        for (int j = 0; j < N; j++) {
            double slope = ((double)hi[j] - (double)lo[j]) / (2 * (double)step);
            if (fabsf(h[j]) > 2 * step) /* the kinks of relu */
                cr_expect(fabs(slope - (double)dh[j]) < 2e-3 * (1 + fabs(slope)),
                          "act %d at %g: %g, difference %g", kind, (double)h[j], (double)dh[j],
                          slope);
        }
    }
}

Test(openblas_parts, returns_dS_and_the_weighted_activation) {
    enum { N = 19 };
    ob_act act = {.kind = MOE_ACT_SWIGLU, .layout = MOE_GLU_INTERLEAVED, .n = N};
    float h[2 * N], d_act[N], a[N], scaled[N], dh[2 * N];
    double dot = 0;
    for (int j = 0; j < 2 * N; j++)
        h[j] = (float)moe_rng_normal(3, 0, (uint64_t)j);
    for (int j = 0; j < N; j++)
        d_act[j] = (float)moe_rng_normal(3, 1, (uint64_t)j);
    ob_act_forward(&act, h, a);
    double dS = ob_act_backward(&act, h, d_act, 0.25f, scaled, dh);
    for (int j = 0; j < N; j++) {
        dot += (double)d_act[j] * (double)a[j];
        cr_expect_eq(scaled[j], 0.25f * a[j]);
    }
    cr_expect(fabs(dS - dot) <= 1e-12 * (1 + fabs(dot)));
}

static void load_or_skip(ob_blas *blas) {
    char reason[256];
    if (ob_blas_load(blas, reason, sizeof reason))
        cr_skip("%s", reason);
}

/* Each test is a process of its own, so OpenBLAS's constructor runs in each. */
Test(openblas_parts, the_user_s_core_type_is_respected) {
#if defined(__x86_64__)
    ob_blas blas;
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    load_or_skip(&blas);
    cr_expect_str_eq(blas.core(), "Prescott");
    cr_expect_str_eq(getenv("OPENBLAS_CORETYPE"), "Prescott");
    cr_expect_eq(ob_blas_is_slow(&blas), (bool)__builtin_cpu_supports("avx2"));
#else
    cr_skip("core types of x86-64");
#endif
}

Test(openblas_parts, the_processor_s_vectors_are_used_otherwise) {
#if defined(__x86_64__)
    ob_blas blas;
    unsetenv("OPENBLAS_CORETYPE");
    load_or_skip(&blas);
    cr_expect_null(getenv("OPENBLAS_CORETYPE"), "left for processes started later");
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        cr_expect_str_eq(blas.core(), "SkylakeX");
    else if (__builtin_cpu_supports("avx2"))
        cr_expect_str_eq(blas.core(), "Haswell");
    cr_expect_not(ob_blas_is_slow(&blas));
#else
    cr_skip("core types of x86-64");
#endif
}
