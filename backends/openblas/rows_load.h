/* Part of rows_kernel.c: vectors of one instruction set, and values and codes to fp32, V at a time.
 *
 * A code's value is code x scale, rounded once, as moe_dequantise does it: products have the bits
 * that they have with the values in fp32. */
#ifndef MOEREF_OPENBLAS_ROWS_LOAD_H
#define MOEREF_OPENBLAS_ROWS_LOAD_H

#include "rows.h"
#include "vector_math.h"

#include <stddef.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

/* V floats in a vector; ROWS of x in a tile, as many as there are registers for. */
#if defined(__AVX512F__) && defined(__F16C__)
#define HAVE_HALVES
#define HAVE_AVX512
enum { V = 16 };
#define ROWS 6
#elif defined(__AVX2__) && defined(__F16C__)
#define HAVE_HALVES
enum { V = 8 };
#define ROWS 3
#else
enum { V = 4 };
#define ROWS 3
#endif
/* Two values come from a word of bf16 and from a byte of int4: STEP values are the even ones of
 * those words, then the odd ones. */
enum { STEP = 2 * V };

typedef float vec __attribute__((vector_size(4 * V)));
typedef uint32_t words __attribute__((vector_size(4 * V)));
typedef int32_t integers __attribute__((vector_size(4 * V)));
typedef uint8_t bytes __attribute__((vector_size(V)));

/* A loop of up to 16 turns whose number the compiler knows: sums stay in registers only without it.
 */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How values lie that a tile reads. A pair is two bf16 of neighbouring columns in a word. */
typedef enum form {
    FORM_F32,
    FORM_PAIRS,
    FORM_F16,
    FORM_BF16,
    FORM_INT8,
    FORM_INT4,
    FORM_FP8
} form;

OB_INLINE int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

OB_INLINE bool is_code(form f) {
    return f > FORM_BF16;
}

OB_INLINE int64_t value_bits(form f) {
    return f <= FORM_PAIRS ? 32 : f <= FORM_BF16 ? 16 : f == FORM_INT4 ? 4 : 8;
}

/* Of so many values, whole bytes. */
OB_INLINE int64_t values_bytes(form f, int64_t count) {
    return (count * value_bits(f) + 7) / 8;
}

/* Do the STEP values of a vector pair alternate? */
OB_INLINE bool alternates(form f) {
    return f == FORM_BF16 || f == FORM_INT4;
}

#ifndef HAVE_HALVES
/* IEEE half precision: the exponent is rebased by a product, which makes denormals normal. */
OB_INLINE float float_of_half(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    const float small = ob_float_of(magnitude) * ob_float_of(0x77800000u); /* 2^112 */
    const uint32_t large = magnitude | 0x7f800000u;                        /* infinity, NaN */
    const uint32_t bits = magnitude >= 0x0f800000u ? large : ob_bits_of(small);
    return ob_float_of(bits | (uint32_t)(h & 0x8000) << 16);
}
#endif

OB_INLINE vec vec_of_halves(const char *p) {
#if defined(HAVE_AVX512)
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(HAVE_HALVES)
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    uint16_t h[V];
    vec v;
    memcpy(h, p, sizeof h);
    for (int i = 0; i < V; i++)
        v[i] = float_of_half(h[i]);
    return v;
#endif
}

/* V bytes, each with zeros before it. */
OB_INLINE words words_of_bytes(const char *p) {
#if defined(HAVE_AVX512)
    return (words)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif defined(HAVE_HALVES)
    return (words)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, words);
#endif
}

OB_INLINE vec vec_of_int8(const char *p) {
#if defined(HAVE_AVX512)
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(HAVE_HALVES)
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    return __builtin_convertvector((integers)(words_of_bytes(p) << 24) >> 24, vec);
#endif
}

/* Two in a byte, the even one low, each 8 more than what it stands for. */
OB_INLINE vec vec_of_int4(const char *p, int half, vec scale) {
    const words w = words_of_bytes(p);
#ifdef HAVE_AVX512 /* the lowest four bits choose one of 16 products */
    const vec values = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return (vec)_mm512_permutexvar_ps((__m512i)(half ? w >> 4 : w), (__m512)(values * scale));
#else
    return __builtin_convertvector((integers)(half ? w >> 4 : w & 15) - 8, vec) * scale;
#endif
}

/* e4m3, 256 times too small: its bits are those of a half precision number whose exponent is 8 too
 * low, subnormal ones too. */
OB_INLINE vec vec_of_fp8(const char *p) {
#if defined(HAVE_AVX512)
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    const __m256i magnitude = _mm256_and_si256(_mm256_slli_epi16(b, 7), _mm256_set1_epi16(0x3f80));
    const __m256i sign = _mm256_and_si256(b, _mm256_set1_epi16((int16_t)0x8000));
    return (vec)_mm512_cvtph_ps(_mm256_or_si256(sign, magnitude));
#elif defined(HAVE_HALVES)
    const __m128i b = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p));
    const __m128i magnitude = _mm_and_si128(_mm_slli_epi16(b, 7), _mm_set1_epi16(0x3f80));
    const __m128i sign = _mm_and_si128(b, _mm_set1_epi16((int16_t)0x8000));
    return (vec)_mm256_cvtph_ps(_mm_or_si128(sign, magnitude));
#else
    uint16_t half[V];
    for (int i = 0; i < V; i++)
        half[i] = (uint16_t)((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
    return vec_of_halves((const char *)half);
#endif
}

/* Half 0 or 1 of the STEP values from p on; of fp8, `scale` is 256 times theirs. */
OB_INLINE vec load(form f, const char *p, int half, vec scale) {
    vec v;
    words w;
    switch (f) {
    case FORM_F32:
    case FORM_PAIRS:
        memcpy(&v, p + (ptrdiff_t)half * (ptrdiff_t)sizeof v, sizeof v);
        return v;
    case FORM_F16:
        return vec_of_halves(p + (ptrdiff_t)half * 2 * V);
    case FORM_BF16:
        memcpy(&w, p, sizeof w);
        return half ? (vec)(w & 0xffff0000u) : (vec)(w << 16);
    case FORM_INT8:
        return vec_of_int8(p + (ptrdiff_t)half * V) * scale;
    case FORM_INT4:
        return vec_of_int4(p, half, scale);
    case FORM_FP8:
        return vec_of_fp8(p + (ptrdiff_t)half * V) * scale;
    }
    return (vec){0};
}

OB_INLINE vec load_x(const float *x, int half) {
    return load(FORM_F32, (const char *)x, half, (vec){0});
}

/* ---- scales of codes ---- */

/* Columns that share a scale. */
OB_INLINE int64_t scale_width(const ob_matrix *w) {
    return w->block_columns && w->block_columns < w->ld ? w->block_columns : w->ld;
}

/* Can codes be read where they lie, V of one scale at a time? */
OB_INLINE bool streams(const ob_matrix *w) {
    return scale_width(w) == w->ld || scale_width(w) % OB_GROUP == 0;
}

/* Scales of W's row `row`, one for each scale_width columns. */
OB_INLINE const float *scales_of(const ob_matrix *w, int64_t row) {
    const int64_t at = w->first_row + row, wide = scale_width(w);
    const int64_t above = w->block_rows == 1 ? at : w->block_rows ? at / w->block_rows : 0;
    return w->scale + above * ((w->ld + wide - 1) / wide);
}

OB_INLINE vec scale_vec(form f, float scale) {
    return (f == FORM_FP8 ? 256 * scale : scale) - (vec){0}; /* + would be an addition, for -0 */
}

#endif
