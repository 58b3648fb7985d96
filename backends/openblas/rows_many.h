/* Part of rows_kernel.c: many rows of x. W goes by panels of WIDE of its rows, decoded to fp32 and
 * turned, so that one step along the depth finds a panel's columns side by side; TALL rows of x
 * meet a panel at a time, and their sums stay in registers for a chunk of the depth. Nothing is
 * added across a vector, and W is decoded once for BLOCK_ROWS rows of x. */
#ifndef MOEREF_OPENBLAS_ROWS_MANY_H
#define MOEREF_OPENBLAS_ROWS_MANY_H

#include "rows_panel.h"

/* As many sums as there are registers for: 24 of 32, or 12 of 16. */
#ifdef HAVE_AVX512
enum { TALL = 12 };
#define EVERY_LANE(m, s)                                                                           \
    m(0, s), m(1, s), m(2, s), m(3, s), m(4, s), m(5, s), m(6, s), m(7, s), m(8, s), m(9, s),      \
        m(10, s), m(11, s), m(12, s), m(13, s), m(14, s), m(15, s)
#elif defined(HAVE_HALVES)
enum { TALL = 6 };
#define EVERY_LANE(m, s) m(0, s), m(1, s), m(2, s), m(3, s), m(4, s), m(5, s), m(6, s), m(7, s)
#else
enum { TALL = 6 };
#define EVERY_LANE(m, s) m(0, s), m(1, s), m(2, s), m(3, s)
#endif
/* Steps along the depth between turns of fetching. */
enum { WIDE = 2 * V, BLOCK_ROWS = 256, TURN = 16 };

/* ---- a panel [depth][WIDE] ---- */

/* Lane l of two vectors whose blocks of s lanes off the diagonal change places. */
#define UPPER(l, s) ((l) & (s) ? V + (l) - (s) : (l))
#define LOWER(l, s) ((l) & (s) ? V + (l) : (l) + (s))
#if defined(__clang__) || __GNUC__ >= 12
#define MIX(a, b, lane, s) __builtin_shufflevector(a, b, EVERY_LANE(lane, s))
#else
#define MIX(a, b, lane, s) __builtin_shuffle(a, b, (integers){EVERY_LANE(lane, s)})
#endif
#define EXCHANGE(s)                                                                                \
    UNROLL for (int i = 0; i < V; i++) if (!(i & (s))) {                                           \
        vec a = v[i], b = v[i + (s)];                                                              \
        v[i] = MIX(a, b, UPPER, s);                                                                \
        v[i + (s)] = MIX(a, b, LOWER, s);                                                          \
    }

/* V rows of V values, `ld` apart, turned. */
OB_INLINE void turn(const float *from, int64_t ld, float *ret, int64_t ret_ld) {
    vec v[V];
    UNROLL for (int i = 0; i < V; i++) memcpy(&v[i], from + i * ld, sizeof v[i]);
    EXCHANGE(1)
    EXCHANGE(2)
#if defined(HAVE_HALVES)
    EXCHANGE(4)
#endif
#if defined(HAVE_AVX512)
    EXCHANGE(8)
#endif
    UNROLL for (int i = 0; i < V; i++) memcpy(ret + i * ret_ld, &v[i], sizeof v[i]);
}

/* Row of the panel for column q of a decoded row: its own, or one of an even-odd step. */
OB_INLINE int64_t place_of(int64_t q, bool alternate) {
    return alternate ? q / STEP * STEP + q % STEP / V : q;
}

/* Rows col .. col+cols-1 of W, V at most, `depth` columns from p on: into V columns of the panel,
 * and `depth` up to a whole step, where what follows is anything. */
OB_INLINE void turn_rows(form f, const ob_matrix *w, int64_t col, int64_t cols, int64_t p,
                         int64_t depth, float *ret) {
    const bool alternate = alternates(f) && (!is_code(f) || streams(w));
    float rows[V * PANEL_LD + STEP] = {0};
    int64_t done = 0;
    if (value_bits(f) == 32 && cols == V)
        for (; done + V <= depth; done += V)
            turn((const float *)w->data + col * w->ld + p + done, w->ld, ret + done * WIDE, WIDE);
    if (done == depth)
        return;
    decode_panel(f, w, col, cols, p + done, depth - done, rows);
    const int64_t step = alternate ? STEP : V, end = (depth - done + step - 1) / step * step;
    for (int64_t q = 0; q < end; q += V)
        turn(rows + q, PANEL_LD, ret + (done + place_of(q, alternate)) * WIDE,
             alternate ? 2 * WIDE : WIDE);
}

