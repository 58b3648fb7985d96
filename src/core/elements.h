/* Elements of a tensor, whatever their type. */
#ifndef MOE_CORE_ELEMENTS_H
#define MOE_CORE_ELEMENTS_H

#include "moeref/tensor.h"

/* Elements first .. first+count-1 as float64. */
void moe_int_load(const moe_tensor *t, int64_t first, int64_t count, double *ret);
/* The same into fresh memory, which the caller frees; NULL without memory. */
double *moe_int_doubles(const moe_tensor *t, int64_t first, int64_t count);
/* Splits a flat index of `tensor` into ret[tensor->ndim]. */
void moe_int_unravel(const moe_tensor *tensor, int64_t flat, int64_t *ret);
/* dst[m][c][r] = src[m][r][c] for `count` matrices of rows x cols elements of `size` bytes. */
void moe_int_transpose(void *dst, const void *src, size_t size, int64_t count, int64_t rows,
                       int64_t cols);
/* The narrowest type that holds both exactly; MOE_DTYPE_COUNT stands for nothing yet. */
moe_dtype moe_int_dtype_wider(moe_dtype a, moe_dtype b);

/* Every NaN becomes its type's plain one, so that none is told from another: of those that people
 * have, some look like memory that nobody has written (PyTorch's of bf16 has all bits set). */
void moe_int_plain_nans(moe_dtype dtype, void *data, int64_t count);

/* Into how many parts a sum over so many elements is cut, each of which is added by itself: its
 * bits are those of any number of threads. */
enum { MOE_INT_MOST_PARTS = 1024 };
static inline int64_t moe_int_parts_of(int64_t count) {
    return count < 1 << 20 ? 1 : MOE_INT_MOST_PARTS;
}
/* Where part p of n begins. */
static inline int64_t moe_int_part_at(int64_t count, int64_t p, int64_t n) {
    return count / n * p + count % n * p / n;
}

#endif
