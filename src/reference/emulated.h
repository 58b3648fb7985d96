/* Products of the float32 reference on an emulated unit, where it plays one. */
#ifndef MOE_REFERENCE_EMULATED_H
#define MOE_REFERENCE_EMULATED_H

#include "reference/tensorcore/chain.h"

/* out[M][N] = sum over K, plus bias[N] in fp32 unless that is NULL. Operands of fp32 numbers that
 * the unit's format holds. MOE_E_NOMEM. */
moe_status moe_int_multiply_emulated(const moe_int_chain *chain, const moe_int_operand *left,
                                     const moe_int_operand *right, int64_t M, int64_t N, int64_t K,
                                     const float *bias, int threads, float *out);

/* [2n] k of a concat layer for each of an interleaved one's, which the caller frees; NULL with
 * MOE_OK where `how` and the layer need none. */
moe_status moe_int_gates_first(const moe_arithmetic *how, int32_t glu_layout, int64_t n,
                               int64_t h_width, int32_t **ret);

#endif