/* V values side by side. */
OB_INLINE vec widen(form f, const char *p) {
    typedef uint16_t shorts __attribute__((vector_size(2 * V)));
    shorts s;
    if (f != FORM_BF16)
        return load(f, p, 0, (vec){0});
    memcpy(&s, p, sizeof s);
    return (vec)(__builtin_convertvector(s, words) << 16);
}

/* Of W [depth] rows of row_bytes, which lie as a panel's do, `cols` columns. */
OB_INLINE void copy_rows(form f, const char *w, int64_t row_bytes, int64_t cols, int64_t depth,
                         float *ret) {
    char part[WIDE * 4] = {0};
    for (int64_t p = 0; p < depth; p++, w += row_bytes) {
        const char *from = w;
        if (cols < WIDE)
            from = memcpy(part, w, (size_t)values_bytes(f, cols));
        for (int c = 0; c < WIDE; c += V) {
            const vec v = widen(f, from + values_bytes(f, c));
            memcpy(ret + p * WIDE + c, &v, sizeof v);
        }
    }
}

/* V words of two rows of bf16, side by side. */
OB_INLINE vec pair_up(const char *even, const char *odd) {
    return (vec)((words)widen(FORM_BF16, even) >> 16 | (words)widen(FORM_BF16, odd));
}

/* Of W [2 depth] rows of bf16, row_bytes each: its rows by twos. */
OB_INLINE void copy_pairs(const char *w, int64_t row_bytes, int64_t cols, int64_t depth,
                          float *ret) {
    char part[2][WIDE * 2] = {{0}};
    for (int64_t p = 0; p < depth; p++, w += 2 * row_bytes) {
        const char *even = w, *odd = w + row_bytes;
        if (cols < WIDE) {
            even = memcpy(part[0], even, (size_t)values_bytes(FORM_BF16, cols));
            odd = memcpy(part[1], odd, (size_t)values_bytes(FORM_BF16, cols));
        }
        for (int c = 0; c < WIDE; c += V) {
            const vec v = pair_up(even + (ptrdiff_t)2 * c, odd + (ptrdiff_t)2 * c);
            memcpy(ret + p * WIDE + c, &v, sizeof v);
        }
    }
}

OB_INLINE void fill_panel(form f, const ob_matrix *w, int64_t col, int64_t cols, int64_t p,
                          int64_t depth, float *ret) {
    const char *data = w->data;
    if (f == FORM_PAIRS)
        copy_pairs(data + values_bytes(FORM_BF16, 2 * p * w->ld + col),
                   values_bytes(FORM_BF16, w->ld), cols, depth, ret);
    else if (w->turned)
        copy_rows(f, data + values_bytes(f, p * w->ld + col), values_bytes(f, w->ld), cols, depth,
                  ret);
    else
        for (int64_t c = 0; c < cols; c += V)
            turn_rows(f, w, col + c, least(V, cols - c), p, depth, ret + c);
}

/* ---- its products ---- */

/* Lines of W that the next panel is made of, fetched while this one is met: they lie a row apart,
 * which the processor does not foresee unless rows are as long as those of fp32. */
typedef struct lines {
    const char *row; /* whose lines come next; `rows` of them are left, `ld` bytes apart */
    int64_t rows, ld;
    int64_t bytes, done; /* of a row, and of this one fetched */
    int64_t together;
} lines;

OB_INLINE void fetch_some(lines *l) {
    for (int64_t i = 0; i < l->together && l->rows > 0; i++) {
        __builtin_prefetch(l->row + l->done, 0, 2);
        l->done += 64;
        if (l->done >= l->bytes) {
            l->row += l->ld;
            l->done = 0;
            l->rows--;
        }
    }
}

/* Those of the panel at column `col`, fetched in `turns` turns. */
OB_INLINE lines lines_of(form f, const ob_rows_product *o, int64_t col, int64_t p, int64_t depth,
                         int64_t turns) {
    const ob_matrix *w = &o->w;
    if (f == FORM_F32 || col >= o->cols)
        return (lines){0};
    const bool by_twos = f == FORM_PAIRS; /* two rows of W make one of the panel */
    const form stored = by_twos ? FORM_BF16 : f;
    const int64_t cols = least(WIDE, o->cols - col), each = by_twos ? 2 : 1;
    const int64_t down = w->turned ? each * p : col, along = w->turned ? col : p;
    lines l = {.rows = w->turned ? each * depth : cols,
               .ld = values_bytes(stored, w->ld),
               .bytes = values_bytes(stored, w->turned ? cols : depth)};
    l.row = (const char *)w->data + down * l.ld + values_bytes(stored, along);
    l.together = 1 + l.rows * ((l.bytes + 63) / 64) / turns;
    return l;
}

