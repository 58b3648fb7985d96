/* Products of rows with a matrix of weights as it lies in memory, of any size, in fp32: of few
 * rows, for which OpenBLAS would pack all of W first, and of many with weights that it cannot read;
 * and products of bf16.
 *
 * Within any of these functions a row's result has the same bits whatever rows stand beside it, and
 * whatever columns of it are asked for. They add up in different orders. */
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

/* Rows that lie anywhere, times scale[row]; scale NULL: 1. */
typedef struct ob_row_list {
    const float *const *row;
    const float *scale;
    int64_t cols;
} ob_row_list;

/* Rows whose outer products are added up at a time. */
#define OB_OUTER_ROWS 512

/* y [a.cols][b.cols] = sum over OB_OUTER_ROWS rows or fewer of a_row^T b_row, or that more. */
typedef struct ob_outer {
    int64_t rows;
    ob_row_list a, b;
    float *scratch; /* [a.cols][(rows + 1) / 2] */
    bool add;
    float *y;
    int64_t ldy;
} ob_outer;

/* Products of bf16 by instructions of their own, where the processor has them: what is not bf16 is
 * rounded to it. */
typedef struct ob_pairs_kernels {
    /* ret [rows][depth / 2] words of two bf16 each, nearest to x; ret may be x, if ld <= ldx. */
    void (*round_rows)(int64_t rows, int64_t depth, const float *x, int64_t ldx, float *ret,
                       int64_t ld);
    /* product->x are such words, product->ldx counts them; the depth is even, and W is of bf16,
     * either way round. A row's bits are its own here too. */
    void (*multiply)(const ob_rows_product *product);
    void (*add_outer)(const ob_outer *outer);
} ob_pairs_kernels;

/* NULL: this processor, or the compiler of this plug-in, has none. */
const ob_pairs_kernels *ob_pairs(void);

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
