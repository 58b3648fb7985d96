/* Part of rows_kernel.c: a few rows of W meet a few rows of x, all in registers; each pair has one
 * vector of partial sums, whose order depends on the columns alone. */
#ifndef MOEREF_OPENBLAS_ROWS_TILE_H
#define MOEREF_OPENBLAS_ROWS_TILE_H

#include "rows_panel.h"

typedef float quad __attribute__((vector_size(16)));

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE __builtin_shufflevector
#else
typedef int32_t quad_bits __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (quad_bits){__VA_ARGS__})
#endif

/* W's rows in a tile. */
enum { COLS = 4 };

OB_INLINE void arrange_step(float *x) {
    float even_odd[STEP];
    for (int i = 0; i < V; i++) {
        even_odd[i] = x[(ptrdiff_t)2 * i];
        even_odd[V + i] = x[(ptrdiff_t)2 * i + 1];
    }
    memcpy(x, even_odd, sizeof even_odd);
}

/* The sum of each of four vectors. */
OB_INLINE quad add_up(const vec *a, ptrdiff_t next) {
    quad q[4];
    for (int c = 0; c < 4; c++) {
        quad part[V / 4];
        memcpy(part, &a[c * next], sizeof part);
        for (int width = V / 8; width; width /= 2)
            for (int i = 0; i < width; i++)
                part[i] += part[i + width];
        q[c] = part[0];
    }
    quad ab = SHUFFLE(q[0], q[1], 0, 4, 1, 5) + SHUFFLE(q[0], q[1], 2, 6, 3, 7);
    quad cd = SHUFFLE(q[2], q[3], 0, 4, 1, 5) + SHUFFLE(q[2], q[3], 2, 6, 3, 7);
    return SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}

typedef struct tile_args {
    const float *x;
    int64_t ldx, depth;
    const char *w; /* rows of W, ldw bytes apart; `kept` of them */
    int64_t ldw;
    int64_t ahead; /* bytes to what is read later, to be fetched now; 0: it was read before */
    bool along;    /* one row of W, all columns of it */
    int64_t kept;
    const ob_matrix *codes; /* their scales: those of row `col` on, from column `first` on */
    int64_t col, first;
    bool arranged; /* x is */
    bool add;      /* to y */
    float *y;
    int64_t ldy;
} tile_args;

/* V columns of x, `half` of a step; the columns that follow `at` bytes from each row's start. */
OB_INLINE void add_products(form f, int rows, int cols, int half, const float *x, int64_t ldx,
                            const char *const *w, int64_t at, const vec *scale, vec (*sum)[ROWS]) {
    vec v[ROWS];
    UNROLL for (int i = 0; i < rows; i++) v[i] = load_x(x + i * ldx, half);
    UNROLL for (int c = 0; c < cols; c++) {
        vec weight = load(f, w[c] + at, half, scale[c]);
        UNROLL for (int i = 0; i < rows; i++) sum[c][i] += weight * v[i];
    }
}

/* The columns after the last whole step, with zeros behind them. */
OB_INLINE void add_rest(form f, int rows, int cols, const tile_args *t, int64_t p,
                        const char *const *w, const vec *scale, vec (*sum)[ROWS]) {
    float x[ROWS][STEP] = {{0}};
    char tail[COLS][STEP * 4] = {{0}};
    const char *rest[COLS];
    const int64_t count = t->depth - p;
    for (int i = 0; i < rows; i++) {
        memcpy(x[i], t->x + i * t->ldx + p, (size_t)count * sizeof(float));
        if (t->arranged)
            arrange_step(x[i]);
    }
    for (int c = 0; c < cols; c++) {
        rest[c] = memcpy(tail[c], w[c] + values_bytes(f, p), (size_t)values_bytes(f, count));
    }
    add_products(f, rows, cols, 0, x[0], STEP, rest, 0, scale, sum);
    add_products(f, rows, cols, 1, x[0], STEP, rest, 0, scale, sum);
}

/* In the order of memory, not row by row as a tile reads: that is a fifth faster. */
OB_INLINE void fetch_ahead(form f, int cols, const tile_args *t, int64_t at, const char *row) {
    if (!t->ahead || at % 64 != 0)
        return;
    const char *from = row + at + t->ahead + (cols - 1) * (values_bytes(f, t->first) + at);
    UNROLL for (int c = 0; c < cols; c++) __builtin_prefetch(from + (ptrdiff_t)64 * c);
}

/* Columns p .. end-1, whole steps. */
OB_INLINE void add_steps(form f, int rows, int cols, const tile_args *t, int64_t p, int64_t end,
                         const char *const *w, const vec *scale, vec (*sum)[ROWS]) {
    const int64_t step = alternates(f) || is_code(f) ? STEP : V; /* as registers allow */
    for (; p < end; p += step) {
        const int64_t at = values_bytes(f, p);
        fetch_ahead(f, cols, t, at, w[0]);
        for (int half = 0; half < step / V; half++)
            add_products(f, rows, cols, half, t->x + p, t->ldx, w, at, scale, sum);
    }
}