typedef struct panel_block {
    lines *next;
    const float *x, *panel;
    int64_t ldx, depth, cols;
    bool add; /* to y */
    float *y;
    int64_t ldy;
} panel_block;

OB_INLINE void store_sums(const panel_block *b, int64_t row, const vec *sum) {
    float total[WIDE], *y = b->y + row * b->ldy;
    if (b->cols < WIDE) {
        memcpy(total, sum, sizeof total);
        for (int64_t c = 0; c < b->cols; c++)
            y[c] = b->add ? y[c] + total[c] : total[c];
        return;
    }
    for (int h = 0; h < 2; h++) {
        vec v = {0};
        if (b->add)
            memcpy(&v, y + (ptrdiff_t)h * V, sizeof v);
        v = b->add ? v + sum[h] : sum[h];
        memcpy(y + (ptrdiff_t)h * V, &v, sizeof v);
    }
}

/* A file has products of values, or of pairs. */
OB_INLINE vec add_product(vec sum, const float *x, vec w) {
#ifdef __AVX512BF16__
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)w);
#else
    return sum + *x * w;
#endif
}

OB_INLINE void meet_panel(int rows, const panel_block *b) {
    vec sum[TALL][2];
    const float *x[TALL];
    UNROLL for (int i = 0; i < rows; i++) {
        sum[i][0] = sum[i][1] = (vec){0};
        x[i] = b->x + i * b->ldx;
    }
    for (int64_t p = 0; p < b->depth; p++) {
        if (p % TURN == 0)
            fetch_some(b->next);
        const vec low = load_x(b->panel + p * WIDE, 0), high = load_x(b->panel + p * WIDE, 1);
        UNROLL for (int i = 0; i < rows; i++) {
            sum[i][0] = add_product(sum[i][0], x[i] + p, low);
            sum[i][1] = add_product(sum[i][1], x[i] + p, high);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) store_sums(b, i, sum[i]);
}

#define MEET(n)                                                                                    \
    case n:                                                                                        \
        meet_panel(n, b);                                                                          \
        break;

static void meet_rows(int64_t rows, const panel_block *b) {
    switch (rows) {
        MEET(1)
        MEET(2)
        MEET(3)
        MEET(4)
        MEET(5)
        MEET(6)
#ifdef HAVE_AVX512
        MEET(7)
        MEET(8)
        MEET(9)
        MEET(10)
        MEET(11)
        MEET(12)
#endif
    }
}

/* Rows in groups as even as can be. */
static void meet_all(int64_t rows, panel_block b) {
    for (int64_t left = rows, now; left > 0; left -= now) {
        const int64_t groups = (left + TALL - 1) / TALL;
        now = (left + groups - 1) / groups;
        meet_rows(now, &b);
        b.x += now * b.ldx;
        b.y += now * b.ldy;
    }
}

OB_INLINE void multiply_block(form f, const ob_rows_product *o, int64_t row, int64_t rows) {
    _Alignas(64) float panel[(OB_CHUNK + STEP) * WIDE];
    const int64_t chunk = f == FORM_PAIRS ? OB_CHUNK / 2 : OB_CHUNK;
    for (int64_t p = 0; p < o->depth; p += chunk)
        for (int64_t col = 0; col < o->cols; col += WIDE) {
            const int64_t depth = least(chunk, o->depth - p);
            const int64_t turns = (rows + TALL - 1) / TALL * ((depth + TURN - 1) / TURN);
            lines next = lines_of(f, o, col + WIDE, p, depth, turns);
            const panel_block b = {.next = &next,
                                   .x = o->x + row * o->ldx + p,
                                   .panel = panel,
                                   .ldx = o->ldx,
                                   .depth = depth,
                                   .cols = least(WIDE, o->cols - col),
                                   .add = p > 0 || o->beta != 0,
                                   .y = o->y + row * o->ldy + col,
                                   .ldy = o->ldy};
            fill_panel(f, &o->w, col, b.cols, p, depth, panel);
            meet_all(rows, b);
        }
}

#endif
