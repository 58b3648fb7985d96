/* Bulk conversion. Every type widens to double exactly (64-bit integers are rounded), so one
 * widening loop and one narrowing loop per type, joined by a buffer that stays in the first-level
 * cache, cover all pairs with a single rounding. The pairs that move most data are direct. */
#include "core/convert.h"
#include "core/simd.h"
#include "moeref/dtype.h"

#include <stdbool.h>

#define CHUNK 512
#define PART  65536     /* elements: what a thread converts at a time, */
#define LONG  (1 << 22) /* and from how many on there are threads */

MOE_INT_INLINE void widen(double *restrict out, const void *src, moe_dtype dtype, size_t first,
                          size_t count) {
    switch (dtype) {
    case MOE_F64:
        memcpy(out, (const double *)src + first, count * sizeof(double));
        return;
    case MOE_F32:
        for (size_t i = 0; i < count; i++)
            out[i] = ((const float *)src)[first + i];
        return;
    case MOE_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = moe_int_f16_to_f32(((const uint16_t *)src)[first + i]);
        return;
    case MOE_BF16:
        for (size_t i = 0; i < count; i++)
            out[i] = moe_int_bf16_to_f32(((const uint16_t *)src)[first + i]);
        return;
    case MOE_I64:
    case MOE_I32:
    case MOE_U8:
    case MOE_DTYPE_COUNT:
        break;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = moe_load(src, dtype, first + i);
}

MOE_INT_INLINE void narrow(void *dst, moe_dtype dtype, size_t first, const double *restrict in,
                           size_t count) {
    switch (dtype) {
    case MOE_F64:
        memcpy((double *)dst + first, in, count * sizeof(double));
        return;
    case MOE_F32:
        for (size_t i = 0; i < count; i++)
            ((float *)dst)[first + i] = (float)in[i];
        return;
    case MOE_F16:
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)dst)[first + i] = moe_int_f16_from_f64(in[i]);
        return;
    case MOE_BF16:
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)dst)[first + i] = moe_int_bf16_from_f64(in[i]);
        return;
    case MOE_I64:
    case MOE_I32:
    case MOE_U8:
    case MOE_DTYPE_COUNT:
        break;
    }
    for (size_t i = 0; i < count; i++)
        moe_store(dst, dtype, first + i, in[i]);
}

MOE_INT_INLINE void convert_body(void *dst, moe_dtype dst_dtype, const void *src,
                                 moe_dtype src_dtype, size_t count) {
    if (src_dtype == MOE_F32 && dst_dtype == MOE_BF16) {
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)dst)[i] = moe_int_bf16_from_f32(((const float *)src)[i]);
        return;
    }
    if (src_dtype == MOE_BF16 && dst_dtype == MOE_F32) {
        for (size_t i = 0; i < count; i++)
            ((float *)dst)[i] = moe_int_bf16_to_f32(((const uint16_t *)src)[i]);
        return;
    }
    if (src_dtype == MOE_F16 && dst_dtype == MOE_F32) {
        for (size_t i = 0; i < count; i++)
            ((float *)dst)[i] = moe_int_f16_to_f32(((const uint16_t *)src)[i]);
        return;
    }
    double buffer[CHUNK];
    for (size_t first = 0; first < count; first += CHUNK) {
        size_t n = count - first < CHUNK ? count - first : CHUNK;
        widen(buffer, src, src_dtype, first, n);
        narrow(dst, dst_dtype, first, buffer, n);
    }
}

static void convert_part(void *dst, moe_dtype dst_dtype, const void *src, moe_dtype src_dtype,
                         size_t count) {
    convert_body(dst, dst_dtype, src, src_dtype, count);
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void convert_avx2(void *dst, moe_dtype dst_dtype, const void *src,
                                      moe_dtype src_dtype, size_t count) {
    convert_body(dst, dst_dtype, src, src_dtype, count);
}
#endif

void moe_convert(void *dst, moe_dtype dst_dtype, const void *src, moe_dtype src_dtype,
                 size_t count) {
    if (count == 0)
        return; /* empty arrays may be NULL */
    if (dst_dtype == src_dtype) {
        memmove(dst, src, count * moe_dtype_size(src_dtype));
        return;
    }
    void (*part)(void *, moe_dtype, const void *, moe_dtype, size_t) = convert_part;
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2())
        part = convert_avx2;
#endif
    if (count < LONG) { /* most calls: a parallel region costs as much as a thousand elements, even
                           with one thread */
        part(dst, dst_dtype, src, src_dtype, count);
        return;
    }
    const size_t parts = (count + PART - 1) / PART;
    const size_t to = moe_dtype_size(dst_dtype), from = moe_dtype_size(src_dtype);
    const uintptr_t d = (uintptr_t)dst, s = (uintptr_t)src;
    const bool apart = d + count * to <= s || s + count * from <= d;
#pragma omp parallel for schedule(static) if (apart)
    for (size_t p = 0; p < parts; p++)
        part((char *)dst + p * PART * to, dst_dtype, (const char *)src + p * PART * from, src_dtype,
             count - p * PART < PART ? count - p * PART : PART);
}
