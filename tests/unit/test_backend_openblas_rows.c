/* Products of rows with weights as they lie, for every instruction set that this processor has:
 * right against float64, and a row's bits are its own. */
#include "moeref/rng.h"
#include "rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const ob_rows_kernels ob_rows_kernels_base;
#ifdef OB_HAVE_X86_ROWS
extern const ob_rows_kernels ob_rows_kernels_avx2, ob_rows_kernels_avx512;
#endif

enum { ROWS_MOST = 150 };

typedef struct problem {
    int64_t rows, cols, depth;
    ob_matrix w;
    float *x;
    double *exact; /* [rows][cols] */
} problem;

/* Values that bf16 and fp16 hold exactly are drawn, so all types have the same products. */
static problem draw(int64_t rows, int64_t cols, int64_t depth, moe_dtype type, bool turned) {
    problem p = {rows,  cols,
                 depth, {.type = type, .turned = turned, .ld = turned ? cols + 3 : depth + 5},
                 NULL,  NULL};
    const size_t count = (size_t)((turned ? depth : cols) * p.w.ld);
    double *w = malloc(count * sizeof *w);
    char *data = malloc(count * moe_dtype_size(type));
    p.x = malloc((size_t)(rows * depth) * sizeof *p.x);
    p.exact = calloc((size_t)(rows * cols), sizeof *p.exact);
    for (size_t i = 0; i < count; i++)
        w[i] = (floor(256 * moe_rng_uniform(7, 0, i)) - 128) / 64;
    moe_convert(data, type, w, MOE_F64, count);
    p.w.data = data;
    for (size_t i = 0; i < (size_t)(rows * depth); i++)
        p.x[i] = (float)(moe_rng_uniform(8, 0, i) - 0.5);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t k = 0; k < depth; k++)
                p.exact[i * cols + j] +=
                    (double)p.x[i * depth + k] * w[turned ? k * p.w.ld + j : j * p.w.ld + k];
    free(w);
    return p;
}

static void destroy(problem *p) {
    free((void *)p->w.data);
    free(p->x);
    free(p->exact);
}

/* One of the two ways, `many` or few. */
static void run(const ob_rows_kernels *k, bool many, const ob_rows_product *product) {
    if (many)
        k->multiply_many(product);
    else
        k->multiply(product);
}

/* Rows first .. first+rows-1 of the product, added to `start` everywhere. */
static void multiply(const ob_rows_kernels *k, bool many, const problem *p, int64_t first,
                     int64_t rows, float beta, float start, float *y) {
    float *x = malloc((size_t)(rows * p->depth) * sizeof *x);
    memcpy(x, p->x + first * p->depth, (size_t)(rows * p->depth) * sizeof *x);
    if (!many && k->arranges(&p->w))
        k->arrange(rows, p->depth, x, p->depth);
    for (int64_t i = 0; i < rows * p->cols; i++)
        y[i] = beta != 0 ? start : NAN;
    run(k, many, &(ob_rows_product){rows, p->cols, p->depth, x, p->depth, p->w, beta, y, p->cols});
    free(x);
}

static void expect_right(const ob_rows_kernels *k, bool many, const problem *p, float beta) {
    float *y = malloc((size_t)(p->rows * p->cols) * sizeof *y);
    const double start = beta != 0 ? 0.25 : 0;
    double error = 0, size = 0;
    multiply(k, many, p, 0, p->rows, beta, (float)start, y);
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        const double want = p->exact[i] + start, off = (double)y[i] - want;
        error += off * off;
        size += want * want;
    }
    /* L products are added one by one: OB_CHUNK of many rows, OB_CHUNK / V, V >= 4, of few. The
     * k-th addition rounds a partial sum whose variance is k / L of the whole by at most u: L u^2 /
     * 6 in all if roundings are independent. Six times that, and some for what is added up at the
     * end. */
    const int64_t chain = (p->depth < OB_CHUNK ? p->depth : OB_CHUNK) / (many ? 1 : 4);
    const double u = 0x1p-24, limit = (double)(chain + 4) * u * u;
    cr_expect(error <= limit * size, "%s, many %d, type %d, turned %d, [%d][%d][%d]: NMSE %.3g",
              k->isa, (int)many, (int)p->w.type, (int)p->w.turned, (int)p->rows, (int)p->cols,
              (int)p->depth, error / size);
    free(y);
}

