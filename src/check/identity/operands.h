/* What the identities of a layer are made of: products by expert, of the subject's own stages. */
#ifndef MOE_CHECK_IDENTITY_OPERANDS_H
#define MOE_CHECK_IDENTITY_OPERANDS_H

#include "check/identity/product.h"
#include "check/subject/subject.h"

typedef struct moe_int_identities_of {
    const moe_int_subject *subject;
    const moe_layer_desc *desc;
    const moe_plan *plan;
    moe_int_rounding rounding;
    int threads;
    const moe_progress *progress;
    moe_check_result *result;
    double *weight; /* [all pairs], NULL: not told */
    moe_tensors stage;
    bool owned[MOE_T_COUNT], covered[MOE_T_COUNT];
} moe_int_identities_of;

/* Expert e's product that makes tensor `id`, out of what the subject has. Weights are on rows of A,
 * s*A, or, where `on_left`, on those of dO: what is too small to store is another element of each.
 */
moe_int_product moe_int_product_of(const moe_int_identities_of *k, moe_tensor_id id, int64_t e,
                                   bool on_left);

#endif
