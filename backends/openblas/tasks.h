/* Work cut into tasks and run by OpenMP threads, each with a packing buffer and single-threaded
 * GEMMs. Which thread runs a task never changes a result: a task writes what no other writes. */
#ifndef MOEREF_OPENBLAS_TASKS_H
#define MOEREF_OPENBLAS_TASKS_H

#include "layer.h"

/* Rows of one GEMM: enough that packing the weights, which OpenBLAS repeats per GEMM, costs
 * little; few enough that a thread's copy of rows [OB_ROWS][d] stays a few megabytes. A weight
 * gradient adds up so many rows per GEMM. */
#define OB_ROWS 512
/* Columns of one task that sums them in float64. */
#define OB_SUM_COLS 512
/* Tokens whose rows are widened to float64 at a time. */
#define OB_ROUTER_ROWS 128

/* Rows row .. row+rows-1 of the experts (or tokens), all of expert `expert`; columns col .. */
typedef struct ob_task {
    int64_t expert, row, rows, col, cols;
} ob_task;

/* What all tasks of a stage share. */
typedef struct ob_job {
    ob_layer *layer;
    const ob_experts *experts;
    float *out;      /* the stage's result where it is not the experts' own */
    bool accumulate; /* combine: add to the rows of out */
} ob_job;

/* `pack` is the running thread's own memory of ob_pack_floats() floats. */
typedef void (*ob_body)(const ob_job *job, const ob_task *task, float *pack);

/* How a stage is cut. Groups with no row get no task unless `empty` asks for one. */
typedef struct ob_cut {
    const int64_t *offsets; /* [groups + 1] */
    int64_t groups;
    int64_t row_block; /* 0: all rows of a group in one task */
    int64_t columns;   /* the result's columns, cut further where rows alone give too few tasks */
    int64_t col_block; /* at most so many columns; 0: no limit */
    bool empty;
    int64_t depth; /* multiply-adds, or moved elements, for each element of the result */
} ob_cut;

/* Cuts and runs, largest tasks first; returns when all are done. */
moe_status ob_run(const ob_job *job, const ob_cut *cut, ob_body body);

/* The same over the tokens, `block` at a time; `depth` per token. */
moe_status ob_run_tokens(const ob_job *job, int64_t block, int64_t depth, ob_body body);

/* Floats of one thread's packing buffer, for the plan as it is now. */
size_t ob_pack_floats(const ob_layer *layer);

/* From one packed row of so many floats to the next: rows whole half pages apart would displace
 * each other in the caches, which costs 8 % at 128 rows of 2048. */
static inline int64_t ob_pitch(int64_t cols) {
    return cols % 512 ? cols : cols + 48;
}

/* Single-threaded C = op(A) op(B) + beta C, row-major fp32. */
static inline void ob_gemm(const ob_layer *layer, int trans_a, int trans_b, int64_t m, int64_t n,
                           int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float beta, float *c, int64_t ldc) {
    layer->dev->blas.sgemm(OB_ROW_MAJOR, trans_a, trans_b, (int)m, (int)n, (int)k, 1.0f, a,
                           (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

static inline int64_t ob_token_of(const ob_experts *experts, int64_t row) {
    return experts->token ? experts->token[row] : row;
}

static inline float ob_weight_of(const ob_experts *experts, int64_t row) {
    return experts->weight ? experts->weight[row] : 1.0f;
}

#endif
