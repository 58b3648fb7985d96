/* Products of bf16 by AVX512_BF16, whose instruction multiplies two pairs of neighbours and adds
 * both products to a sum in fp32, which takes subnormal values for 0. Weights whose depth lies
 * along memory are read where they lie; turned ones and outer products make panels as in
 * rows_many.h, with a pair in each word. */
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

/* ---- rows by a matrix that lies with its depth along memory ---- */

/* Words of W and of x meet where they lie: a tile's pairs of rows have a vector of sums each, all
 * in registers, added up across when CHUNK words are done. W's rows are read, by the number of rows
 * of x:
 *   to STREAMED  two at a time, half of W apart, so that both are long streams, which memory and
 *                the third cache give fastest
 *   to ONCE      side by side, and each once
 *   more         BLOCK of them by every GROUP rows of x, so that they stay in the second cache */
enum { STREAMED = 4, ONCE = 8, GROUP = 6, CHUNK = 2 * OB_CHUNK };
/* Whole tiles of three columns, and of four. */
enum { TOGETHER = 12, BLOCK = 8 * TOGETHER };
enum { WORD = sizeof(float), STREAM_AHEAD = 4096 };
/* Of the largest tiles. */
enum { SUMS = 24, MOST_COLS = 4 };

/* Rows of W `ldw` words apart, whose columns of y are side by side, or, of two, `next` apart. */
typedef struct dot_tile {
    const float *x, *w;
    int64_t ldx, ldw, depth;
    int64_t ahead; /* bytes from what is read of a row of W to what is fetched; 0: nothing */
    bool add;      /* to y */
    float *y;
    int64_t ldy, next;
} dot_tile;

/* Vectors i and i + s become one with sums of both, in lanes of their own. Where there is no vector
 * i + s, that is i again. */
#define STAYS(l, s)   ((l) & (s) ? V + (l) : (l))
#define CROSSES(l, s) ((l) & (s) ? V + (l) - (s) : (l) + (s))
#define HALVE(s, done)                                                                             \
    UNROLL for (int i = 0; i < V; i++) if (i < count && !(i & ((s) | (done)))) {                   \
        const vec a = v[i], b = i + (s) < count ? v[i + (s)] : a;                                  \
        v[i] = MIX(a, b, STAYS, s) + MIX(a, b, CROSSES, s);                                        \
    }

/* In lane i the sum of vector i, of V at most; every vector's lanes are added in one order. */
OB_INLINE vec add_across(int count, vec *v) {
    HALVE(4, 0)
    HALVE(2, 4)
    HALVE(1, 6)
    HALVE(8, 7)
    return v[0];
}

/* V words, or those of `lanes`, of every row. */
OB_INLINE void add_words(int rows, int cols, const dot_tile *t, int64_t p, __mmask16 lanes,
                         vec *sum) {
    __m512bh w[MOST_COLS];
    if (t->ahead)
        UNROLL for (int c = 0; c < cols; c++)
            __builtin_prefetch((const char *)(t->w + c * t->ldw + p) + t->ahead, 0, 2);
    UNROLL for (int c = 0; c < cols; c++) w[c] =
        (__m512bh)_mm512_maskz_loadu_ps(lanes, t->w + c * t->ldw + p);
    UNROLL for (int i = 0; i < rows; i++) {
        const __m512bh x = (__m512bh)_mm512_maskz_loadu_ps(lanes, t->x + i * t->ldx + p);
        UNROLL for (int c = 0; c < cols; c++) sum[i * cols + c] =
            (vec)_mm512_dpbf16_ps((__m512)sum[i * cols + c], x, w[c]);
    }
}

OB_INLINE void dot(int rows, int cols, const dot_tile *t) {
    vec sum[SUMS];
    float total[SUMS + V];
    const int64_t whole = t->depth / V * V;
    UNROLL for (int i = 0; i < V; i++) sum[i] = (vec){0};
    UNROLL for (int i = V; i < SUMS; i++) sum[i] = (vec){0};
    for (int64_t p = 0; p < whole; p += V)
        add_words(rows, cols, t, p, 0xffff, sum);
    if (whole < t->depth)
        add_words(rows, cols, t, whole, (__mmask16)((1 << (t->depth - whole)) - 1), sum);
    UNROLL for (int i = 0; i < rows * cols; i += V) {
        const vec v = add_across(rows * cols - i < V ? rows * cols - i : V, sum + i);
        memcpy(total + i, &v, sizeof v);
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int c = 0; c < cols; c++) {
        float *y = t->y + i * t->ldy + c * (cols == 2 ? t->next : 1);
        *y = t->add ? *y + total[i * cols + c] : total[i * cols + c];
    }
}

