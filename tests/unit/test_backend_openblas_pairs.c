/* Products of pairs of bf16, where this processor has them: right against float64 of the rounded
 * operands, and a row's bits are its own. */
#include "moeref/rng.h"
#include "rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_X = 8, SEED_W = 7 };

static const ob_pairs_kernels *pairs_or_skip(void) {
    const ob_pairs_kernels *k = ob_pairs();
    if (!k)
        cr_skip("no AVX512_BF16 in this processor or compiler");
    return k;
}

static float *draw(int seed, int64_t count) {
    float *ret = malloc((size_t)count * sizeof *ret);
    for (int64_t i = 0; i < count; i++)
        ret[i] = (float)(moe_rng_uniform((uint64_t)seed, 0, (uint64_t)i) - 0.5);
    return ret;
}

static uint16_t *narrow(const float *x, int64_t count) {
    uint16_t *ret = malloc((size_t)count * sizeof *ret);
    moe_convert(ret, MOE_BF16, x, MOE_F32, (size_t)count);
    return ret;
}

static double bf16(float x) {
    double ret;
    uint16_t bits;
    moe_convert(&bits, MOE_BF16, &x, MOE_F32, 1);
    moe_convert(&ret, MOE_F64, &bits, MOE_BF16, 1);
    return ret;
}

/* L products are added one by one. The k-th addition rounds a partial sum whose variance is k / L
 * of the whole by at most u: L u^2 / 6 in all if roundings are independent. Six times that, and
 * some for what is added up at the end. */
static void expect_close(const float *y, const double *want, int64_t count, int64_t chain,
                         const char *what, int64_t rows, int64_t cols, int64_t depth) {
    const double u = 0x1p-24;
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        error += ((double)y[i] - want[i]) * ((double)y[i] - want[i]);
        size += want[i] * want[i];
    }
    cr_expect(error <= (double)(chain + 4) * u * u * size, "%s [%d][%d][%d]: NMSE %.3g", what,
              (int)rows, (int)cols, (int)depth, error / size);
}

/* ---- rows by a matrix ---- */

typedef struct problem {
    int64_t rows, cols, depth;
    bool turned;
    float *x, *values; /* [rows][depth], and W's [cols][depth] or [depth][cols] */
    uint16_t *w;
} problem;

static void multiply(const ob_pairs_kernels *k, const problem *p, int64_t first, int64_t rows,
                     float beta, float *y) {
    const int64_t ld = p->depth / 2 + 3;
    float *words = malloc((size_t)(rows * ld) * sizeof *words);
    k->round_rows(rows, p->depth, p->x + first * p->depth, p->depth, words, ld);
    for (int64_t i = 0; i < rows * p->cols; i++)
        y[i] = beta != 0 ? 0.25f : NAN;
    k->multiply(&(ob_rows_product){
        rows,
        p->cols,
        p->depth,
        words,
        ld,
        {.data = p->w, .type = MOE_BF16, .turned = p->turned, .ld = p->turned ? p->cols : p->depth},
        beta,
        y,
        p->cols});
    free(words);
}

static void expect_product(const ob_pairs_kernels *k, const problem *p, float beta) {
    const int64_t count = p->rows * p->cols;
    double *want = malloc((size_t)count * sizeof *want);
    float *y = malloc((size_t)count * sizeof *y);
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->cols; j++) {
            double sum = beta != 0 ? 0.25 : 0;
            for (int64_t q = 0; q < p->depth; q++)
                sum += bf16(p->x[i * p->depth + q]) *
                       bf16(p->values[p->turned ? q * p->cols + j : j * p->depth + q]);
            want[i * p->cols + j] = sum;
        }
    multiply(k, p, 0, p->rows, beta, y);
    expect_close(y, want, count, p->depth < OB_CHUNK ? p->depth : OB_CHUNK,
                 p->turned ? "turned" : "as it is", p->rows, p->cols, p->depth);
    free(want);
    free(y);
}

static void expect_own_bits(const ob_pairs_kernels *k, const problem *p) {
    const size_t row = (size_t)p->cols * sizeof(float);
    float *all = malloc((size_t)p->rows * row), *some = malloc((size_t)p->rows * row);
    multiply(k, p, 0, p->rows, 0, all);
    for (int64_t rows = 1; rows <= p->rows; rows = 2 * rows + 1)
        for (int64_t first = 0; first + rows <= p->rows; first += rows + 7) {
            multiply(k, p, first, rows, 0, some);
            cr_expect_eq(memcmp(some, all + first * p->cols, (size_t)rows * row), 0,
                         "turned %d: %d rows from %d on", (int)p->turned, (int)rows, (int)first);
        }
    free(all);
    free(some);
}

