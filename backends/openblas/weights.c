#include "weights.h"
#include "tasks.h"

#include <string.h>

/* Who multiplies, by the number of rows of x. Measured with OpenBLAS 0.3.21 and W 2048 x 2048 in
 * memory on one core with AVX-512 (EPYC of family 26, 2026-11-29); times in ms of rows, of panels,
 * of OpenBLAS:
 *   fp32   1 row: 0.45, 1.1, 1.55; 8: 1.05, 1.25, 1.65; 16: 1.6, 1.5, 1.8; 64: -, 3.3, 3.5;
 *          128: -, 5.5, 5.8; 192: -, 8.0, 8.0; 512: -, 20.0, 18.7
 *   bf16   1 row: 0.32, 1.0; 8: 0.75, 1.1; 16: 1.45, 1.4; 128: -, 5.4; 512: -, 20.2
 *   int8   1 row: 0.3, 1.5; 4: 0.5, 1.5; 8: 1.65, 1.85; 16: 2.9, 2.5
 *   turned 2 rows: panels 1.4, OpenBLAS 1.65; 16: 1.85, 1.95; 128: 5.6, 5.5; 512: 20.9, 18.7
 *   bf16 of values, and of pairs (AVX512_BF16, 2026-11-30)
 *          1 row: 0.25, 0.25; 4: 0.38, 0.34; 8: 0.69, 0.36; 16: 1.5, 0.54; 128: -, 2.5;
 *          1024: -, 18.8; from the third cache 1: 0.19, 0.12; 4: 0.31, 0.13; 8: 0.53, 0.17;
 *          16: 1.0, 0.31; turned 1: -, 0.27; 8: -, 0.35; 16: -, 0.44; 128: -, 2.6; 1024: -, 20.5
 * and with AVX2 on the same core panels and OpenBLAS are within 5 % of each other from 16 rows on.
 * Weights that OpenBLAS cannot read meet panels however many the rows. */
enum { ROWS_MOST = 14, CODED_ROWS_MOST = 8 };
enum { PANELS_MOST = 192, PANELS_MOST_TURNED = 64 };

typedef enum way { WAY_ROWS, WAY_PAIRS, WAY_PANELS, WAY_BLAS } way;

bool ob_weights_readable(int32_t dtype) {
    return dtype == MOE_F32 || dtype == MOE_BF16 || dtype == MOE_F16;
}

/* Pairs of bf16 need a whole number of them. */
static bool has_pairs(const ob_layer *layer, const ob_matrix *w, int64_t depth) {
    return ob_rounds(layer->dev, layer->use.dtype) && !w->scale && w->type == MOE_BF16 &&
           depth % 2 == 0;
}

/* An invariant layer has one way for each matrix. */
static way choose(const ob_layer *layer, const ob_matrix *w, int64_t rows, int64_t depth) {
    const bool invariant = layer->dev->invariant;
    if (has_pairs(layer, w, depth))
        return WAY_PAIRS;
    if (ob_rows_reads(w) && (invariant || rows <= (w->scale ? CODED_ROWS_MOST : ROWS_MOST)))
        return WAY_ROWS;
    const bool plain = !w->scale && w->type == MOE_F32;
    const int64_t most = w->turned ? PANELS_MOST_TURNED : PANELS_MOST;
    return plain && !invariant && rows > most ? WAY_BLAS : WAY_PANELS;
}

static ob_matrix coded(const ob_product *p) {
    const ob_codes *k = p->w->codes;
    const int64_t bytes = moe_quant_code_bytes(&k->form, 1, k->columns);
    return (ob_matrix){.data = k->code + (p->expert * k->rows + p->col) * bytes,
                       .ld = k->columns,
                       .scale =
                           k->scale + p->expert * moe_quant_scales(&k->form, k->rows, k->columns),
                       .first_row = p->col,
                       .kind = k->form.kind,
                       .block_rows = k->form.block_rows,
                       .block_columns = k->form.block_columns};
}

/* The matrix whose rows are columns `col` .. of y. */
static ob_matrix matrix_of(const ob_product *p) {
    const ob_weights *w = p->w;
    const bool turned = p->across != w->turned;
    const int64_t depth = p->across ? w->rows : w->cols, wide = p->across ? w->cols : w->rows;
    const int64_t ld = turned ? wide : depth;
    const int64_t at = p->expert * w->rows * w->cols + (turned ? p->col : p->col * ld);
    return (ob_matrix){.data =
                           (const char *)w->data + (size_t)at * moe_dtype_size((moe_dtype)w->type),
                       .type = w->type,
                       .turned = turned,
                       .ld = ld};
}

static void multiply_rows(const ob_product *p, ob_rows_product rows) {
    if (ob_rows_arranges(&rows.w)) {
        for (int64_t i = 0; p->x != p->scratch && i < p->rows; i++)
            memcpy(p->scratch + i * p->ldx, p->x + i * p->ldx, (size_t)rows.depth * sizeof *p->x);
        ob_rows_arrange(p->rows, rows.depth, p->scratch, p->ldx);
        rows.x = p->scratch;
    }
    ob_rows_multiply(&rows);
}

static void multiply_pairs(const ob_layer *layer, const ob_product *p, ob_rows_product rows) {
    const int64_t ld = ob_pitch(rows.depth / 2);
    layer->dev->pairs->round_rows(rows.rows, rows.depth, p->x, p->ldx, p->scratch, ld);
    rows.x = p->scratch;
    rows.ldx = ld;
    layer->dev->pairs->multiply(&rows);
}

void ob_multiply(const ob_layer *layer, const ob_product *p) {
    const ob_matrix w = p->w->codes ? coded(p) : matrix_of(p);
    const int64_t depth = p->across ? p->w->rows : p->w->cols;
    const ob_rows_product product = {p->rows, p->cols, depth, p->x,  p->ldx,
                                     w,       p->beta, p->y,  p->ldy};
    switch (choose(layer, &w, p->rows, depth)) {
    case WAY_ROWS:
        multiply_rows(p, product);
        break;
    case WAY_PAIRS:
        multiply_pairs(layer, p, product);
        break;
    case WAY_PANELS:
        ob_rows_multiply_many(&product);
        break;
    case WAY_BLAS:
        ob_gemm(layer, OB_NO_TRANS, w.turned ? OB_NO_TRANS : OB_TRANS, p->rows, p->cols, depth,
                p->x, p->ldx, w.data, w.ld, p->beta, p->y, p->ldy);
        break;
    }
}
