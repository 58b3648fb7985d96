#include "reference/loops.h"
#include "core/simd.h"

#include <string.h>

/* Multiply-adds under which waking the other threads costs more than they save. */
static const int64_t worth_threads = 4000000;

/* A tile of results is built at once, TALL rows of WIDE columns, so that what is loaded serves more
 * than one sum and no addition waits for another. Each sum is still added in ascending order: bits
 * are those of the plain loop, with and without AVX2, which fuses nothing. */
typedef real lane __attribute__((vector_size(32)));
typedef real stored_lane __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
enum {
    TALL = 4,
    LANES = 2,
    LANE = (int)(sizeof(lane) / sizeof(real)),
    WIDE = LANES * LANE,
    DEPTH = 256 /* of a panel, which stays in the first-level cache */
};

/* out[r][c] = sum_k a[r row + k step] b[k][c], where b[k][c] is at k b_step + c b_column. */
typedef struct product {
    const real *a, *b;
    int64_t a_row, a_step, b_step, b_column;
    int64_t rows, depth, columns;
    const real *bias; /* [columns], or NULL */
    real *out;
} product;

/* `count` steps of WIDE columns from column c on, zeros after the last. */
static void pack(const product *p, int64_t k, int64_t count, int64_t c, real *panel) {
    const int64_t width = p->columns - c < WIDE ? p->columns - c : WIDE;
    const real *b = p->b + k * p->b_step + c * p->b_column;
    if (width < WIDE)
        memset(panel, 0, (size_t)(count * WIDE) * sizeof *panel);
    if (p->b_column == 1) {
        for (int64_t i = 0; i < count; i++)
            memcpy(panel + i * WIDE, b + i * p->b_step, (size_t)width * sizeof *panel);
        return;
    }
    for (int64_t j = 0; j < width; j++)
        for (int64_t i = 0; i < count; i++)
            panel[i * WIDE + j] = b[j * p->b_column + i * p->b_step];
}

/* Goes on with the sums of TALL rows. */
MOE_INT_INLINE void add_steps(const real *const row[TALL], int64_t step, int64_t count,
                              const real *panel, real sum[TALL][WIDE]) {
    lane s[TALL][LANES];
    for (int t = 0; t < TALL; t++)
        for (int64_t i = 0; i < LANES; i++)
            s[t][i] = *(const stored_lane *)&sum[t][i * LANE];
    for (int64_t k = 0; k < count; k++)
        for (int64_t i = 0; i < LANES; i++) {
            const lane w = *(const stored_lane *)&panel[k * WIDE + i * LANE];
            for (int t = 0; t < TALL; t++)
                s[t][i] += row[t][k * step] * w;
        }
    for (int t = 0; t < TALL; t++)
        for (int64_t i = 0; i < LANES; i++)
            *(stored_lane *)&sum[t][i * LANE] = s[t][i];
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void add_steps_avx2(const real *const row[TALL], int64_t step, int64_t count,
                                        const real *panel, real sum[TALL][WIDE]) {
    add_steps(row, step, count, panel, sum);
}
#endif

static void add_panel(const product *p, int64_t k, int64_t count, int64_t c, const real *panel) {
    const size_t width = (size_t)(p->columns - c < WIDE ? p->columns - c : WIDE);
    for (int64_t r = 0; r < p->rows; r += TALL) {
        const int64_t tall = p->rows - r < TALL ? p->rows - r : TALL;
        const real *row[TALL];
        real sum[TALL][WIDE] = {{0}};
        for (int64_t t = 0; t < TALL; t++) /* the last row fills what is missing of the tile */
            row[t] = p->a + (r + (t < tall ? t : tall - 1)) * p->a_row + k * p->a_step;
        for (int64_t t = 0; k > 0 && t < tall; t++)
            memcpy(sum[t], p->out + (r + t) * p->columns + c, width * sizeof(real));
#if MOE_INT_HAVE_AVX2
        if (moe_int_cpu_avx2())
            add_steps_avx2(row, p->a_step, count, panel, sum);
        else
#endif
            add_steps(row, p->a_step, count, panel, sum);
        for (int64_t t = 0; t < tall; t++)
            memcpy(p->out + (r + t) * p->columns + c, sum[t], width * sizeof(real));
    }
}

static void add_bias(const product *p, int64_t c) {
    for (int64_t r = 0; p->bias && r < p->rows; r++)
        for (int64_t i = c; i < c + WIDE && i < p->columns; i++)
            p->out[r * p->columns + i] += p->bias[i];
}

static void multiply(const product *p, int threads) {
    const int64_t panels = (p->columns + WIDE - 1) / WIDE;
#pragma omp parallel for num_threads(threads) if (p->rows * p->columns * p->depth > worth_threads)
    for (int64_t i = 0; i < panels; i++) {
        real panel[DEPTH * WIDE];
        for (int64_t k = 0; k == 0 || k < p->depth; k += DEPTH) {
            const int64_t count = p->depth - k < DEPTH ? p->depth - k : DEPTH;
            pack(p, k, count, i * WIDE, panel);
            add_panel(p, k, count, i * WIDE, panel);
        }
        add_bias(p, i * WIDE);
    }
}

void loop_linear(const real *x, int64_t rows, int64_t in, const real *w, int64_t outs,
                 const real *b, int threads, real *out) {
    const product p = {.a = x,
                       .b = w,
                       .a_row = in,
                       .a_step = 1,
                       .b_step = 1,
                       .b_column = in,
                       .rows = rows,
                       .depth = in,
                       .columns = outs,
                       .bias = b,
                       .out = out};
    multiply(&p, threads);
}

void loop_times(const real *g, int64_t rows, int64_t outs, const real *w, int64_t in, int threads,
                real *out) {
    const product p = {.a = g,
                       .b = w,
                       .a_row = outs,
                       .a_step = 1,
                       .b_step = in,
                       .b_column = 1,
                       .rows = rows,
                       .depth = outs,
                       .columns = in,
                       .out = out};
    multiply(&p, threads);
}

void loop_outer(const real *g, int64_t rows, int64_t outs, const real *x, int64_t in, int threads,
                real *out) {
    const product p = {.a = g,
                       .b = x,
                       .a_row = 1,
                       .a_step = outs,
                       .b_step = in,
                       .b_column = 1,
                       .rows = outs,
                       .depth = rows,
                       .columns = in,
                       .out = out};
    multiply(&p, threads);
}

static void square(const real *x, int64_t count, real *out) {
    for (int64_t i = 0; i < count; i++)
        out[i] = x[i] * x[i];
}

void loop_square(const real *x, int64_t count, real *out) {
    enum { PART = 1 << 16, MANY = 1 << 20 }; /* elements: fewer are not worth a team of threads */
    if (count < MANY) {
        square(x, count, out);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i += PART)
        square(x + i, count - i < PART ? count - i : PART, out + i);
}

void loop_round(real *x, int64_t count, moe_dtype dtype) {
    enum { PIECE = 4096 };
    uint16_t codes[PIECE];
    for (int64_t first = 0; dtype != MOE_F64 && dtype != MOE_F32 && first < count; first += PIECE) {
        const size_t n = (size_t)(count - first < PIECE ? count - first : PIECE);
        moe_convert(codes, dtype, x + first, MOE_REAL_DTYPE, n);
        moe_convert(x + first, MOE_REAL_DTYPE, codes, dtype, n);
    }
}
