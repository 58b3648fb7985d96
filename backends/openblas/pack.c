#include "pack.h"
#include "vector_math.h"

#include <string.h>

OB_CLONES void ob_add_scaled(float *y, float a, const float *x, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        y[i] += a * x[i];
}

OB_CLONES void ob_scale(float *y, float a, const float *x, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        y[i] = a * x[i];
}

void ob_gather(const ob_experts *experts, const float *src, int64_t row, int64_t rows, int64_t col,
               int64_t cols, bool weighted, float *ret, int64_t ld) {
    for (int64_t i = 0; i < rows; i++) {
        const float *from = src + ob_token_of(experts, row + i) * experts->d + col;
        if (weighted)
            ob_scale(ret + i * ld, ob_weight_of(experts, row + i), from, cols);
        else
            memcpy(ret + i * ld, from, (size_t)cols * sizeof *ret);
    }
}

OB_CLONES double ob_dot(const float *a, const float *b, int64_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

OB_CLONES void ob_sum_start(const ob_layer *layer, const float *gradient, int64_t count,
                            double *ret) {
    for (int64_t j = 0; j < count; j++)
        ret[j] = layer->accumulates ? (double)gradient[j] : 0;
}

void ob_sum_row(double *sums, double scale, const float *row, int64_t count) {
#pragma omp simd
    for (int64_t j = 0; j < count; j++)
        sums[j] += scale * (double)row[j];
}

void ob_narrow(const double *sums, float *ret, int64_t count) {
    for (int64_t j = 0; j < count; j++)
        ret[j] = (float)sums[j];
}
