/* dW2_e = dO_e^T A', dW1_e = dH_e^T X_e and the bias gradients. Each task owns a block of d for one
 * expert and goes through that block's columns of dO or X, at most OB_ROWS rows at a time. */
#include "pack.h"

#include <string.h>

_Static_assert(OB_ROWS <= OB_OUTER_ROWS, "rows that are added up at a time");

/* dW of t's rows: of columns t->col .. of their tokens' rows of src [T][d], and of their own rows
 * of `other` [..][width]. dW is [src's columns][width] if src_first, else [width][src's columns];
 * its rows are ld apart. */
typedef struct weight_gradient {
    const float *src, *other;
    int64_t width;
    bool weighted; /* src's rows are, by the pairs' weights */
    bool src_first;
    float *dW;
    int64_t ld;
} weight_gradient;

/* An expert without rows has gradient 0. */
static void start_at_zero(const ob_task *t, const weight_gradient *g) {
    const int64_t rows = g->src_first ? t->cols : g->width;
    const int64_t cols = g->src_first ? g->width : t->cols;
    for (int64_t i = 0; i < rows; i++)
        memset(g->dW + i * g->ld, 0, (size_t)cols * sizeof *g->dW);
}

static void add_gemm(const ob_job *job, const ob_task *t, const weight_gradient *g, int64_t row,
                     int64_t rows, bool add, float *pack) {
    const float *own = g->other + row * g->width;
    const float beta = add ? 1 : 0;
    ob_gather(job->experts, g->src, row, rows, t->col, t->cols, g->weighted, pack, t->cols);
    if (g->src_first)
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, t->cols, g->width, rows, pack, t->cols, own,
                g->width, beta, g->dW, g->ld);
    else
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, g->width, t->cols, rows, own, g->width, pack,
                t->cols, beta, g->dW, g->ld);
}

static void add_rounded(const ob_job *job, const ob_task *t, const weight_gradient *g, int64_t row,
                        int64_t rows, bool add, float *pack) {
    const ob_experts *e = job->experts;
    const float *of_tokens[OB_ROWS], *own[OB_ROWS];
    for (int64_t i = 0; i < rows; i++) {
        of_tokens[i] = g->src + ob_token_of(e, row + i) * e->d + t->col;
        own[i] = g->other + (row + i) * g->width;
    }
    const float *weight = g->weighted && e->weight ? e->weight + row : NULL;
    const ob_row_list src = {of_tokens, weight, t->cols}, other = {own, NULL, g->width};
    job->layer->dev->pairs->add_outer(&(ob_outer){.rows = rows,
                                                  .a = g->src_first ? src : other,
                                                  .b = g->src_first ? other : src,
                                                  .scratch = pack,
                                                  .add = add,
                                                  .y = g->dW,
                                                  .ldy = g->ld});
}

static void make_gradient(const ob_job *job, const ob_task *t, const weight_gradient *g,
                          float *pack) {
    const ob_layer *layer = job->layer;
    const bool rounds = ob_rounds(layer->dev, layer->use.dtype);
    if (!t->rows && !layer->accumulates)
        start_at_zero(t, g);
    for (int64_t done = 0; done < t->rows; done += OB_ROWS) {
        const int64_t left = t->rows - done, rows = left < OB_ROWS ? left : OB_ROWS;
        (rounds ? add_rounded : add_gemm)(job, t, g, t->row + done, rows,
                                          done || layer->accumulates, pack);
    }
}

/* Rows col .. of dW2_e [d][n]. */
static void dW2_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    make_gradient(job, t,
                  &(weight_gradient){.src = job->layer->dO,
                                     .other = job->layer->buffer[OB_BUF_WORK].data,
                                     .width = e->n,
                                     .src_first = true,
                                     .dW = e->dW2 + (t->expert * e->d + t->col) * e->n,
                                     .ld = e->n},
                  pack);
}

/* Columns col .. of dW1_e [width][d]. */
static void dW1_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    make_gradient(job, t,
                  &(weight_gradient){.src = job->layer->X,
                                     .other = job->layer->buffer[OB_BUF_DH].data,
                                     .width = e->width,
                                     .weighted = e->on_input,
                                     .dW = e->dW1 + t->expert * e->width * e->d + t->col,
                                     .ld = e->d},
                  pack);
}

/* db2_e = sum of the rows' w dO; the weight on the input leaves the output's alone. */
static void db2_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    double *sums = (double *)pack;
    ob_sum_start(job->layer, e->db2 + t->expert * e->d + t->col, t->cols, sums);
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        ob_sum_row(sums, e->on_input ? 1.0 : (double)ob_weight_of(e, r),
                   job->layer->dO + ob_token_of(e, r) * e->d + t->col, t->cols);
    ob_narrow(sums, e->db2 + t->expert * e->d + t->col, t->cols);
}

static void db1_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    const float *dH = job->layer->buffer[OB_BUF_DH].data;
    double *sums = (double *)pack;
    ob_sum_start(job->layer, e->db1 + t->expert * e->width + t->col, t->cols, sums);
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        ob_sum_row(sums, 1.0, dH + r * e->width + t->col, t->cols);
    ob_narrow(sums, e->db1 + t->expert * e->width + t->col, t->cols);
}

/* One task per expert, or block of its columns; empty experts included. A GEMM is fastest on all
 * of an expert's columns (13 % measured against 512), so only too few tasks make it cut them. */
static moe_status run_columns(ob_layer *layer, const ob_experts *experts, int64_t columns,
                              int64_t col_block, int64_t depth, ob_body body) {
    ob_job job = {.layer = layer, .experts = experts};
    ob_cut cut = {.offsets = experts->offsets,
                  .groups = experts->E,
                  .columns = columns,
                  .col_block = col_block,
                  .empty = true,
                  .depth = depth};
    return ob_run(&job, &cut, body);
}

moe_status ob_experts_dW2(ob_layer *layer, const ob_experts *experts) {
    moe_status status =
        experts->dW2 ? run_columns(layer, experts, experts->d, 0, experts->n, dW2_body) : MOE_OK;
    return status || !experts->db2
               ? status
               : run_columns(layer, experts, experts->d, OB_SUM_COLS, 1, db2_body);
}

moe_status ob_experts_dW1(ob_layer *layer, const ob_experts *experts) {
    moe_status status = experts->dW1
                            ? run_columns(layer, experts, experts->d, 0, experts->width, dW1_body)
                            : MOE_OK;
    return status || !experts->db1
               ? status
               : run_columns(layer, experts, experts->width, OB_SUM_COLS, 1, db1_body);
}
