/* Where two results of the same layer lie farthest apart: tokens, and experts' hidden units. */
#ifndef MOE_CHECK_SCOUT_FARTHEST_H
#define MOE_CHECK_SCOUT_FARTHEST_H

#include "check/truth/truth.h"

typedef struct moe_int_farthest {
    moe_int_places places;
    char tensors[64]; /* which were looked through: "O, dX, dS, dW1, dW2" */
} moe_int_farthest;

/* By the share of a row (a token's, a unit's) that differs, and by its largest difference beside
 * the row's root mean square. Tensors that either set lacks are left out. MOE_E_NOMEM. */
moe_status moe_int_farthest_find(const moe_problem *problem, const moe_plan *plan,
                                 const moe_tensors *got, const moe_tensors *fast,
                                 moe_int_farthest *ret);

#endif
