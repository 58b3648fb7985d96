#include "reference/loops.h"

#include <string.h>

/* Multiply-adds under which waking the other threads costs more than they save. */
static const int64_t worth_threads = 4000000;

/* Sums that are built side by side: their additions do not wait for each other. The order inside
 * each sum is that of the plain loop. */
enum { AT_ONCE = 4 };

/* ret[o] = sum_i x[i] w[o][i] + b[o] for AT_ONCE rows of w. */
static void four_dots(const real *x, const real *w, int64_t in, const real *b, real *ret) {
    real sum[AT_ONCE] = {0};
    for (int64_t i = 0; i < in; i++)
        for (int o = 0; o < AT_ONCE; o++)
            sum[o] += x[i] * w[o * in + i];
    for (int o = 0; o < AT_ONCE; o++)
        ret[o] = b ? sum[o] + b[o] : sum[o];
}

static real dot(const real *x, const real *w, int64_t in) {
    real sum = 0;
    for (int64_t i = 0; i < in; i++)
        sum += x[i] * w[i];
    return sum;
}

void loop_linear(const real *x, int64_t rows, int64_t in, const real *w, int64_t outs,
                 const real *b, int threads, real *out) {
    const int64_t blocks = (outs + AT_ONCE - 1) / AT_ONCE;
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t rb = 0; rb < rows * blocks; rb++) {
        const int64_t r = rb / blocks, first = rb % blocks * AT_ONCE;
        const real *xr = x + r * in;
        if (first + AT_ONCE <= outs) {
            four_dots(xr, w + first * in, in, b ? b + first : NULL, out + r * outs + first);
            continue;
        }
        for (int64_t o = first; o < outs; o++)
            out[r * outs + o] = b ? dot(xr, w + o * in, in) + b[o] : dot(xr, w + o * in, in);
    }
}

/* sum[i] = sum_k g[k * stride] row[k][i] over `count` rows, in ascending k. */
static void weighted_rows(const real *g, int64_t stride, int64_t count, const real *row, int64_t in,
                          real *restrict sum) {
    int64_t k = 0;
    memset(sum, 0, (size_t)in * sizeof *sum);
    for (; k + AT_ONCE <= count; k += AT_ONCE) {
        const real *a = row + k * in, *b = a + in, *c = b + in, *d = c + in;
        const real *ga = g + k * stride, *gb = ga + stride, *gc = gb + stride, *gd = gc + stride;
        for (int64_t i = 0; i < in; i++)
            sum[i] = sum[i] + *ga * a[i] + *gb * b[i] + *gc * c[i] + *gd * d[i];
    }
    for (; k < count; k++)
        for (int64_t i = 0; i < in; i++)
            sum[i] += g[k * stride] * row[k * in + i];
}

void loop_times(const real *g, int64_t rows, int64_t outs, const real *w, int64_t in, int threads,
                real *out) {
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t r = 0; r < rows; r++)
        weighted_rows(g + r * outs, 1, outs, w, in, out + r * in);
}

void loop_outer(const real *g, int64_t rows, int64_t outs, const real *x, int64_t in, int threads,
                real *out) {
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t o = 0; o < outs; o++)
        weighted_rows(g + o, outs, rows, x, in, out + o * in);
}

void loop_square(const real *x, int64_t count, real *out) {
    for (int64_t i = 0; i < count; i++)
        out[i] = x[i] * x[i];
}

void loop_round(real *x, int64_t count, moe_dtype dtype) {
    if (dtype == MOE_F64 || dtype == MOE_F32)
        return;
    for (int64_t i = 0; i < count; i++)
        x[i] = (real)moe_round_to((double)x[i], dtype);
}
