/* Moving rows: gathers into packing buffers, sums over a token's pairs, dot products. */
#ifndef MOEREF_OPENBLAS_PACK_H
#define MOEREF_OPENBLAS_PACK_H

#include "tasks.h"

/* ret[i * ld + 0..cols) = scale * src[token of row+i][col .. col+cols), src [T][d]. The scale is
 * the row's weight if `weighted`, else 1. */
void ob_gather(const ob_experts *experts, const float *src, int64_t row, int64_t rows, int64_t col,
               int64_t cols, bool weighted, float *ret, int64_t ld);

/* y += a x */
void ob_add_scaled(float *y, float a, const float *x, int64_t count);

/* y = a x; y may be x. */
void ob_scale(float *y, float a, const float *x, int64_t count);

/* Accumulated in float64. */
double ob_dot(const float *a, const float *b, int64_t count);

/* Where a column sum starts: at 0, or at what the gradient holds that it is added to. */
void ob_sum_start(const ob_layer *layer, const float *gradient, int64_t count, double *ret);

/* sums += scale * row, in float64: the step of a column sum. */
void ob_sum_row(double *sums, double scale, const float *row, int64_t count);

/* ret[j] = (float)sums[j] */
void ob_narrow(const double *sums, float *ret, int64_t count);

#endif