/* OB_GROUP of them. */
OB_INLINE void add_group(form f, int rows, int cols, const tile_args *t, int64_t p,
                         const char *const *w, const vec *scale, vec (*sum)[ROWS]) {
    UNROLL for (int i = 0; i < OB_GROUP; i += STEP)
        add_steps(f, rows, cols, t, p + i, p + i + STEP, w, scale, sum);
}

OB_INLINE int64_t last_row(const tile_args *t, int c) {
    return c < t->kept ? c : t->kept - 1;
}

/* A chunk of columns. */
OB_INLINE void add_chunk(form f, int rows, int cols, const tile_args *t, vec (*sum)[ROWS]) {
    vec scale[COLS] = {{0}};
    const char *w[COLS];
    const float *scales[COLS];
    const int64_t whole = t->depth / STEP * STEP;
    const int64_t wide = is_code(f) ? scale_width(t->codes) : INT64_MAX;
    UNROLL for (int c = 0; c < cols; c++) {
        w[c] = t->w + last_row(t, c) * t->ldw;
        scales[c] = is_code(f) ? scales_of(t->codes, t->col + last_row(t, c)) : NULL;
        UNROLL for (int i = 0; i < rows; i++) sum[c][i] = (vec){0};
    }
    int64_t block = is_code(f) ? t->first / wide : 0, p = 0;
    if (is_code(f) && rows <= 2 && wide == OB_GROUP) /* no loop for each block: more rows hide it */
        for (; p + OB_GROUP <= t->depth; p += OB_GROUP, block++) {
            UNROLL for (int c = 0; c < cols; c++) scale[c] = scale_vec(f, scales[c][block]);
            add_group(f, rows, cols, t, p, w, scale, sum);
        }
    for (int64_t end; p < t->depth; p = end, block++) {
        end = is_code(f) ? least((block + 1) * wide - t->first, t->depth) : t->depth;
        if (is_code(f))
            UNROLL for (int c = 0; c < cols; c++) scale[c] = scale_vec(f, scales[c][block]);
        add_steps(f, rows, cols, t, p, least(end, whole), w, scale, sum);
    }
    if (whole < t->depth)
        add_rest(f, rows, cols, t, whole, w, scale, sum);
}

OB_INLINE void tile(form f, int rows, int cols, const tile_args *t) {
    vec sum[COLS][ROWS];
    add_chunk(f, rows, cols, t, sum);
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < cols && c < t->kept; c += 4) {
            quad total = add_up(&sum[c][i], ROWS);
            float *y = t->y + i * t->ldy + c;
            for (int j = 0; j < 4 && c + j < t->kept; j++)
                y[j] = t->add ? y[j] + total[j] : total[j];
        }
}

/* One row of W, all of its columns: four chunks, then their sums one by one, as tiles add them. */
OB_INLINE void stream(form f, int rows, const tile_args *all) {
    bool add = all->add;
    for (int64_t p = 0; p < all->depth; p += (int64_t)4 * OB_CHUNK) {
        vec sum[4][ROWS] = {{{0}}};
        int chunks = 0;
        for (tile_args t = *all; chunks < 4 && p + chunks * OB_CHUNK < all->depth; chunks++) {
            vec part[1][ROWS];
            t.first = p + (int64_t)chunks * OB_CHUNK;
            t.depth = least(OB_CHUNK, all->depth - t.first);
            t.x = all->x + t.first;
            t.w = all->w + values_bytes(f, t.first);
            add_chunk(f, rows, 1, &t, part);
            UNROLL for (int i = 0; i < rows; i++) sum[chunks][i] = part[0][i];
        }
        for (int i = 0; i < rows; i++) {
            const quad total = add_up(&sum[0][i], ROWS);
            float *y = all->y + i * all->ldy;
            for (int c = 0; c < chunks; c++)
                *y = add || c ? *y + total[c] : total[c];
        }
        add = true;
    }
}

OB_INLINE void tiles_of(form f, int64_t rows, tile_args t) {
    for (int64_t i = 0, now; i < rows; i += now) {
        now = rows - i < ROWS ? rows - i : ROWS;
        switch (now) {
        case 1:
            tile(f, 1, COLS, &t);
            break;
        case 2:
            tile(f, 2, COLS, &t);
            break;
        case 3:
            tile(f, 3, COLS, &t);
            break;
#if ROWS > 3
        case 4:
            tile(f, 4, COLS, &t);
            break;
        case 5:
            tile(f, 5, COLS, &t);
            break;
        default:
            tile(f, 6, COLS, &t);
#endif
        }
        t.x += now * t.ldx;
        t.y += now * t.ldy;
    }
}

#endif
