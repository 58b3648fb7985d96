/* Where two results of the same layer lie farthest apart: tokens, and experts' hidden units. */
#ifndef MOE_CHECK_SCOUT_FARTHEST_H
#define MOE_CHECK_SCOUT_FARTHEST_H

#include "check/truth/truth.h"

enum {
    MOE_INT_FAR_EACH = 4,    /* places of a tensor by each of two measures */
    MOE_INT_FAR_TOKENS = 20, /* of O and dX, by both; of dS by one */
    MOE_INT_FAR_UNITS = 40   /* of dW1, db1, dW2 of experts and of the shared one, by both */
};

/* Tokens ascend; units ascend by expert, the shared one's (e = -1) first. */
typedef struct moe_int_farthest {
    int64_t token[MOE_INT_FAR_TOKENS], n_tokens;
    moe_int_unit_place unit[MOE_INT_FAR_UNITS];
    int64_t n_units;
    char tensors[64]; /* which were looked through: "O, dX, dS, dW1, dW2" */
} moe_int_farthest;

/* By the share of a row (a token's, a unit's) that differs, and by its largest difference beside
 * the row's root mean square. Tensors that either set lacks are left out. MOE_E_NOMEM. */
moe_status moe_int_farthest_find(const moe_problem *problem, const moe_plan *plan,
                                 const moe_tensors *got, const moe_tensors *fast,
                                 moe_int_farthest *ret);

#endif
