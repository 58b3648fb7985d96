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

enum { MANY = 1 << 20 }; /* elements: worth a team of threads */

/* Rows of the last dimension: `width` elements each, `step` apart. */
typedef struct rows {
    int64_t count, width, step;
} rows;

static rows rows_of(const moe_view *view, int64_t count) {
    const int last = view->ndim - 1;
    const int64_t width = last < 0 ? 1 : view->shape[last];
    return (rows){width ? count / width : 0, width, last < 0 ? 1 : view->stride[last]};
}

/* Where row r begins. */
static int64_t row_at(const moe_view *view, int64_t r) {
    int64_t at = 0;
    for (int k = view->ndim - 2; k >= 0; k--) {
        at += r % view->shape[k] * view->stride[k];
        r /= view->shape[k];
    }
    return at;
}

void moe_view_read(const moe_view *src, moe_tensor *dst) {
    const moe_dtype dtype = (moe_dtype)src->dtype;
    const int64_t count = count_of(src);
    if (is_row_major(src)) {
        moe_convert(dst->data, dst->dtype, src->data, dtype, (size_t)count);
        return;
    }
    const rows all = rows_of(src, count);
#pragma omp parallel for schedule(static) if (count >= MANY)
    for (int64_t r = 0; r < all.count; r++) {
        const int64_t first = row_at(src, r);
        for (int64_t k = 0; k < all.width; k++)
            moe_store(dst->data, dst->dtype, (size_t)(r * all.width + k),
                      moe_load(src->data, dtype, (size_t)(first + k * all.step)));
    }
}

void moe_view_write(const moe_view *dst, const moe_tensor *src, int add) {
    const moe_dtype dtype = (moe_dtype)dst->dtype;
    const int64_t count = count_of(dst);
    if (!add && is_row_major(dst)) {
        moe_convert(dst->data, dtype, src->data, src->dtype, (size_t)count);
        return;
    }
    const rows all = rows_of(dst, count);
#pragma omp parallel for schedule(static) if (count >= MANY)
    for (int64_t r = 0; r < all.count; r++) {
        const int64_t first = row_at(dst, r);
        for (int64_t k = 0; k < all.width; k++) {
            const size_t at = (size_t)(first + k * all.step), from = (size_t)(r * all.width + k);
            const double there = add ? moe_load(dst->data, dtype, at) : 0;
            moe_store(dst->data, dtype, at, moe_load(src->data, src->dtype, from) + there);
        }
    }
}
