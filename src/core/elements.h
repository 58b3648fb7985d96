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

#endif
