/* Products of row-major matrices in float32, and rounding. */
#include "core/simd.h"
#include "faulty.h"

#include <string.h>

enum { K_BLOCK = 16 };

float fy_bf16(float v) {
    return moe_bf16_to_f32(moe_bf16_from_f32(v));
}

/* To the 10 bits that TF32 keeps. */
static float tf32(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits &= 0xffffe000u;
    memcpy(&v, &bits, sizeof bits);
    return v;
}

void fy_store(const fy_layer *l, float *v, int64_t count) {
    enum { AT_ONCE = 1024 };
    const moe_dtype type = l->dev->precision;
    uint16_t stored[AT_ONCE];
    for (int64_t i = 0; type != MOE_F32 && i < count; i += AT_ONCE) {
        const size_t some = (size_t)(count - i < AT_ONCE ? count - i : AT_ONCE);
        moe_convert(stored, type, v + i, MOE_F32, some);
        moe_convert(v + i, MOE_F32, stored, type, some);
    }
}

void fy_transpose(const float *w, int64_t outs, int64_t in, float *ret) {
    enum { BLOCK = 16 }; /* rows whose lines stay in the cache */
    for (int64_t first = 0; first < outs; first += BLOCK)
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = first; o < first + BLOCK && o < outs; o++)
                ret[i * outs + o] = w[o * in + i];
}

/* The part of the depth that is summed: all of it. */
static void range_of(const fy_layer *l, fy_product_id id, int64_t depth, int64_t *first,
                     int64_t *end) {
    *first = 0;
    *end = depth;
    if ((FAULT(l, k_tail_logits) && id == FY_LOGITS) || (FAULT(l, k_tail_H) && id == FY_UP) ||
        (FAULT(l, k_tail_Y) && id == FY_DOWN) || (FAULT(l, k_tail_dA) && id == FY_DA) ||
        (FAULT(l, k_tail_dX) && id == FY_DX))
        *end = depth > K_BLOCK ? depth - K_BLOCK : 0;
    if (FAULT(l, k_first_H) && id == FY_UP)
        *first = depth > K_BLOCK ? K_BLOCK : 0;
    if ((FAULT(l, dW1_tail_rows) && id == FY_DW1) || (FAULT(l, dW2_tail_rows) && id == FY_DW2))
        *end = depth / K_BLOCK * K_BLOCK;
    if (FAULT(l, dW1_first_row) && id == FY_DW1)
        *first = depth > 0;
    if (FAULT(l, dW_r_tail_tokens) && id == FY_DW_R)
        *end = depth > K_BLOCK ? depth - K_BLOCK : 0;
}

/* Are sums of this product kept in bf16 between K blocks? */
static bool sums_in_bf16(const fy_layer *l, fy_product_id id) {
    return (FAULT(l, accumulate_bf16) && (id == FY_UP || id == FY_DOWN)) ||
           (FAULT(l, accumulate_bf16_dW) && (id == FY_DW1 || id == FY_DW2)) ||
           (FAULT(l, accumulate_bf16_dX) && id == FY_DX) ||
           (FAULT(l, accumulate_bf16_logits) && id == FY_LOGITS);
}

static void round_row(float *v, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        v[i] = fy_bf16(v[i]);
}

/* A product without a fault: tiles of TALL rows and WIDE columns, whose sums stay in registers,
 * over panels of b that stay in the cache. An element's terms are added in the order of the plain
 * loop, whatever the sizes. */
