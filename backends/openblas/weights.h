/* The experts' weights as they lie in memory, and products of rows with them. */
#ifndef MOEREF_OPENBLAS_WEIGHTS_H
#define MOEREF_OPENBLAS_WEIGHTS_H

#include "codes.h"
#include "rows.h"

struct ob_layer;

/* Matrices [rows][cols] of fp32, bf16 or fp16, one for each expert. */
typedef struct ob_weights {
    const void *data;
    int32_t type; /* moe_dtype */
    bool turned;  /* in memory they are [cols][rows] */
    int64_t rows, cols;
    const ob_codes *codes; /* in place of data; NULL: values */
} ob_weights;

/* Can products read weights of this dtype? */
bool ob_weights_readable(int32_t dtype);

/* y [rows][cols] = x W^T + beta y, x rounded to bf16 where ob_rounds allows it, where W is an
 * expert's matrix, or, `across`, its transpose; the columns of y are those from `col` on. */
typedef struct ob_product {
    const ob_weights *w;
    bool across;
    int64_t expert, col;
    int64_t rows, cols;
    const float *x;
    int64_t ldx;
    float *scratch; /* room for x, or x itself, which is lost then */
    float beta;     /* 0 or 1 */
    float *y;
    int64_t ldy;
} ob_product;

/* On one thread, by OpenBLAS or by rows.h, whichever is faster for so many rows of such weights. */
void ob_multiply(const struct ob_layer *layer, const ob_product *product);

#endif
