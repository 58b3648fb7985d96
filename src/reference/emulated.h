/* Products of the float32 reference on an emulated unit, where it plays one. */
#ifndef MOE_REFERENCE_EMULATED_H
#define MOE_REFERENCE_EMULATED_H

#include "reference/tensorcore/chain.h"

/* A matrix of numbers that the unit's format holds: element (i, k) at i * i_stride + k * k_stride,
 * `count` numbers in all. */
typedef struct moe_int_matrix {
    const float *at;
    int64_t count, i_stride, k_stride;
    const int32_t *k_map; /* or NULL */
} moe_int_matrix;

/* out[M][N] = sum over K, plus bias[N] in fp32 unless that is NULL. MOE_E_NOMEM. */
moe_status moe_int_multiply_emulated(const moe_int_chain *chain, const moe_int_matrix *left,
                                     const moe_int_matrix *right, int64_t M, int64_t N, int64_t K,
                                     const float *bias, int threads, float *out);

/* [2n] k of a concat layer for each of an interleaved one's, which the caller frees; NULL with
 * MOE_OK where `how` and the layer need none. */
moe_status moe_int_gates_first(const moe_arithmetic *how, int32_t glu_layout, int64_t n,
                               int64_t h_width, int32_t **ret);

#endif
