/* Elements of views in host memory, in the order of their shapes. */
#include "moeref/operator.h"

moe_view moe_view_of(const moe_tensor *tensor) {
    moe_view view = {.data = tensor->data, .dtype = (int32_t)tensor->dtype, .ndim = tensor->ndim};
    int64_t stride = 1;
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        view.shape[i] = tensor->shape[i];
        view.stride[i] = stride;
        stride *= tensor->shape[i];
    }
    return view;
}

static bool is_row_major(const moe_view *view) {
    int64_t stride = 1;
    for (int i = view->ndim - 1; i >= 0; i--) {
        if (view->shape[i] != 1 && view->stride[i] != stride)
            return false;
        stride *= view->shape[i];
    }
    return true;
}

static int64_t count_of(const moe_view *view) {
    int64_t count = 1;
    for (int i = 0; i < view->ndim; i++)
        count *= view->shape[i];
    return count;
}

/* Where the element of row-major index i lies. */
static size_t place_of(const moe_view *view, int64_t i) {
    int64_t at = 0;
    for (int k = view->ndim - 1; k >= 0; k--) {
        at += i % view->shape[k] * view->stride[k];
        i /= view->shape[k];
    }
    return (size_t)at;
}

void moe_view_read(const moe_view *src, moe_tensor *dst) {
    const moe_dtype dtype = (moe_dtype)src->dtype;
    const int64_t count = count_of(src);
    if (is_row_major(src)) {
        moe_convert(dst->data, dst->dtype, src->data, dtype, (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        moe_store(dst->data, dst->dtype, (size_t)i, moe_load(src->data, dtype, place_of(src, i)));
}

void moe_view_write(const moe_view *dst, const moe_tensor *src, int add) {
    const moe_dtype dtype = (moe_dtype)dst->dtype;
    const int64_t count = count_of(dst);
    if (!add && is_row_major(dst)) {
        moe_convert(dst->data, dtype, src->data, src->dtype, (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const size_t at = place_of(dst, i);
        const double there = add ? moe_load(dst->data, dtype, at) : 0;
        moe_store(dst->data, dtype, at, moe_load(src->data, src->dtype, (size_t)i) + there);
    }
}
