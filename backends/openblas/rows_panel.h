/* Part of rows_kernel.c: a panel of W, decoded to fp32 and turned the right way round. */
#ifndef MOEREF_OPENBLAS_ROWS_PANEL_H
#define MOEREF_OPENBLAS_ROWS_PANEL_H

#include "rows_load.h"

/* A row of a panel is a chunk of W's columns; a power of two apart, rows would displace each other
 * in the first cache. */
enum { PANEL_LD = OB_CHUNK + 16 };

typedef float quad __attribute__((vector_size(16)));

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE __builtin_shufflevector
#else
typedef int32_t quad_bits __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (quad_bits){__VA_ARGS__})
#endif

/* ---- rows as they lie ---- */

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

static void decode_bf16(const ob_matrix *w, int64_t row, int64_t p, int64_t count, float *ret) {
    const uint16_t *from = (const uint16_t *)w->data + row * w->ld + p;
    for (int64_t i = 0; i < count; i++)
        ret[i] = ob_float_of((uint32_t)from[i] << 16);
}

/* ---- turned round ---- */

typedef uint16_t half_quad __attribute__((vector_size(8)));
typedef uint32_t word_quad __attribute__((vector_size(16)));

OB_INLINE quad load_quad(form f, const char *p) {
    quad v;
    half_quad h;
    if (f == FORM_F32) {
        memcpy(&v, p, sizeof v);
        return v;
    }
    memcpy(&h, p, sizeof h);
    if (f == FORM_BF16)
        return (quad)(__builtin_convertvector(h, word_quad) << 16);
#ifdef HAVE_HALVES
    return (quad)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p));
#else
    for (int i = 0; i < 4; i++)
        v[i] = float_of_half(h[i]);
    return v;
#endif
}

/* Four rows of four columns, turned round. */
OB_INLINE void turn_block(form f, const char *w, int64_t row_bytes, float *ret) {
    quad r[4];
    for (int i = 0; i < 4; i++)
        r[i] = load_quad(f, w + i * row_bytes);
    quad low01 = SHUFFLE(r[0], r[1], 0, 4, 1, 5), high01 = SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    quad low23 = SHUFFLE(r[2], r[3], 0, 4, 1, 5), high23 = SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    const quad c[4] = {SHUFFLE(low01, low23, 0, 1, 4, 5), SHUFFLE(low01, low23, 2, 3, 6, 7),
                       SHUFFLE(high01, high23, 0, 1, 4, 5), SHUFFLE(high01, high23, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++)
        memcpy(ret + (ptrdiff_t)i * PANEL_LD, &c[i], sizeof c[i]);
}

/* Rows and columns that fill no block: these, of those [rows][cols]. */
static void turn_rest(form f, const char *w, int64_t row_bytes, int64_t rows, int64_t cols,
                      float *ret) {
    for (int64_t c = 0; c < cols; c++)
        for (int64_t p = 0; p < rows; p++) {
            char block[16] = {0};
            memcpy(block, w + p * row_bytes + c * values_bytes(f, 1), (size_t)values_bytes(f, 1));
            ret[c * PANEL_LD + p] = load_quad(f, block)[0];
        }
}

/* Some columns of W [depth][ld], turned round: ret [cols][PANEL_LD], zeros up to a whole step. */
OB_INLINE void turn_panel(form f, const char *w, int64_t row_bytes, int64_t cols, int64_t depth,
                          float *ret) {
    const int64_t whole = depth / 4 * 4, wide = cols / 4 * 4, size = values_bytes(f, 1);
    for (int64_t p = 0; p < whole; p += 4) {
        /* The next panel's lines are a row apart, which the processor does not foresee. */
        for (int i = 0; i < 4; i++)
            __builtin_prefetch(w + (p + i) * row_bytes + wide * size, 0, 2);
        for (int64_t c = 0; c < wide; c += 4)
            turn_block(f, w + p * row_bytes + c * size, row_bytes, ret + c * PANEL_LD + p);
    }
    turn_rest(f, w + whole * row_bytes, row_bytes, depth - whole, wide, ret + whole);
    turn_rest(f, w + wide * size, row_bytes, depth, cols - wide, ret + wide * PANEL_LD);
    for (int64_t c = 0; c < cols; c++)
        for (int64_t p = depth; p % STEP; p++)
            ret[c * PANEL_LD + p] = 0;
}

/* ---- a panel ---- */

/* Rows col .. col+cols-1 of W, `depth` columns from p on: ret [cols][PANEL_LD]. */
OB_INLINE void decode_panel(form f, const ob_matrix *w, int64_t col, int64_t cols, int64_t p,
                            int64_t depth, float *ret) {
    const char *data = w->data;
    if (w->turned)
        turn_panel(f, data + values_bytes(f, p * w->ld + col), values_bytes(f, w->ld), cols, depth,
                   ret);
    else if (f == FORM_INT4 && !streams(w))
        for (int64_t c = 0; c < cols; c++)
            decode_odd_row(w, col + c, p, depth, ret + c * PANEL_LD);
    else
        for (int64_t c = 0; c < cols; c++)
            decode_row(f, w, col + c, p, depth, ret + c * PANEL_LD);
}

#endif