#define DOT(rows, cols)                                                                            \
    case (rows) * (MOST_COLS + 1) + (cols):                                                        \
        dot(rows, cols, t);                                                                        \
        break;

static void dot_any(int64_t rows, int64_t cols, const dot_tile *t) {
    switch (rows * (MOST_COLS + 1) + cols) {
        DOT(1, 1)
        DOT(1, 2)
        DOT(2, 1)
        DOT(2, 2)
        DOT(3, 1)
        DOT(3, 2)
        DOT(4, 1)
        DOT(4, 2)
        DOT(4, 4)
        DOT(5, 1)
        DOT(5, 4)
        DOT(6, 1)
        DOT(6, 4)
        DOT(7, 1)
        DOT(7, 3)
        DOT(8, 1)
        DOT(8, 3)
    }
}

/* Rows row .. of x, rows col .. of W, words p .. of both. */
static dot_tile dot_tile_of(const ob_rows_product *o, int64_t row, int64_t col, int64_t p) {
    return (dot_tile){.x = o->x + row * o->ldx + p,
                      .w = (const float *)o->w.data + col * o->w.ld + p,
                      .ldx = o->ldx,
                      .ldw = o->w.ld,
                      .depth = least(CHUNK, o->depth - p),
                      .add = p > 0 || o->beta != 0,
                      .y = o->y + row * o->ldy + col,
                      .ldy = o->ldy};
}

static void dot_streams(const ob_rows_product *o) {
    const int64_t half = o->cols / 2;
    for (int64_t col = 0; col < half; col++)
        for (int64_t p = 0; p < o->depth; p += CHUNK) {
            dot_tile t = dot_tile_of(o, 0, col, p);
            t.ldw = half * o->w.ld;
            t.next = half;
            t.ahead = STREAM_AHEAD;
            dot_any(o->rows, 2, &t);
        }
    for (int64_t p = 0; p < o->depth && 2 * half < o->cols; p += CHUNK) {
        const dot_tile t = dot_tile_of(o, 0, 2 * half, p);
        dot_any(o->rows, 1, &t);
    }
}

/* The rows of x that come first fetch the tile after theirs. */
static void dot_block(const ob_rows_product *o, int64_t row, int64_t rows, int64_t col,
                      int64_t cols, int64_t p) {
    const int64_t wide = rows > GROUP ? 3 : 4;
    dot_tile t = dot_tile_of(o, row, col, p);
    t.ahead = row ? 0 : wide * o->w.ld * WORD;
    for (int64_t left = cols, now; left > 0; left -= now) {
        now = left < wide ? 1 : wide;
        dot_any(rows, now, &t);
        t.w += now * t.ldw;
        t.y += now;
    }
}

static void dot_blocks(const ob_rows_product *o) {
    const bool once = o->rows <= ONCE;
    const int64_t groups = once ? 1 : (o->rows + GROUP - 1) / GROUP;
    const int64_t block = once ? TOGETHER : BLOCK;
    for (int64_t col = 0; col < o->cols; col += block)
        for (int64_t p = 0; p < o->depth; p += CHUNK)
            for (int64_t row = 0, now, left = groups; row < o->rows; row += now, left--) {
                now = (o->rows - row + left - 1) / left;
                dot_block(o, row, now, col, least(block, o->cols - col), p);
            }
}

/* ---- rows by any matrix ---- */

static void multiply(const ob_rows_product *product) {
    ob_rows_product o = *product;
    o.depth /= 2;
    if (!o.w.turned) {
        o.w.ld /= 2;
        (o.rows <= STREAMED ? dot_streams : dot_blocks)(&o);
        return;
    }
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