static void expect_right(int64_t rows, int64_t cols, int64_t depth) {
    const ob_pairs_kernels *k = pairs_or_skip();
    for (int turned = 0; turned < 2; turned++) {
        problem p = {rows, cols, depth, turned, NULL, NULL, NULL};
        p.x = draw(SEED_X, rows * depth);
        p.values = draw(SEED_W, cols * depth);
        p.w = narrow(p.values, cols * depth);
        expect_product(k, &p, 0);
        expect_product(k, &p, 1);
        expect_own_bits(k, &p);
        free(p.x);
        free(p.values);
        free(p.w);
    }
}

Test(openblas_pairs, rows_by_a_matrix) {
    static const int64_t size[][3] = {{1, 1, 2},      {1, 9, 18},   {5, 7, 514},
                                      {13, 33, 100},  {26, 20, 34}, {7, 19, 1030},
                                      {300, 35, 530}, {9, 101, 66}, {19, 6, 4130}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        expect_right(size[s][0], size[s][1], size[s][2]);
}

/* Each number has tiles of its own; columns are left over by each. */
Test(openblas_pairs, few_rows_by_a_matrix) {
    for (int64_t rows = 1; rows <= 20; rows++)
        for (int64_t cols = 11; cols <= 14; cols++)
            expect_right(rows, cols, 2 * (rows + 30));
}

/* Also where they lie; NaN, infinities, ties, and what rounds to infinity. */
Test(openblas_pairs, rows_are_rounded_to_nearest) {
    enum { ROWS = 3, DEPTH = 70, LD = 71 };
    static const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x3f808000, 0x3f818000,
                                   0x3f808001, 0x7f7fffff, 0x80000000, 0x00800000};
    const ob_pairs_kernels *k = pairs_or_skip();
    float *x = draw(SEED_X, ROWS * LD), words[ROWS * DEPTH / 2];
    memcpy(x + LD, odd, sizeof odd);
    uint16_t *want = narrow(x, ROWS * LD);
    k->round_rows(ROWS, DEPTH, x, LD, words, DEPTH / 2);
    for (int i = 0; i < ROWS; i++)
        cr_expect_eq(memcmp(words + i * DEPTH / 2, want + i * LD, 2 * DEPTH), 0, "row %d", i);
    k->round_rows(ROWS, DEPTH, x, LD, x, DEPTH / 2);
    cr_expect_eq(memcmp(words, x, sizeof words), 0, "in place");
    free(x);
    free(want);
}

/* ---- sums of outer products ---- */

static void expect_outer(const ob_pairs_kernels *k, int64_t rows, int64_t a, int64_t b,
                         bool weighted, bool add) {
    float *left = draw(SEED_X, rows * a), *right = draw(SEED_W, rows * b);
    float *weight = draw(SEED_W + SEED_X, rows), *y = malloc((size_t)(a * b) * sizeof *y);
    float *words = malloc((size_t)(a * ((rows + 1) / 2)) * sizeof *words);
    double *want = calloc((size_t)(a * b), sizeof *want);
    const float *of_left[OB_OUTER_ROWS], *of_right[OB_OUTER_ROWS];
    for (int64_t i = 0; i < a * b; i++) {
        y[i] = add ? 0.25f : NAN;
        want[i] = add ? 0.25 : 0;
    }
    for (int64_t r = 0; r < rows; r++) { /* from the last on: they lie anywhere */
        of_left[r] = left + (rows - 1 - r) * a;
        of_right[r] = right + (rows - 1 - r) * b;
        for (int64_t i = 0; i < a; i++)
            for (int64_t j = 0; j < b; j++)
                want[i * b + j] += bf16(of_left[r][i]) *
                                   bf16(weighted ? weight[r] * of_right[r][j] : of_right[r][j]);
    }
    k->add_outer(&(ob_outer){
        rows, {of_left, NULL, a}, {of_right, weighted ? weight : NULL, b}, words, add, y, b});
    expect_close(y, want, a * b, rows, "outer", rows, a, b);
    free(left);
    free(right);
    free(weight);
    free(y);
    free(words);
    free(want);
}

Test(openblas_pairs, sums_of_outer_products) {
    static const int64_t size[][3] = {{1, 1, 1},   {2, 16, 32},    {3, 17, 33},  {33, 5, 70},
                                      {64, 48, 9}, {100, 300, 31}, {512, 20, 40}};
    const ob_pairs_kernels *k = pairs_or_skip();
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int i = 0; i < 4; i++)
            expect_outer(k, size[s][0], size[s][1], size[s][2], i & 1, i & 2);
}
