/* Shapes and memory of dense tensors. */
#include "moeref/tensor.h"
#include "core/bytes.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t moe_tensor_count(const moe_tensor *tensor) {
    if (tensor->ndim < 0 || tensor->ndim > MOE_MAX_DIMS)
        return -1;
    int64_t count = 1;
    bool empty = false;
    for (int i = 0; i < tensor->ndim; i++) {
        int64_t extent = tensor->shape[i];
        if (extent < 0)
            return -1;
        /* An empty extent makes the product 0, but must not hide an overflow: the product of
         * the others is a stride that callers compute with. */
        if (extent == 0) {
            empty = true;
            continue;
        }
        if (count > INT64_MAX / extent)
            return -1;
        count *= extent;
    }
    return empty ? 0 : count;
}

int64_t moe_tensor_bytes(const moe_tensor *tensor) {
    int64_t count = moe_tensor_count(tensor);
    int64_t element = (int64_t)moe_dtype_size(tensor->dtype);
    if (count < 0 || element == 0 || count > INT64_MAX / element)
        return -1;
    return count * element;
}

moe_status moe_tensor_alloc(moe_dtype dtype, int32_t ndim, const int64_t *shape, moe_tensor *ret) {
    moe_tensor tensor = {.dtype = dtype, .ndim = ndim};
    if (ndim < 0 || ndim > MOE_MAX_DIMS)
        return MOE_E_INVALID;
    for (int i = 0; i < ndim; i++)
        tensor.shape[i] = shape[i];
    int64_t bytes = moe_tensor_bytes(&tensor);
    if (bytes < 0)
        return MOE_E_INVALID;
    tensor.data = moe_int_allocate((size_t)bytes);
    if (!tensor.data)
        return MOE_E_NOMEM;
    moe_int_fill(tensor.data, 0, (size_t)bytes);
    *ret = tensor;
    return MOE_OK;
}

void moe_tensor_destroy(moe_tensor *tensor) {
    if (!tensor)
        return;
    free(tensor->data);
    *tensor = (moe_tensor){0};
}

moe_status moe_tensor_cast(const moe_tensor *src, moe_dtype dtype, moe_tensor *ret) {
    if (!src->data)
        return MOE_E_INVALID;
    moe_tensor tensor;
    moe_status status = moe_tensor_alloc(dtype, src->ndim, src->shape, &tensor);
    if (status != MOE_OK)
        return status;
    moe_convert(tensor.data, dtype, src->data, src->dtype, (size_t)moe_tensor_count(src));
    *ret = tensor;
    return MOE_OK;
}

bool moe_tensor_same_shape(const moe_tensor *a, const moe_tensor *b) {
    if (a->ndim != b->ndim)
        return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

char *moe_tensor_shape_str(const moe_tensor *tensor, char *buf, size_t size) {
    char text[MOE_MAX_DIMS * 22 + 3] = "["; /* 20 characters hold any int64_t */
    size_t used = 1;
    for (int i = 0; i < tensor->ndim && i < MOE_MAX_DIMS; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%lld", i ? ", " : "",
                                 (long long)tensor->shape[i]);
    snprintf(text + used, sizeof(text) - used, "]");
    snprintf(buf, size, "%s", text);
    return buf;
}
