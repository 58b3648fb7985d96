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

/* What a stage is made of; `from` is the one that it starts from, NULL for inputs alone. */
typedef struct moe_int_source {
    const moe_problem *problem;
    const moe_plan *plan;
    const moe_tensor *S; /* the subject's own weights, [pairs]; data NULL: the plan's */
    const uint16_t *X, *dO, *W1, *W2, *W_r, *from;
    const uint16_t *weighted;   /* weights on the input: rows of s*x (H, dW1) or of s*dH (dW1, where
                                   sums are weighted), rounded; else NULL */
    bool weighs_sums;           /* H's sums take the weight */
    const int32_t *gates_first; /* [hw] order of k in dX~, or NULL */
} moe_int_source;

/* The weight of a pair, as fp32 has it. */
float moe_int_weight_of(const moe_int_source *s, int64_t pair);
/* [pairs][width] rows of s times `rows` (of pairs) or `tokens` (of the pairs' tokens), rounded to
 * the type; the caller frees. NULL: no memory. */
uint16_t *moe_int_weighted_rows(const moe_int_source *s, const uint16_t *rows,
                                const uint16_t *tokens, int64_t width, moe_dtype dtype);

/* C[M][N], M x K times K x N. */
typedef struct moe_int_exact_product {
    moe_int_operand left, right;
    int64_t M, N, K;
    int64_t out; /* element of the tensor that C starts at */
    const moe_tensor *bias;
    int64_t bias_at;    /* of its first column */
    int64_t first_pair; /* row i is pair first_pair + i, whose weight the sums take; -1: none */
    bool stored;        /* in 16 bits; else in fp32 */
} moe_int_exact_product;

/* Groups of rows that tensor `id` has a product of each: experts, or one. */
int64_t moe_int_exact_products(const moe_problem *problem, moe_tensor_id id);
/* Product e of them. */
moe_int_exact_product moe_int_exact_product_of(const moe_int_source *s, moe_tensor_id id,
                                               int64_t e);
/* dA' = dO W2 of expert e, which is stored nowhere. */
moe_int_exact_product moe_int_exact_gradient_of(const moe_int_source *s, int64_t e);

#endif
