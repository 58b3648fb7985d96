/* Identities that need no signs: one result from another, element by element. */
#ifndef MOE_CHECK_IDENTITY_ELEMENTS_H
#define MOE_CHECK_IDENTITY_ELEMENTS_H

#include "check/identity/product.h"
#include "moeref/plan.h"

/* A = act(H), row `row` of both; the worst element's gap goes into *ret, its index in the row. */
moe_status moe_int_activation_check(const moe_layer_desc *desc, const moe_int_rounding *r,
                                    const moe_tensor *H, const moe_tensor *A, int64_t row,
                                    moe_int_gap *ret);

/* out_t = sum over a token's pairs of weight * rows; of zero experts weight * itself_t. */
typedef struct moe_int_token_sum {
    const moe_plan *plan;
    int64_t d, real;                       /* pairs from `real` on are those of zero experts */
    const double *weight;                  /* [all pairs], or NULL: 1 for pairs of real experts */
    const double *zero;                    /* [all pairs] weights of zero experts */
    const moe_tensor *rows, *itself, *out; /* [P][d], [T][d], [T][d] */
    bool added_low;                        /* partial sums are stored */
} moe_int_token_sum;

/* One token's row. */
moe_status moe_int_token_sum_check(const moe_int_token_sum *s, const moe_int_rounding *r, int64_t t,
                                   moe_int_gap *ret);

#endif
