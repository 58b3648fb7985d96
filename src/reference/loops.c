#include "reference/loops.h"

#include <string.h>

/* Multiply-adds under which waking the other threads costs more than they save. */
static const int64_t worth_threads = 4000000;

void loop_linear(const real *x, int64_t rows, int64_t in, const real *w, int64_t outs,
                 const real *b, int threads, real *out) {
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t ro = 0; ro < rows * outs; ro++) {
        const real *xr = x + ro / outs * in, *wo = w + ro % outs * in;
        real sum = 0;
        for (int64_t i = 0; i < in; i++)
            sum += xr[i] * wo[i];
        out[ro] = b ? sum + b[ro % outs] : sum;
    }
}

void loop_times(const real *g, int64_t rows, int64_t outs, const real *w, int64_t in, int threads,
                real *out) {
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t r = 0; r < rows; r++) {
        real *sum = out + r * in;
        memset(sum, 0, (size_t)in * sizeof *sum);
        for (int64_t o = 0; o < outs; o++)
            for (int64_t i = 0; i < in; i++)
                sum[i] += g[r * outs + o] * w[o * in + i];
    }
}

void loop_outer(const real *g, int64_t rows, int64_t outs, const real *x, int64_t in, int threads,
                real *out) {
#pragma omp parallel for num_threads(threads) if (rows * outs * in > worth_threads)
    for (int64_t o = 0; o < outs; o++) {
        real *sum = out + o * in;
        memset(sum, 0, (size_t)in * sizeof *sum);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < in; i++)
                sum[i] += g[r * outs + o] * x[r * in + i];
    }
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
