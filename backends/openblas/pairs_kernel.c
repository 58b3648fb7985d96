/* Products of bf16 by AVX512_BF16, whose instruction multiplies two pairs of neighbours and adds
 * both products to a sum in fp32, which takes subnormal values for 0. Panels are those of
 * rows_many.h with a pair in each word. */
#include "rows_many.h"

static void round_rows(int64_t rows, int64_t depth, const float *x, int64_t ldx, float *ret,
                       int64_t ld) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p < depth; p += STEP) {
            float rest[STEP] = {0};
            const float *from = x + i * ldx + p;
            if (depth - p < STEP)
                from = memcpy(rest, from, (size_t)(depth - p) * sizeof *rest);
            const __m512bh v =
                _mm512_cvtne2ps_pbh((__m512)load_x(from, 1), (__m512)load_x(from, 0));
            memcpy(ret + i * ld + p / 2, &v, (size_t)(2 * least(STEP, depth - p)));
        }
}

static void multiply(const ob_rows_product *product) {
    ob_rows_product o = *product;
    o.depth /= 2;
    if (!o.w.turned)
        o.w.ld /= 2;
    for (int64_t row = 0; row < o.rows; row += BLOCK_ROWS)
        multiply_block(FORM_PAIRS, &o, row, least(BLOCK_ROWS, o.rows - row));
}

/* ---- sums of outer products ---- */

/* Columns col .. col+V-1 of one row, rounded; 0 beyond its end, and for the row behind the last. */
OB_INLINE words piece(const ob_row_list *l, int64_t rows, int64_t row, int64_t col) {
    float rest[V] = {0};
    if (row >= rows)
        return (words){0};
    const float *from = l->row[row] + col;
    if (l->cols - col < V)
        from = memcpy(rest, from, (size_t)(l->cols - col) * sizeof *rest);
    const vec v = load_x(from, 0) * (l->scale ? l->scale[row] : 1);
    return (words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v));
}

OB_INLINE vec pair_of(const ob_row_list *l, int64_t rows, int64_t pair, int64_t col) {
    return (vec)(piece(l, rows, 2 * pair, col) | piece(l, rows, 2 * pair + 1, col) << 16);
}

/* ret [columns][pairs]. */
static void turn_list(const ob_row_list *l, int64_t rows, int64_t pairs, float *ret) {
    vec side[V];
    float turned[V * V];
    for (int64_t col = 0; col < l->cols; col += V)
        for (int64_t pair = 0; pair < pairs; pair += V) {
            for (int i = 0; i < V; i++)
                side[i] = pair_of(l, rows, pair + i, col);
            turn((const float *)side, V, turned, V);
            for (int64_t i = 0; i < least(V, l->cols - col); i++)
                memcpy(ret + (col + i) * pairs + pair, turned + i * V,
                       (size_t)least(V, pairs - pair) * sizeof *ret);
        }
}

static void add_outer(const ob_outer *o) {
    _Alignas(64) float panel[OB_OUTER_ROWS / 2 * WIDE];
    const int64_t pairs = (o->rows + 1) / 2;
    turn_list(&o->a, o->rows, pairs, o->scratch);
    for (int64_t row = 0; row < o->a.cols; row += BLOCK_ROWS)
        for (int64_t col = 0; col < o->b.cols; col += WIDE) {
            const int64_t cols = least(WIDE, o->b.cols - col);
            for (int64_t pair = 0; pair < pairs; pair++)
                for (int64_t c = 0; c < cols; c += V) {
                    const vec v = pair_of(&o->b, o->rows, pair, col + c);
                    memcpy(panel + pair * WIDE + c, &v, sizeof v);
                }
            lines none = {0};
            meet_all(least(BLOCK_ROWS, o->a.cols - row),
                     (panel_block){.next = &none,
                                   .x = o->scratch + row * pairs,
                                   .panel = panel,
                                   .ldx = pairs,
                                   .depth = pairs,
                                   .cols = cols,
                                   .add = o->add,
                                   .y = o->y + row * o->ldy + col,
                                   .ldy = o->ldy});
        }
}

extern const ob_pairs_kernels ob_pairs_avx512;
const ob_pairs_kernels ob_pairs_avx512 = {round_rows, multiply, add_outer};
