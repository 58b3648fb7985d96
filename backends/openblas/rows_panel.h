/* Part of rows_kernel.c: rows of W, decoded to fp32. */
#ifndef MOEREF_OPENBLAS_ROWS_PANEL_H
#define MOEREF_OPENBLAS_ROWS_PANEL_H

#include "rows_load.h"

/* A decoded row is a chunk of W's columns; a power of two apart, rows would displace each other
 * in the first cache. */
enum { PANEL_LD = OB_CHUNK + 16 };

/* `depth` values of one scale as `load` has them, anything finite up to a whole step behind them.
 */
OB_INLINE void decode_run(form f, const char *w, float scale, int64_t depth, float *ret) {
    const vec scales = scale_vec(f, scale);
    char tail[STEP * 4] = {0};
    for (int64_t p = 0; p < depth; p += STEP) {
        const char *from = w + values_bytes(f, p);
        if (depth - p < STEP)
            from = memcpy(tail, from, (size_t)values_bytes(f, depth - p));
        vec low = load(f, from, 0, scales), high = load(f, from, 1, scales);
        memcpy(ret + p, &low, sizeof low);
        memcpy(ret + p + V, &high, sizeof high);
    }
}

/* Columns p .. p+depth-1 of W's row `row`. */
OB_INLINE void decode_row(form f, const ob_matrix *w, int64_t row, int64_t p, int64_t depth,
                          float *ret) {
    const char *from = (const char *)w->data + row * values_bytes(f, w->ld);
    const float *scale = is_code(f) ? scales_of(w, row) : NULL;
    const int64_t wide = is_code(f) ? scale_width(w) : w->ld;
    for (int64_t at = p, next; at < p + depth; at = next) {
        next = least((at / wide + 1) * wide, p + depth);
        decode_run(f, from + values_bytes(f, at), scale ? scale[at / wide] : 1, next - at,
                   ret + (at - p));
    }
}

/* The same of int4 in W's own order, blocks of any width. */
static void decode_odd_row(const ob_matrix *w, int64_t row, int64_t p, int64_t depth, float *ret) {
    const unsigned char *from =
        (const unsigned char *)w->data + row * values_bytes(FORM_INT4, w->ld);
    const float *scale = scales_of(w, row);
    const int64_t wide = scale_width(w);
    for (int64_t at = p; at < p + depth; at++)
        ret[at - p] = (float)((from[at / 2] >> 4 * (at % 2) & 15) - 8) * scale[at / wide];
    for (int64_t i = depth; i % STEP; i++)
        ret[i] = 0;
}

/* Rows col .. col+cols-1 of W, `depth` columns from p on: ret [cols][PANEL_LD]. */
OB_INLINE void decode_panel(form f, const ob_matrix *w, int64_t col, int64_t cols, int64_t p,
                            int64_t depth, float *ret) {
    if (f == FORM_INT4 && !streams(w))
        for (int64_t c = 0; c < cols; c++)
            decode_odd_row(w, col + c, p, depth, ret + c * PANEL_LD);
    else
        for (int64_t c = 0; c < cols; c++)
            decode_row(f, w, col + c, p, depth, ret + c * PANEL_LD);
}

#endif
