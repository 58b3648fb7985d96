/* dW2_e = dO_e^T A', dW1_e = dH_e^T X_e and the bias gradients. Each task owns a block of d for one
 * expert and gathers that block's columns of dO or X, at most OB_ROWS rows at a time. */
#include "pack.h"

#include <string.h>

/* Rows col .. of dW2_e [d][n]. An expert without rows has gradient 0. */
static void dW2_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    float *dW2 = e->dW2 + (t->expert * e->d + t->col) * e->n;
    const float *scaled = job->layer->buffer[OB_BUF_WORK].data;
    const bool adds = job->layer->accumulates;
    if (!t->rows && !adds)
        memset(dW2, 0, (size_t)(t->cols * e->n) * sizeof *dW2);
    for (int64_t done = 0; done < t->rows; done += OB_ROWS) {
        int64_t row = t->row + done, rows = t->rows - done < OB_ROWS ? t->rows - done : OB_ROWS;
        ob_gather(e, job->layer->dO, row, rows, t->col, t->cols, false, pack, t->cols);
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, t->cols, e->n, rows, pack, t->cols,
                scaled + row * e->n, e->n, done || adds ? 1 : 0, dW2, e->n);
    }
}

/* Columns col .. of dW1_e [width][d]. */
static void dW1_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    float *dW1 = e->dW1 + t->expert * e->width * e->d + t->col;
    const float *dH = job->layer->buffer[OB_BUF_DH].data;
    const bool adds = job->layer->accumulates;
    for (int64_t i = 0; !t->rows && !adds && i < e->width; i++)
        memset(dW1 + i * e->d, 0, (size_t)t->cols * sizeof *dW1);
    for (int64_t done = 0; done < t->rows; done += OB_ROWS) {
        int64_t row = t->row + done, rows = t->rows - done < OB_ROWS ? t->rows - done : OB_ROWS;
        ob_gather(e, job->layer->X, row, rows, t->col, t->cols, e->on_input, pack, t->cols);
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, e->width, t->cols, rows, dH + row * e->width,
                e->width, pack, t->cols, done || adds ? 1 : 0, dW1, e->d);
    }
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
