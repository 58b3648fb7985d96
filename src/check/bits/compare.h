/* One arithmetic, or several, beside the products of one stage. */
#ifndef MOE_CHECK_BITS_COMPARE_H
#define MOE_CHECK_BITS_COMPARE_H

#include "check/bits/products.h"
#include "check/subject/subject.h"

typedef struct moe_int_bits_run {
    const moe_int_subject *subject;
    moe_dtype dtype;
    int threads;
    moe_int_source source;
    int32_t *gates_first;
    moe_check_result *result;
} moe_int_bits_run;

/* What became of one arithmetic on one stage. */
typedef struct moe_int_bits_outcome {
    int64_t total;                /* elements of all products, of which some may be left out */
    int64_t elements, differ, at; /* first that differs: element of the tensor */
    int64_t e, i, j;              /* its product, row and column */
    float want;
} moe_int_bits_outcome;

/* Stage `id`, as the subject has it in `got`, under `count` chains: an outcome of each. Of very
 * large ones rows are left out. MOE_E_NOMEM. */
moe_status moe_int_bits_compare(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chains, size_t count,
                                moe_int_bits_outcome *ret);
/* Writes the first difference and the chain that leads to the right bits into ret->first. */
moe_status moe_int_bits_lay_out(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chain, const moe_int_bits_outcome *o,
                                moe_bits_stage *ret);

#endif
