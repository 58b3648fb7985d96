/* dW2_e = dO_e^T A', dW1_e = dH_e^T X_e and the bias gradients. Each task owns a block of d for one
 * expert and gathers that block's columns of dO or X, at most OB_ROWS rows at a time. */
#include "pack.h"

#include <string.h>

/* Rows col .. of dW2_e [d][n]. An expert without rows has gradient 0. */
static void dW2_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_bank *b = job->bank;
    float *dW2 = b->dW2 + (t->expert * b->d + t->col) * b->n;
    const float *scaled = job->layer->buffer[OB_BUF_WORK].data;
    if (!t->rows)
        memset(dW2, 0, (size_t)(t->cols * b->n) * sizeof *dW2);
    for (int64_t done = 0; done < t->rows; done += OB_ROWS) {
        int64_t row = t->row + done, rows = t->rows - done < OB_ROWS ? t->rows - done : OB_ROWS;
        ob_gather(b, job->layer->dO, row, rows, t->col, t->cols, 0, pack);
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, t->cols, b->n, rows, pack, t->cols,
                scaled + row * b->n, b->n, done ? 1 : 0, dW2, b->n);
    }
}

/* Columns col .. of dW1_e [width][d]. */
static void dW1_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_bank *b = job->bank;
    float *dW1 = b->dW1 + t->expert * b->width * b->d + t->col;
    const float *dH = job->layer->buffer[OB_BUF_DH].data;
    for (int64_t i = 0; !t->rows && i < b->width; i++)
        memset(dW1 + i * b->d, 0, (size_t)t->cols * sizeof *dW1);
    for (int64_t done = 0; done < t->rows; done += OB_ROWS) {
        int64_t row = t->row + done, rows = t->rows - done < OB_ROWS ? t->rows - done : OB_ROWS;
        ob_gather(b, job->layer->X, row, rows, t->col, t->cols, b->on_input, pack);
        ob_gemm(job->layer, OB_TRANS, OB_NO_TRANS, b->width, t->cols, rows, dH + row * b->width,
                b->width, pack, t->cols, done ? 1 : 0, dW1, b->d);
    }
}

/* db2_e = sum of the rows' w dO; the weight on the input leaves the output's alone. */
static void db2_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_bank *b = job->bank;
    double *sums = (double *)pack;
    memset(sums, 0, (size_t)t->cols * sizeof *sums);
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        ob_sum_row(sums, b->on_input ? 1.0 : (double)ob_weight_of(b, r),
                   job->layer->dO + ob_token_of(b, r) * b->d + t->col, t->cols);
    ob_narrow(sums, b->db2 + t->expert * b->d + t->col, t->cols);
}

static void db1_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_bank *b = job->bank;
    const float *dH = job->layer->buffer[OB_BUF_DH].data;
    double *sums = (double *)pack;
    memset(sums, 0, (size_t)t->cols * sizeof *sums);
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        ob_sum_row(sums, 1.0, dH + r * b->width + t->col, t->cols);
    ob_narrow(sums, b->db1 + t->expert * b->width + t->col, t->cols);
}

/* One task per expert, or block of its columns; empty experts included. A GEMM is fastest on all
 * of an expert's columns (13 % measured against 512), so only too few tasks make it cut them. */
static moe_status run_columns(ob_layer *layer, const ob_bank *bank, int64_t columns,
                              int64_t col_block, int64_t depth, ob_body body) {
    ob_job job = {.layer = layer, .bank = bank};
    ob_cut cut = {.offsets = bank->offsets,
                  .groups = bank->experts,
                  .columns = columns,
                  .col_block = col_block,
                  .empty = 1,
                  .depth = depth};
    return ob_run(&job, &cut, body);
}

moe_status ob_bank_dW2(ob_layer *layer, const ob_bank *bank) {
    moe_status status = run_columns(layer, bank, bank->d, 0, bank->n, dW2_body);
    return status || !bank->db2 ? status
                                : run_columns(layer, bank, bank->d, OB_SUM_COLS, 1, db2_body);
}

moe_status ob_bank_dW1(ob_layer *layer, const ob_bank *bank) {
    moe_status status = run_columns(layer, bank, bank->d, 0, bank->width, dW1_body);
    return status || !bank->db1 ? status
                                : run_columns(layer, bank, bank->width, OB_SUM_COLS, 1, db1_body);
}
