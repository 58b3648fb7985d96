/* Dense row-major tensors: a view (dtype, shape, data pointer) and allocation for it. */
#ifndef MOEREF_TENSOR_H
#define MOEREF_TENSOR_H

#include "moeref/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_MAX_DIMS 4

/* A row-major, contiguous tensor. data == NULL means "absent". The struct does not say who owns
 * data; the function that hands it over does.
 * Thread-safety: plain data. */
typedef struct moe_tensor {
    void *data;
    moe_dtype dtype;
    int32_t ndim; /* 0 is a scalar with one element */
    int64_t shape[MOE_MAX_DIMS];
} moe_tensor;

/* Number of elements, or -1 when it is negative or overflows int64_t. */
MOE_API int64_t moe_tensor_count(const moe_tensor *tensor);

/* Bytes of data, or -1 when that overflows. */
MOE_API int64_t moe_tensor_bytes(const moe_tensor *tensor);

/* Allocates zeroed, 64-byte aligned memory for the given dtype and shape and sets *ret.
 * MOE_E_INVALID: a negative or overflowing shape; MOE_E_NOMEM. An empty tensor gets a non-NULL
 * pointer, so that "present but empty" differs from "absent". */
MOE_API moe_status moe_tensor_alloc(moe_dtype dtype, int32_t ndim, const int64_t *shape,
                                    moe_tensor *ret);

/* Frees data that moe_tensor_alloc made and clears the struct. NULL is allowed. */
MOE_API void moe_tensor_destroy(moe_tensor *tensor);

/* A fresh tensor with the same shape in another dtype, converted as moe_convert does. The caller
 * owns *ret. MOE_E_INVALID: it has no data; MOE_E_NOMEM. */
MOE_API moe_status moe_tensor_cast(const moe_tensor *src, moe_dtype dtype, moe_tensor *ret);

/* The same number of dimensions and the same extents; dtypes may differ. */
MOE_API bool moe_tensor_same_shape(const moe_tensor *a, const moe_tensor *b);

/* Writes "[4, 128]" into buf and returns buf. */
MOE_API char *moe_tensor_shape_str(const moe_tensor *tensor, char *buf, size_t size);

#ifdef __cplusplus
}
#endif
#endif