/* Each row alone, and with others, and some of them from the middle on. */
static void expect_own_bits(const ob_rows_kernels *k, bool many, const problem *p) {
    const size_t bytes = (size_t)(p->rows * p->cols) * sizeof(float);
    float *all = malloc(bytes), *some = malloc(bytes);
    multiply(k, many, p, 0, p->rows, 0, 0, all);
    for (int64_t rows = 1; rows <= p->rows; rows = rows < 8 ? rows + 1 : rows * 2)
        for (int64_t first = 0; first + rows <= p->rows; first += rows + 7) {
            multiply(k, many, p, first, rows, 0, 0, some);
            cr_expect_eq(
                memcmp(some, all + first * p->cols, (size_t)(rows * p->cols) * sizeof *some), 0,
                "%s, many %d, type %d, turned %d: %d rows from %d on", k->isa, (int)many,
                (int)p->w.type, (int)p->w.turned, (int)rows, (int)first);
        }
    free(all);
    free(some);
}

static void expect_kernels(const ob_rows_kernels *k) {
    static const int64_t size[][3] = {{1, 1, 1},      {1, 9, 17},         {2, 4, 64},
                                      {5, 7, 513},    {9, 33, 100},       {26, 20, 31},
                                      {7, 19, 1030},  {ROWS_MOST, 5, 40}, {30, 130, 65},
                                      {300, 35, 530}, {3, 6, 2600}};
    static const moe_dtype type[] = {MOE_F32, MOE_F16, MOE_BF16};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int t = 0; t < 6; t++) {
            problem p = draw(size[s][0], size[s][1], size[s][2], type[t % 3], t >= 3);
            cr_expect_eq(k->reads(&p.w), t < 3);
            for (int many = k->reads(&p.w) ? 0 : 1; many < 2; many++) {
                expect_right(k, many, &p, 0);
                expect_right(k, many, &p, 1);
                expect_own_bits(k, many, &p);
            }
            destroy(&p);
        }
}

Test(openblas_rows, base) {
    expect_kernels(&ob_rows_kernels_base);
}

/* The chosen one may be wider than this processor's own alone: it says what it has. */
Test(openblas_rows, chosen) {
    const char *isa = ob_rows_isa();
#ifdef OB_HAVE_X86_ROWS
    if (strcmp(isa, "avx512") == 0)
        expect_kernels(&ob_rows_kernels_avx512);
    if (strcmp(isa, "base") != 0)
        expect_kernels(&ob_rows_kernels_avx2);
#endif
    cr_expect(strcmp(isa, "base") == 0 || strncmp(isa, "avx", 3) == 0);
}

/* Every fp16 there is, as its value. */
Test(openblas_rows, reads_every_half) {
    enum { COUNT = 1 << 16 };
    uint16_t *half = malloc(COUNT * sizeof *half);
    float *y = malloc(COUNT * sizeof *y), one = 1;
    for (int i = 0; i < COUNT; i++)
        half[i] = (uint16_t)i;
    const ob_rows_product product = {
        1, COUNT, 1, &one, 1, {.data = half, .type = MOE_F16, .ld = 1}, 0, y, COUNT};
    for (int many = 0; many < 2; many++) {
        run(&ob_rows_kernels_base, many, &product);
        for (int i = 0; i < COUNT; i++) {
            const float want = moe_f16_to_f32((uint16_t)i);
            cr_expect(isnan(want) ? isnan(y[i]) : y[i] == want, "%04x is %g, should be %g", i,
                      (double)y[i], (double)want);
        }
    }
    free(half);
    free(y);
}

/* Rows of whole steps, zeros behind what there is, in the order that the codes ask for. */
static float *whole_steps(const ob_rows_kernels *k, bool many, const ob_matrix *coded, int64_t rows,
                          int64_t depth, const float *from) {
    const int64_t wide = (depth + 31) / 32 * 32;
    float *ret = calloc((size_t)(rows * wide), sizeof *ret);
    for (int64_t i = 0; i < rows; i++)
        memcpy(ret + i * wide, from + i * depth, (size_t)depth * sizeof *ret);
    if (!many && k->arranges(coded))
        k->arrange(rows, wide, ret, wide);
    return ret;
}

