#include "core/coded.h"
#include "moeref/quant.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = MOE_INT_CODED_BLOCK,
    MOST_PASSES = 8, /* the second changes at most a last bit of a scale */
    E4M3_NAN = 0x7f
};

static const moe_quant_desc kind = {.kind = MOE_QUANT_FP8, .block_rows = 1, .block_columns = BLOCK};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t moe_int_coded_bytes(int64_t d) {
    return moe_quant_code_bytes(&kind, 1, d) +
           moe_quant_scales(&kind, 1, d) * (int64_t)sizeof(float);
}

void moe_int_code_row(const void *values, moe_dtype dtype, int64_t d, void *ret) {
    unsigned char *code = ret, *scales = code + d;
    for (int64_t at = 0; at < d; at += BLOCK, scales += sizeof(float)) {
        const int64_t count = least(BLOCK, d - at);
        double x[BLOCK];
        float scale = 0;
        for (int64_t i = 0; i < count; i++) {
            x[i] = moe_load(values, dtype, (size_t)(at + i));
            x[i] = isfinite(x[i]) ? x[i] : 0;
        }
        moe_quantise(&kind, x, MOE_F64, 1, count, NULL, code + at, &scale);
        for (int64_t i = 0; i < count; i++)
            if (!isfinite(moe_load(values, dtype, (size_t)(at + i))))
                code[at + i] = E4M3_NAN;
        memcpy(scales, &scale, sizeof scale);
    }
}

void moe_int_decode_row(const void *coded, int64_t d, moe_dtype dtype, void *ret_values) {
    const unsigned char *code = coded, *scales = code + d;
    for (int64_t at = 0; at < d; at += BLOCK, scales += sizeof(float)) {
        float scale;
        memcpy(&scale, scales, sizeof scale);
        moe_dequantise(&kind, code + at, &scale, 1, least(BLOCK, d - at), dtype,
                       (char *)ret_values + at * (int64_t)moe_dtype_size(dtype));
    }
}

static bool settle_block(void *values, moe_dtype dtype, int64_t count) {
    unsigned char coded[BLOCK + sizeof(float)];
    double held[BLOCK]; /* room for any type */
    const size_t bytes = (size_t)count * moe_dtype_size(dtype);
    memcpy(held, values, bytes);
    moe_int_code_row(values, dtype, count, coded);
    moe_int_decode_row(coded, count, dtype, values);
    return memcmp(held, values, bytes) == 0;
}

void moe_int_settle_rows(void *values, moe_dtype dtype, int64_t rows, int64_t d) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t at = 0; at < d; at += BLOCK) {
            void *block = (char *)values + (r * d + at) * (int64_t)moe_dtype_size(dtype);
            for (int i = 0; i < MOST_PASSES; i++)
                if (settle_block(block, dtype, least(BLOCK, d - at)))
                    break;
        }
}
