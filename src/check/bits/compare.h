/* One arithmetic, or several, beside one stage. */
#ifndef MOE_CHECK_BITS_COMPARE_H
#define MOE_CHECK_BITS_COMPARE_H

#include "check/bits/products.h"
#include "check/bits/spans.h"
#include "check/subject/subject.h"

typedef struct moe_int_bits_run {
    const moe_int_subject *subject;
    moe_dtype dtype;
    bool brief; /* fewer rows: seconds, not minutes */
    int threads;
    moe_int_source source;
    int32_t *gates_first;
    moe_check_result *result;
} moe_int_bits_run;

/* What became of one arithmetic on one stage. */
typedef struct moe_int_bits_outcome {
    int64_t total;                /* elements of the stage, of which some may be left out */
    int64_t elements, differ, at; /* first that differs: element of the tensor */
    int64_t undecided; /* of `elements`: what they are made of leaves more than one number open */
    int64_t e, i, j;   /* its product, row and column */
    float want;
} moe_int_bits_outcome;

/* How exactly the subject's activations are made. */
moe_int_spans moe_int_bits_spans(const moe_int_bits_run *c, const moe_int_chain *chain);

/* Of `blocks` of 16 products, under `count` chains: every so many rows are looked at. */
int64_t moe_int_bits_step(const moe_int_bits_run *c, int64_t blocks, size_t count);
/* Element `at` of `got` is one of a span. */
void moe_int_bits_hold(const moe_tensor *got, int64_t at, moe_int_span span,
                       moe_int_bits_outcome *ret);
/* Adds what was found of product e. */
void moe_int_bits_add(moe_int_bits_outcome *all, const moe_int_bits_outcome *one, int64_t e);

/* Product e of a stage, and the stage as the subject has it. */
typedef struct moe_int_bits_product {
    const moe_int_bits_run *c;
    const moe_tensor *got;
    moe_int_exact_product exact;
    moe_int_packed left;
    int64_t e;
} moe_int_bits_product;
/* Holds elements (i, j) .. (i, j + MOE_INT_LANES - 1), those that there are, to a chain's sums. */
typedef void (*moe_int_bits_hold_fn)(const moe_int_bits_product *p, const moe_int_chain *chain,
                                     int64_t i, int64_t j, const float *sum,
                                     moe_int_bits_outcome *ret);
/* Every `step`-th row under `count` chains. */
typedef struct moe_int_bits_under {
    moe_int_bits_hold_fn hold;
    const moe_int_chain *chains;
    size_t count;
    int64_t step;
} moe_int_bits_under;
/* A product that is not yet packed: an outcome of each chain. MOE_E_NOMEM. */
moe_status moe_int_bits_rows(moe_int_bits_product *p, const moe_int_bits_under *under,
                             moe_int_bits_outcome *ret);

/* Stage `id`, as the subject has it in `got`, under `count` chains: an outcome of each. Of very
 * large ones rows are left out. MOE_E_NOMEM. */
moe_status moe_int_bits_compare(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chains, size_t count,
                                moe_int_bits_outcome *ret);
/* activations.c: A and dH, from H; dH of the chains' dA'. */
moe_status moe_int_bits_activations(const moe_int_bits_run *c, moe_tensor_id id,
                                    const moe_tensor *got, const moe_int_chain *chains,
                                    size_t count, moe_int_bits_outcome *ret);
/* weighted.c: dW2, whose factors s A are known as spans. */
moe_status moe_int_bits_weighted(const moe_int_bits_run *c, const moe_tensor *got,
                                 const moe_int_chain *chains, size_t count,
                                 moe_int_bits_outcome *ret);
/* sums.c: O or dX, from the rows of Y or dX~ in `rows`. */
void moe_int_bits_sums(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                       const moe_tensor *rows, const moe_int_chain *chains, size_t count,
                       moe_int_bits_outcome *ret);

/* Writes the first difference and the chain that leads to the right bits into ret->first. */
moe_status moe_int_bits_lay_out(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chain, const moe_int_bits_outcome *o,
                                moe_bits_stage *ret);
/* The same of a stage that is no product: no chain. */
void moe_int_bits_lay_out_plain(const moe_tensor *got, const moe_int_bits_outcome *o,
                                moe_bits_stage *ret);

#endif
