/* Why results over ranks are wrong where one rank's are right: each cause makes of the right
 * results what it would have made of them. */
#ifndef MOE_CHECK_RANKS_CAUSE_H
#define MOE_CHECK_RANKS_CAUSE_H

#include "check/ranks/ranks.h"
#include "check/subject/run.h"

/* Replaces the explanation of `result` by the cause that makes `got`, if there is one. `right` are
 * one rank's results, with Y and dXp as far as the backend has them. */
void moe_int_ranks_cause(const moe_int_ranks *k, const moe_ep_layout *layout,
                         const moe_int_run *got, const moe_int_run *right,
                         moe_check_result *result);

#endif
