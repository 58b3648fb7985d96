/* Element types and conversion between them: round to nearest, ties to even; NaN stays
 * NaN and infinities stay infinite; overflow goes to infinity as IEEE 754 says. */
#ifndef MOEREF_DTYPE_H
#define MOEREF_DTYPE_H

#include "moeref/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Values are pinned: they cross the plug-in ABI. */
typedef enum moe_dtype {
    MOE_F64 = 0,
    MOE_F32 = 1,
    MOE_F16 = 2,  /* IEEE binary16 */
    MOE_BF16 = 3, /* upper half of binary32 */
    MOE_I64 = 4,
    MOE_I32 = 5,
    MOE_U8 = 6,
    MOE_DTYPE_COUNT
} moe_dtype;

/* Bytes of one element; 0 for a value outside the enum. */
MOE_API size_t moe_dtype_size(moe_dtype dtype);

/* The grammar's name ("fp64", "fp32", "fp16", "bf16", "i64", "i32", "u8"). */
MOE_API const char *moe_dtype_name(moe_dtype dtype);

/* Parses that name. MOE_E_NOTFOUND leaves *ret_dtype untouched. */
MOE_API moe_status moe_dtype_parse(const char *name, moe_dtype *ret_dtype);

/* Unit roundoff u: half the distance from 1 to the next number (2^-53, 2^-24, 2^-11, 2^-8);
 * 0 for integer types. */
MOE_API double moe_dtype_roundoff(moe_dtype dtype);

/* To and from the bits of bfloat16 and IEEE binary16: to nearest, ties to even; what is too large
 * becomes infinite, NaN stays NaN. */
MOE_API uint16_t moe_bf16_from_f32(float value);
MOE_API float moe_bf16_to_f32(uint16_t bits);
MOE_API uint16_t moe_f16_from_f32(float value);
MOE_API float moe_f16_to_f32(uint16_t bits);

/* Rounds once, straight from double: no double rounding through float. */
MOE_API uint16_t moe_bf16_from_f64(double value);
MOE_API uint16_t moe_f16_from_f64(double value);

/* The value that `value` takes after being stored in `dtype` (a floating type). */
MOE_API double moe_round_to(double value, moe_dtype dtype);

/* Converts `count` elements; src and dst must not overlap unless they are the same address
 * and the types are equal. Integers convert through double. Thread-safety: any thread. */
MOE_API void moe_convert(void *dst, moe_dtype dst_dtype, const void *src, moe_dtype src_dtype,
                         size_t count);

/* Element `index` of a typed array as a double, and a double stored there: rounded once to nearest,
 * integers saturated. */
MOE_API double moe_load(const void *data, moe_dtype dtype, size_t index);
MOE_API void moe_store(void *data, moe_dtype dtype, size_t index, double value);

#ifdef __cplusplus
}
#endif
#endif
