/* The reference's sums in other orders and other ways, each of them right: compiled with the rest
 * of the reference into a kernel that adds as kernels do. loops.h says what is computed. */
#include "odd.h"
#include "reference/loops.h"

#include <string.h>

static odd_sums ways;

void odd_set_sums(odd_sums sums) {
    ways = sums;
}

/* The element after v towards 0, if v + rest is nearer to 0 than v: an addition that truncates. */
static real truncated(double exact) {
    real v = (real)exact;
    return (double)v != exact && ((double)v > exact) == (exact > 0) ? nextafterf(v, 0) : v;
}

/* Sum of a[i * sa] b[i * sb] over i < n. */
static real ascending(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i * sa] * b[i * sb];
    return sum;
}

static real descending(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    real sum = 0;
    for (int64_t i = n; i-- > 0;)
        sum += a[i * sa] * b[i * sb];
    return sum;
}

/* Four parts of K, added at the end. */
static real split(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    real sum = 0;
    for (int64_t part = 0; part < 4; part++) {
        int64_t from = part * n / 4, to = (part + 1) * n / 4;
        sum += ascending(a + from * sa, sa, b + from * sb, sb, to - from);
    }
    return sum;
}

/* 16 products and the sum at once, exactly, then cut off to fp32. */
static real truncating(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    real sum = 0;
    for (int64_t k = 0; k < n; k += 16) {
        double exact = (double)sum;
        for (int64_t i = k; i < n && i < k + 16; i++)
            exact += (double)a[i * sa] * (double)b[i * sb];
        sum = truncated(exact);
    }
    return sum;
}

/* Exponent of v, whose significand lies in [1, 2); far below all others for 0. */
static int exponent(real v) {
    int e;
    frexpf(v, &e);
    return v == 0 ? -1000 : e - 1;
}

/* One step of a tensor core: every product, and the sum, cut off below 2^-kept of the largest
 * exponent among them, then added exactly (reference/tensorcore/unit.h). */
static double step(double sum, const real *a, int64_t sa, const real *b, int64_t sb, int64_t n,
                   int kept) {
    int top = exponent((real)sum);
    for (int64_t i = 0; i < n; i++) {
        const int e = exponent(a[i * sa]) + exponent(b[i * sb]);
        top = e > top ? e : top;
    }
    if (top < -500) /* all 0 */
        return 0;
    double ret = trunc(ldexp(sum, kept - top));
    for (int64_t i = 0; i < n; i++)
        ret += trunc(ldexp((double)a[i * sa] * (double)b[i * sb], kept - top));
    return ldexp(ret, top - kept);
}

static real steps(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n, int terms,
                  int kept) {
    real sum = 0;
    for (int64_t k = 0; k < n; k += terms)
        sum = truncated(
            step((double)sum, a + k * sa, sa, b + k * sb, sb, n - k < terms ? n - k : terms, kept));
    return sum;
}

static real steps_of_16(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    return steps(a, sa, b, sb, n, 16, 25);
}

static real steps_of_8(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    return steps(a, sa, b, sb, n, 8, 24);
}

static real fused(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum = fmaf(a[i * sa], b[i * sb], sum);
    return sum;
}

static real dot(const real *a, int64_t sa, const real *b, int64_t sb, int64_t n) {
    static real (*const way[])(const real *, int64_t, const real *, int64_t, int64_t) = {
        ascending, descending, split, truncating, steps_of_16, steps_of_8, fused};
    return way[ways](a, sa, b, sb, n);
}

void loop_linear(const real *x, int64_t rows, int64_t in, const real *w, int64_t outs,
                 const real *b, int threads, real *out) {
    (void)threads;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outs; o++)
            out[r * outs + o] = dot(x + r * in, 1, w + o * in, 1, in) + (b ? b[o] : 0);
}

void loop_times(const real *g, int64_t rows, int64_t outs, const real *w, int64_t in, int threads,
                real *out) {
    (void)threads;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < in; i++)
            out[r * in + i] = dot(g + r * outs, 1, w + i, in, outs);
}

void loop_outer(const real *g, int64_t rows, int64_t outs, const real *x, int64_t in, int threads,
                real *out) {
    (void)threads;
    for (int64_t o = 0; o < outs; o++)
        for (int64_t i = 0; i < in; i++)
            out[o * in + i] = dot(g + o, outs, x + i, in, rows);
}

void loop_square(const real *x, int64_t count, real *out) {
    for (int64_t i = 0; i < count; i++)
        out[i] = x[i] * x[i];
}

void loop_round(real *x, int64_t count, moe_dtype dtype) {
    for (int64_t i = 0; i < count && dtype != MOE_F32; i++)
        x[i] = (real)moe_round_to((double)x[i], dtype);
}
