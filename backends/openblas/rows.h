/* Products of rows with a matrix of weights as it lies in memory, of any size, in fp32: few rows,
 * for which OpenBLAS would pack all of W first, and weights of 16 bits, which it cannot read.
 *
 * A row's result has the same bits whatever rows stand beside it, and whatever columns of it are
 * asked for. */
#ifndef MOEREF_OPENBLAS_ROWS_H
#define MOEREF_OPENBLAS_ROWS_H

#include "moeref/dtype.h"
#include "moeref/quant.h"

#include <stdbool.h>
#include <stdint.h>

/* Columns of x whose products are added up before they are added to y. */
#define OB_CHUNK 512
/* Codes whose blocks are so many columns wide, or times as many, or whole rows, are read where they
 * lie. */
#define OB_GROUP 32

/* A matrix W [columns of y][columns of x] of fp32, bf16 or fp16, or of codes. */
typedef struct ob_matrix {
    const void *data;
    int32_t type; /* moe_dtype */
    bool turned;  /* element (j, p) is not at j * ld + p but at p * ld + j */
    int64_t ld;
    /* Codes in place of values (moeref/quant.h), rows of `ld` of them; scale NULL: values. */
    const float *scale; /* of the whole matrix, */
    int64_t first_row;  /* in which `data` begins with this row */
    int32_t kind;       /* moe_quant_kind: int8, int4 or fp8 */
    int64_t block_rows, block_columns;
} ob_matrix;

/* y [rows][cols] = x [rows][depth] W^T + beta y, beta 0 or 1. x is as ob_rows_arrange left it. */
typedef struct ob_rows_product {
    int64_t rows, cols, depth;
    const float *x;
    int64_t ldx;
    ob_matrix w;
    float beta;
    float *y;
    int64_t ldy;
} ob_rows_product;

void ob_rows_multiply(const ob_rows_product *product);

/* Must rows of x be put into another order, in place, before they meet such weights? */
bool ob_rows_arranges(const ob_matrix *w);
void ob_rows_arrange(int64_t rows, int64_t depth, float *x);

/* Rows row .. row+rows-1 of W as it lies, turned or not, and of those the `count` values from p on,
 * to fp32: ret [rows][count], and room for OB_GROUP more. */
void ob_rows_decode(const ob_matrix *w, int64_t row, int64_t rows, int64_t p, int64_t count,
                    float *ret);

/* The instruction set in use: "avx512", "avx2" or "base". */
const char *ob_rows_isa(void);

/* One instruction set's functions: rows_kernel.c, compiled once for each. */
typedef struct ob_rows_kernels {
    const char *isa;
    void (*multiply)(const ob_rows_product *product);
    bool (*arranges)(const ob_matrix *w);
    void (*arrange)(int64_t rows, int64_t depth, float *x);
    void (*decode)(const ob_matrix *w, int64_t row, int64_t rows, int64_t p, int64_t count,
                   float *ret);
} ob_rows_kernels;

#endif
