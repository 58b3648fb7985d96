/* Products of row-major matrices in float32, and rounding. */
#include "faulty.h"

#include "core/simd.h"

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
    if (l->dev->precision == MOE_BF16)
        for (int64_t i = 0; i < count; i++)
            v[i] = moe_bf16_to_f32(moe_bf16_from_f32(v[i]));
    else if (l->dev->precision == MOE_F16)
        for (int64_t i = 0; i < count; i++)
            v[i] = moe_f16_to_f32(moe_f16_from_f32(v[i]));
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
           (FAULT(l, accumulate_bf16_dX) && id == FY_DX);
}

static void round_row(float *v, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        v[i] = fy_bf16(v[i]);
}

/* Rows [rows] and columns [width] of `out` that stay in the cache: four terms at a time, in the
 * order of the plain loop. */
MOE_INT_INLINE void block_body(const float *a, int64_t rows, int64_t depth, const float *b,
                               int64_t ld, int64_t width, float *out) {
    int64_t k = 0;
    for (int64_t r = 0; r < rows; r++)
        memset(out + r * ld, 0, (size_t)width * sizeof *out);
    for (; k + 4 <= depth; k += 4)
        for (int64_t r = 0; r < rows; r++) {
            const float *s = a + r * depth + k, *row = b + k * ld;
            float *restrict y = out + r * ld;
            for (int64_t j = 0; j < width; j++)
                y[j] = y[j] + s[0] * row[j] + s[1] * row[ld + j] + s[2] * row[2 * ld + j] +
                       s[3] * row[3 * ld + j];
        }
    for (; k < depth; k++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < width; j++)
                out[r * ld + j] += a[r * depth + k] * b[k * ld + j];
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void block_avx2(const float *a, int64_t rows, int64_t depth, const float *b,
                                    int64_t ld, int64_t width, float *out) {
    block_body(a, rows, depth, b, ld, width, out);
}
#endif

static void plain_block(const float *a, int64_t rows, int64_t depth, const float *b, int64_t ld,
                        int64_t width, float *out) {
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2()) {
        block_avx2(a, rows, depth, b, ld, width, out);
        return;
    }
#endif
    block_body(a, rows, depth, b, ld, width, out);
}

/* A product without a fault. */
static void plain_product(const float *a, int64_t rows, int64_t depth, const float *b,
                          int64_t width, float *out) {
    enum { ROWS = 16, COLUMNS = 256 };
    for (int64_t j = 0; j < width; j += COLUMNS)
        for (int64_t r = 0; r < rows; r += ROWS)
            plain_block(a + r * depth, r + ROWS < rows ? ROWS : rows - r, depth, b + j, width,
                        j + COLUMNS < width ? COLUMNS : width - j, out + r * width + j);
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
