#include "core/elements.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32 }; /* rows and columns that a transposition moves at a time: they stay cached */

void moe_int_load(const moe_tensor *t, int64_t first, int64_t count, double *ret) {
    moe_convert(ret, MOE_F64, (const char *)t->data + (size_t)first * moe_dtype_size(t->dtype),
                t->dtype, (size_t)count);
}

double *moe_int_doubles(const moe_tensor *t, int64_t first, int64_t count) {
    double *out = moe_int_allocate((size_t)count * sizeof *out);
    if (out)
        moe_int_load(t, first, count, out);
    return out;
}

void moe_int_unravel(const moe_tensor *tensor, int64_t flat, int64_t *ret) {
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        int64_t size = tensor->shape[i] > 0 ? tensor->shape[i] : 1;
        ret[i] = flat % size;
        flat /= size;
    }
}

static void transpose_one(char *dst, const char *src, size_t size, int64_t rows, int64_t cols) {
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        int64_t r1 = r0 + BLOCK < rows ? r0 + BLOCK : rows;
        for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
            int64_t c1 = c0 + BLOCK < cols ? c0 + BLOCK : cols;
            for (int64_t c = c0; c < c1; c++) {
                for (int64_t r = r0; r < r1; r++)
                    memcpy(dst + (size_t)(c * rows + r) * size, src + (size_t)(r * cols + c) * size,
                           size);
            }
        }
    }
}

void moe_int_transpose(void *dst, const void *src, size_t size, int64_t count, int64_t rows,
                       int64_t cols) {
    size_t bytes = (size_t)(rows * cols) * size;
#pragma omp parallel for schedule(static)
    for (int64_t m = 0; m < count; m++)
        transpose_one((char *)dst + (size_t)m * bytes, (const char *)src + (size_t)m * bytes, size,
                      rows, cols);
}

moe_dtype moe_int_dtype_wider(moe_dtype a, moe_dtype b) {
    if (a == b || a == MOE_DTYPE_COUNT)
        return b;
    return a == MOE_F64 || b == MOE_F64 ? MOE_F64 : MOE_F32;
}

void moe_int_plain_nans(moe_dtype dtype, void *data, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (isnan(moe_load(data, dtype, (size_t)i)))
            moe_store(data, dtype, (size_t)i, (double)NAN);
}
