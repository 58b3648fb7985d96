/* Products of rows with a matrix of weights as it lies in memory, of any size, in fp32: of few
 * rows, for which OpenBLAS would pack all of W first, and of many with weights that it cannot read.
 *
 * Within either function a row's result has the same bits whatever rows stand beside it, and
 * whatever columns of it are asked for. The two add up in different orders. */
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

/* y [rows][cols] = x [rows][depth] W^T + beta y, beta 0 or 1. */
typedef struct ob_rows_product {
    int64_t rows, cols, depth;
    const float *x;
    int64_t ldx;
    ob_matrix w;
    float beta;
    float *y;
    int64_t ldy;
} ob_rows_product;

/* Few rows: W is read once, where it lies, at the speed of memory. Not every W: */
void ob_rows_multiply(const ob_rows_product *product);
bool ob_rows_reads(const ob_matrix *w);

/* Must rows of x be put into another order, in place, before they meet such weights there? */
bool ob_rows_arranges(const ob_matrix *w);
void ob_rows_arrange(int64_t rows, int64_t depth, float *x, int64_t ldx);

/* Many rows, in their own order, and any W: it is decoded to fp32 in small panels. */
void ob_rows_multiply_many(const ob_rows_product *product);

/* The instruction set in use: "avx512", "avx2" or "base". */
const char *ob_rows_isa(void);

/* One instruction set's functions: rows_kernel.c, compiled once for each. */
typedef struct ob_rows_kernels {
    const char *isa;
    void (*multiply)(const ob_rows_product *product);
    void (*multiply_many)(const ob_rows_product *product);
    bool (*reads)(const ob_matrix *w);
    bool (*arranges)(const ob_matrix *w);
    void (*arrange)(int64_t rows, int64_t depth, float *x, int64_t ldx);
} ob_rows_kernels;

#endif
