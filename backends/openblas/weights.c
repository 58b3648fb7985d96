#include "weights.h"
#include "tasks.h"

#include <string.h>

/* Where the kernels of rows.h are used: from `least` to `most` rows of x. OpenBLAS packs all of W
 * before it multiplies, which many rows pay back; it reads fp32 alone, so that other weights are
 * decoded for it a panel at a time. Measured with OpenBLAS 0.3.21 with W 2048 x 2048 in memory. Two
 * cores with AVX2 (Zen 1): ours over OpenBLAS's time is 0.27 at one row, 0.4 at 16, 0.73 at 64, 1
 * at 128 and 1.14 at 512; turned, where OpenBLAS packs less, 1.2 at 1, 1.45 at 8, 0.5 at 12, 0.6 at
 * 24, 0.9 at 64. One core with AVX-512 (Xeon of 2023), not turned: 0.45 at 1, 0.65 at 16, 0.87 at
 * 64, 0.9 at 128, 1.2 at 256. */
static const struct {
    int32_t type;
    bool turned;
    int64_t least, most;
} suited[] = {
    {MOE_F32, false, 1, OB_ROWS_SUITED},   {MOE_F32, true, 12, 64},
    {MOE_BF16, false, 1, OB_ROWS_DECODED}, {MOE_BF16, true, 1, OB_ROWS_DECODED},
    {MOE_F16, false, 1, OB_ROWS_DECODED},  {MOE_F16, true, 1, OB_ROWS_DECODED},
};

bool ob_weights_readable(int32_t dtype) {
    for (size_t i = 0; i < sizeof suited / sizeof *suited; i++)
        if (suited[i].type == dtype)
            return true;
    return false;
}

/* Can OpenBLAS read it? */
static bool is_plain(const ob_matrix *w) {
    return !w->scale && w->type == MOE_F32;
}

static bool suits(const ob_matrix *w, int64_t rows, int64_t depth) {
    if (!is_plain(w) && depth > OB_PANEL_FLOATS) /* not even one column would fit a panel */
        return true;
    if (w->scale)
        return rows <= OB_ROWS_DECODED;
    for (size_t i = 0; i < sizeof suited / sizeof *suited; i++)
        if (suited[i].type == w->type && suited[i].turned == w->turned)
            return rows >= suited[i].least && rows <= suited[i].most;
    return false;
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

/* By OpenBLAS, of fp32 weights, or of others by way of a panel. */
static void multiply_many(const ob_layer *layer, const ob_product *p, const ob_matrix *w,
                          int64_t depth) {
    const int64_t cols = is_plain(w) ? p->cols : OB_PANEL_FLOATS / depth;
    float *panel = is_plain(w) ? NULL : ob_panel(layer, p->scratch);
    for (int64_t col = 0; col < p->cols; col += cols) {
        const int64_t now = p->cols - col < cols ? p->cols - col : cols;
        const float *values = panel ? panel : w->data;
        if (panel && w->turned)
            ob_rows_decode(w, 0, depth, col, now, panel);
        else if (panel)
            ob_rows_decode(w, col, now, 0, depth, panel);
        const int64_t ld = !panel ? w->ld : w->turned ? now : depth;
        ob_gemm(layer, OB_NO_TRANS, w->turned ? OB_NO_TRANS : OB_TRANS, p->rows, now, depth, p->x,
                depth, values, ld, p->beta, p->y + col, p->ldy);
    }
}

static void multiply_rows(const ob_product *p, const ob_matrix *w, int64_t depth) {
    ob_rows_product rows = {p->rows, p->cols, depth, p->x, depth, *w, p->beta, p->y, p->ldy};
    if (ob_rows_arranges(w)) {
        if (p->x != p->scratch)
            memcpy(p->scratch, p->x, (size_t)(p->rows * depth) * sizeof *p->x);
        ob_rows_arrange(p->rows, depth, p->scratch);
        rows.x = p->scratch;
    }
    ob_rows_multiply(&rows);
}

void ob_multiply(const ob_layer *layer, const ob_product *p) {
    const ob_matrix w = p->w->codes ? coded(p) : matrix_of(p);
    const int64_t depth = p->across ? p->w->rows : p->w->cols;
    if (layer->dev->invariant || suits(&w, p->rows, depth))
        multiply_rows(p, &w, depth);
    else
        multiply_many(layer, p, &w, depth);
}
