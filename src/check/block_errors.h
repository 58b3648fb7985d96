/* What a block's results may be, because the experts' results that they follow from are rounded. A
 * router's way back subtracts gradients of weights that are nearly equal, a norm divides by what
 * cancels: there a block errs more than any gate of its experts says. And a row of dX has two
 * values where an activation has a kink. */
#ifndef MOE_CHECK_BLOCK_ERRORS_H
#define MOE_CHECK_BLOCK_ERRORS_H

#include "block/block.h"
#include "check/errors/errors.h"

enum { MOE_INT_BLOCK_RESULTS_MAX = 8 + 2 * MOE_INT_PLACE_COUNT * MOE_INT_CHAIN_MAX };

/* The results of a block by name, in an order that only the block decides. */
typedef struct moe_int_block_list {
    int n;
    struct {
        char name[24];
        moe_tensor_id kind;  /* whose gate is its own */
        const moe_tensor *t; /* not owned; data NULL: absent */
    } of[MOE_INT_BLOCK_RESULTS_MAX];
} moe_int_block_list;

void moe_int_block_list_make(const moe_block *b, const moe_int_block_result *r,
                             moe_int_block_list *ret);

/* Rows of a result. */
static inline int64_t moe_int_block_rows(const moe_tensor *t) {
    const int64_t columns = t->data ? t->shape[t->ndim - 1] : 0;
    return columns ? moe_tensor_count(t) / columns : 0;
}

/* What may be made of the experts' results by rounding. */
typedef struct moe_int_block_due {
    /* The squared error to be expected of each row of each result, [rows]; NULL: it is absent. */
    double *expected[MOE_INT_BLOCK_RESULTS_MAX];
    /* The block behind the oracle's experts on the subject's sides of kinks (errors/rows.h). */
    moe_int_block_result settled;
} moe_int_block_due;

/* `got` are the subject's results, `experts` the oracle of the problem, which the error model may
 * blank, `oracle` the block behind it. *ret is to be freed, also on failure. MOE_E_NOMEM. */
moe_status moe_int_block_due_make(const moe_problem *problem, const moe_int_rounding *rounding,
                                  const moe_tensors *got, moe_reference_result *experts,
                                  const moe_int_block_result *oracle, const moe_log *log,
                                  moe_int_block_due *ret);
void moe_int_block_due_destroy(moe_int_block_due *due);

#endif
