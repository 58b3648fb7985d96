/* Element types, their names, and single elements of typed arrays. */
#include "moeref/dtype.h"
#include "core/convert.h"

#include <math.h>
#include <string.h>

typedef struct dtype_info {
    const char *name;
    uint8_t bytes;
    int8_t roundoff_exponent; /* u = 2^exponent; 0 marks an integer type */
} dtype_info;

static const dtype_info dtypes[MOE_DTYPE_COUNT] = {
    [MOE_F64] = {"fp64", 8, -53}, [MOE_F32] = {"fp32", 4, -24}, [MOE_F16] = {"fp16", 2, -11},
    [MOE_BF16] = {"bf16", 2, -8}, [MOE_I64] = {"i64", 8, 0},    [MOE_I32] = {"i32", 4, 0},
    [MOE_U8] = {"u8", 1, 0},
};

static const dtype_info *dtype_find(moe_dtype dtype) {
    return (unsigned)dtype < MOE_DTYPE_COUNT ? &dtypes[dtype] : NULL;
}

size_t moe_dtype_size(moe_dtype dtype) {
    const dtype_info *info = dtype_find(dtype);
    return info ? info->bytes : 0;
}

const char *moe_dtype_name(moe_dtype dtype) {
    const dtype_info *info = dtype_find(dtype);
    return info ? info->name : "unknown";
}

moe_status moe_dtype_parse(const char *name, moe_dtype *ret_dtype) {
    for (int i = 0; name && i < MOE_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *ret_dtype = (moe_dtype)i;
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

double moe_dtype_roundoff(moe_dtype dtype) {
    const dtype_info *info = dtype_find(dtype);
    return info && info->roundoff_exponent ? ldexp(1.0, info->roundoff_exponent) : 0.0;
}

uint16_t moe_bf16_from_f32(float value) {
    return moe_int_bf16_from_f32(value);
}

float moe_bf16_to_f32(uint16_t bits) {
    return moe_int_bf16_to_f32(bits);
}

uint16_t moe_f16_from_f32(float value) {
    return moe_int_f16_from_f64(value); /* widening is exact: still one rounding */
}

float moe_f16_to_f32(uint16_t bits) {
    return moe_int_f16_to_f32(bits);
}

uint16_t moe_bf16_from_f64(double value) {
    return moe_int_bf16_from_f64(value);
}

uint16_t moe_f16_from_f64(double value) {
    return moe_int_f16_from_f64(value);
}

double moe_round_to(double value, moe_dtype dtype) {
    switch (dtype) {
    case MOE_F32:
        return (float)value;
    case MOE_F16:
        return moe_int_f16_to_f32(moe_int_f16_from_f64(value));
    case MOE_BF16:
        return moe_int_bf16_to_f32(moe_int_bf16_from_f64(value));
    case MOE_F64:
    case MOE_I64:
    case MOE_I32:
    case MOE_U8:
    case MOE_DTYPE_COUNT:
        break;
    }
    return value;
}

double moe_load(const void *data, moe_dtype dtype, size_t index) {
    switch (dtype) {
    case MOE_F64:
        return ((const double *)data)[index];
    case MOE_F32:
        return ((const float *)data)[index];
    case MOE_F16:
        return moe_int_f16_to_f32(((const uint16_t *)data)[index]);
    case MOE_BF16:
        return moe_int_bf16_to_f32(((const uint16_t *)data)[index]);
    case MOE_I64:
        return (double)((const int64_t *)data)[index];
    case MOE_I32:
        return ((const int32_t *)data)[index];
    case MOE_U8:
        return ((const uint8_t *)data)[index];
    case MOE_DTYPE_COUNT:
        break;
    }
    return NAN;
}

void moe_store(void *data, moe_dtype dtype, size_t index, double value) {
    switch (dtype) {
    case MOE_F64:
        ((double *)data)[index] = value;
        break;
    case MOE_F32:
        ((float *)data)[index] = (float)value;
        break;
    case MOE_F16:
        ((uint16_t *)data)[index] = moe_int_f16_from_f64(value);
        break;
    case MOE_BF16:
        ((uint16_t *)data)[index] = moe_int_bf16_from_f64(value);
        break;
    case MOE_I64:
        ((int64_t *)data)[index] = moe_int_i64_from_f64(value);
        break;
    case MOE_I32:
        ((int32_t *)data)[index] = (int32_t)moe_int_clamp_round(value, INT32_MIN, INT32_MAX);
        break;
    case MOE_U8:
        ((uint8_t *)data)[index] = (uint8_t)moe_int_clamp_round(value, 0, UINT8_MAX);
        break;
    case MOE_DTYPE_COUNT:
        break;
    }
}