enum { TALL = 6, LANES = 8, WIDE = 2 * LANES, DEPTH = 256 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef float stored __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* sum[t] += row[t][0] panel[0] + row[t][1] panel[1] ... */
MOE_INT_INLINE void add_terms(const float *const row[TALL], int64_t terms, const float *panel,
                              float sum[TALL][WIDE]) {
    lanes left[TALL], right[TALL];
    for (int t = 0; t < TALL; t++) {
        left[t] = *(const stored *)sum[t];
        right[t] = *(const stored *)(sum[t] + LANES);
    }
    for (int64_t k = 0; k < terms; k++) {
        const lanes b0 = *(const stored *)(panel + k * WIDE);
        const lanes b1 = *(const stored *)(panel + k * WIDE + LANES);
        for (int t = 0; t < TALL; t++) {
            left[t] += row[t][k] * b0;
            right[t] += row[t][k] * b1;
        }
    }
    for (int t = 0; t < TALL; t++) {
        *(stored *)sum[t] = left[t];
        *(stored *)(sum[t] + LANES) = right[t];
    }
}

static void add_terms_base(const float *const row[TALL], int64_t terms, const float *panel,
                           float sum[TALL][WIDE]) {
    add_terms(row, terms, panel, sum);
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void add_terms_avx2(const float *const row[TALL], int64_t terms,
                                        const float *panel, float sum[TALL][WIDE]) {
    add_terms(row, terms, panel, sum);
}
#else
#define add_terms_avx2     add_terms_base
#define moe_int_cpu_avx2() 0
#endif

/* out[r][0 .. columns) += the panel's terms, for all rows. `a` begins at the panel's first term. */
static void add_panel(const float *a, int64_t rows, int64_t depth, int64_t terms,
                      const float *panel, int64_t columns, int64_t width, float *out) {
    const bool wide = moe_int_cpu_avx2();
    for (int64_t r = 0; r < rows; r += TALL) {
        const int64_t tall = rows - r < TALL ? rows - r : TALL;
        const float *row[TALL];
        float sum[TALL][WIDE] = {{0}};
        for (int64_t t = 0; t < TALL; t++) { /* the last row fills the tile */
            const int64_t at = r + (t < tall ? t : tall - 1);
            row[t] = a + at * depth;
            memcpy(sum[t], out + at * width, (size_t)columns * sizeof(float));
        }
        (wide ? add_terms_avx2 : add_terms_base)(row, terms, panel, sum);
        for (int64_t t = 0; t < tall; t++)
            memcpy(out + (r + t) * width, sum[t], (size_t)columns * sizeof(float));
    }
}

static void plain_product(const float *a, int64_t rows, int64_t depth, const float *b,
                          int64_t width, float *out) {
    float panel[DEPTH * WIDE] = {0};
    memset(out, 0, (size_t)(rows * width) * sizeof *out);
    for (int64_t c = 0; c < width; c += WIDE) {
        const int64_t columns = width - c < WIDE ? width - c : WIDE;
        for (int64_t k = 0; k < depth; k += DEPTH) {
            const int64_t terms = depth - k < DEPTH ? depth - k : DEPTH;
            for (int64_t i = 0; i < terms; i++)
                memcpy(panel + i * WIDE, b + (k + i) * width + c, (size_t)columns * sizeof *panel);
            add_panel(a + k, rows, depth, terms, panel, columns, width, out + c);
        }
    }
}

void fy_product(const fy_layer *l, fy_product_id id, const float *a, int64_t rows, int64_t depth,
                const float *b, int64_t width, float *out) {
    int64_t first, end;
    const bool narrow = sums_in_bf16(l, id), cut = FAULT(l, tf32);
    const bool turned = FAULT(l, batch_variant) && l->T < 100;
    range_of(l, id, depth, &first, &end);
    if (!narrow && !cut && !turned && first == 0 && end == depth) {
        plain_product(a, rows, depth, b, width, out);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        float *restrict y = out + r * width;
        memset(y, 0, (size_t)width * sizeof *y);
        for (int64_t i = first; i < end; i++) {
            const int64_t k = turned ? end - 1 - (i - first) : i;
            const float scale = cut ? tf32(a[r * depth + k]) : a[r * depth + k];
            const float *restrict row = b + k * width;
            for (int64_t j = 0; j < width; j++)
                y[j] += scale * (cut ? tf32(row[j]) : row[j]);
            if (narrow && k % K_BLOCK == K_BLOCK - 1)
                round_row(y, width);
        }
    }
}
