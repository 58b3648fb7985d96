#include "weights.h"
#include "tasks.h"

#include <string.h>

/* Where the kernels of rows.h are used: from `least` to `most` rows of x. OpenBLAS packs all of W
 * before it multiplies, which many rows pay back; it reads fp32 alone. Measured on two cores with
 * AVX2 (Zen 1, OpenBLAS 0.3.21) with W 2048 x 2048 in memory: ours over OpenBLAS's time is 0.27 at
 * one row, 0.4 at 16, 0.73 at 64, 1 at 128 and 1.14 at 512; turned, where OpenBLAS packs less, 1.2
 * at 1, 1.45 at 8, 0.5 at 12, 0.6 at 24, 0.9 at 64. */
static const struct {
    int32_t type;
    bool turned;
    int64_t least, most;
} suited[] = {
    {MOE_F32, false, 1, 128},       {MOE_F32, true, 12, 64},        {MOE_BF16, false, 1, INT64_MAX},
    {MOE_BF16, true, 1, INT64_MAX}, {MOE_F16, false, 1, INT64_MAX}, {MOE_F16, true, 1, INT64_MAX},
};

bool ob_weights_readable(int32_t dtype) {
    for (size_t i = 0; i < sizeof suited / sizeof *suited; i++)
        if (suited[i].type == dtype)
            return true;
    return false;
}

static bool suits(const ob_matrix *w, int64_t rows) {
    if (w->scale)
        return true;
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

void ob_multiply(const ob_layer *layer, const ob_product *p) {
    const ob_matrix w = p->w->codes ? coded(p) : matrix_of(p);
    const int64_t depth = p->across ? p->w->rows : p->w->cols;
    if (!layer->dev->invariant && !suits(&w, p->rows)) {
        ob_gemm(layer, OB_NO_TRANS, w.turned ? OB_NO_TRANS : OB_TRANS, p->rows, p->cols, depth,
                p->x, depth, w.data, w.ld, p->beta, p->y, p->ldy);
        return;
    }
    ob_rows_product rows = {p->rows, p->cols, depth, p->x, depth, w, p->beta, p->y, p->ldy};
    if (ob_rows_arranges(&w)) {
        if (p->x != p->scratch)
            memcpy(p->scratch, p->x, (size_t)(p->rows * depth) * sizeof *p->x);
        ob_rows_arrange(p->rows, depth, p->scratch);
        rows.x = p->scratch;
    }
    ob_rows_multiply(&rows);
}
