#include "core/elements.h"

#include <stdlib.h>

void moe_int_load(const moe_tensor *t, int64_t first, int64_t count, double *ret) {
    moe_convert(ret, MOE_F64, (const char *)t->data + (size_t)first * moe_dtype_size(t->dtype),
                t->dtype, (size_t)count);
}

double *moe_int_doubles(const moe_tensor *t, int64_t first, int64_t count) {
    double *out = malloc((size_t)(count > 0 ? count : 1) * sizeof *out);
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
