/* The products that a layer is made of, expert by expert, as matrices of codes. */
#ifndef MOE_CHECK_BITS_PRODUCTS_H
#define MOE_CHECK_BITS_PRODUCTS_H

#include "moeref/case.h"
#include "reference/tensorcore/chain.h"

/* A tensor in the layer's 16-bit type, and where a product has its own in it. */
typedef struct moe_int_codes {
    uint16_t *at; /* owned */
} moe_int_codes;
moe_status moe_int_codes_of(const moe_tensor *t, moe_dtype dtype, moe_int_codes *ret);

/* What one of the four products needs; `from` is the stage that it starts from, MOE_T_COUNT for
 * inputs alone. */
typedef struct moe_int_source {
    const moe_problem *problem;
    const moe_plan *plan;
    const uint16_t *X, *W1, *W2, *W_r, *from;
    const int32_t *gates_first; /* [hw] order of k in dX~, or NULL */
} moe_int_source;

/* C[M][N], M x K times K x N. */
typedef struct moe_int_exact_product {
    moe_int_operand left, right;
    int64_t M, N, K;
    int64_t out; /* element of the tensor that C starts at */
    const moe_tensor *bias;
    int64_t bias_at; /* of its first column */
    bool stored;     /* in 16 bits; else in fp32 */
} moe_int_exact_product;

/* Groups of rows that tensor `id` has a product of each: experts, or one. */
int64_t moe_int_exact_products(const moe_problem *problem, moe_tensor_id id);
/* Product e of them. */
moe_int_exact_product moe_int_exact_product_of(const moe_int_source *s, moe_tensor_id id,
                                               int64_t e);

#endif