static void multiply_values(const ob_rows_kernels *k, bool many, const ob_rows_product *coded,
                            const float *values, float *y) {
    const int64_t wide = (coded->depth + 31) / 32 * 32;
    float *w = whole_steps(k, many, &coded->w, coded->cols, coded->depth, values);
    float *x = whole_steps(k, many, &coded->w, coded->rows, coded->depth, coded->x);
    const ob_matrix plain = {.data = w, .type = MOE_F32, .ld = wide};
    run(k, many,
        &(ob_rows_product){coded->rows, coded->cols, wide, x, wide, plain, 0, y, coded->cols});
    free(w);
    free(x);
}

/* Codes, with any blocks, give the bits that the values give. */
static void expect_codes(const ob_rows_kernels *k, const moe_quant_desc *q, int64_t rows,
                         int64_t cols, int64_t depth) {
    const size_t count = (size_t)(cols * depth), bytes = (size_t)(rows * cols) * sizeof(float);
    float *w = malloc(count * sizeof *w), *x = malloc((size_t)(rows * depth) * sizeof *x);
    float *of_codes = malloc(bytes), *of_values = malloc(bytes);
    unsigned char *code = malloc((size_t)moe_quant_code_bytes(q, cols, depth));
    float *scale = malloc((size_t)moe_quant_scales(q, cols, depth) * sizeof *scale);
    for (size_t i = 0; i < count; i++)
        w[i] = (float)(moe_rng_uniform(9, 0, i) - 0.5);
    for (size_t i = 0; i < (size_t)(rows * depth); i++)
        x[i] = (float)(moe_rng_uniform(8, 0, i) - 0.5);
    cr_assert_eq(moe_quantise(q, w, MOE_F32, cols, depth, NULL, code, scale), MOE_OK);
    moe_dequantise(q, code, scale, cols, depth, MOE_F32, w);
    const ob_matrix coded = {.data = code,
                             .ld = depth,
                             .scale = scale,
                             .kind = q->kind,
                             .block_rows = q->block_rows,
                             .block_columns = q->block_columns};
    const ob_rows_product product = {rows, cols, depth, x, depth, coded, 0, of_codes, cols};
    for (int many = k->reads(&coded) ? 0 : 1; many < 2; many++) {
        multiply_values(k, many, &product, w, of_values);
        float *arranged = malloc((size_t)(rows * depth) * sizeof *x);
        memcpy(arranged, x, (size_t)(rows * depth) * sizeof *x);
        if (!many && k->arranges(&coded))
            k->arrange(rows, depth, arranged, depth);
        ob_rows_product own = product;
        own.x = arranged;
        run(k, many, &own);
        free(arranged);
        cr_expect_eq(memcmp(of_codes, of_values, bytes), 0,
                     "%s, many %d, %s in blocks of %d x %d, [%d][%d][%d]", k->isa, many,
                     moe_quant_kind_name(q->kind), (int)q->block_rows, (int)q->block_columns,
                     (int)rows, (int)cols, (int)depth);
    }
    free(w);
    free(x);
    free(of_codes);
    free(of_values);
    free(code);
    free(scale);
}

static void expect_all_codes(const ob_rows_kernels *k) {
    static const int64_t block[][2] = {{1, 0},  {1, 32}, {128, 128}, {3, 7},
                                       {2, 96}, {0, 0},  {1, 1}};
    static const int64_t size[][3] = {{1, 9, 33}, {2, 5, 520}, {7, 140, 131}, {17, 18, 1100}};
    for (int32_t kind = MOE_QUANT_INT8; kind <= MOE_QUANT_FP8; kind++)
        for (size_t b = 0; b < sizeof block / sizeof *block; b++)
            for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
                const moe_quant_desc q = {
                    .kind = kind, .block_rows = block[b][0], .block_columns = block[b][1]};
                expect_codes(k, &q, size[s][0], size[s][1], size[s][2]);
            }
}

Test(openblas_rows, codes) {
    expect_all_codes(&ob_rows_kernels_base);
#ifdef OB_HAVE_X86_ROWS
    const char *isa = ob_rows_isa();
    if (strcmp(isa, "avx512") == 0)
        expect_all_codes(&ob_rows_kernels_avx512);
    if (strcmp(isa, "base") != 0)
        expect_all_codes(&ob_rows_kernels_avx2);
#endif
}
