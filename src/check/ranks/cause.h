/* Why results over ranks are wrong where one rank's are right: whose part is missing or counts
 * otherwise than once, and whose rows stand in the place of others. */
#ifndef MOE_CHECK_RANKS_CAUSE_H
#define MOE_CHECK_RANKS_CAUSE_H

#include "moeref/check.h"
#include "moeref/ep.h"

#include <stdbool.h>

/* Results beside right ones of the same choice. */
typedef struct moe_int_compared {
    const moe_problem *problem;
    const moe_ep_layout *layout;
    const moe_plan *plan;           /* of all tokens */
    const moe_tensors *got, *right; /* right: with the stages A, Y, dH, dXp, as far as they are
                                       to be had */
    int32_t tp;                     /* 1: experts lie whole */
    bool plain;                     /* and once */
    bool low;                       /* results of 16 bits */
} moe_int_compared;

/* Replaces the explanation of `result` by the cause that makes `got`, if there is one. */
void moe_int_ranks_cause(const moe_int_compared *c, moe_check_result *result);

/* Choices of experts beside the logits [T][E] that they should follow. */
typedef struct moe_int_chosen {
    const moe_problem *problem;
    const moe_ep_layout *layout;
    const moe_plan *got; /* of all tokens */
    const double *logits;
    bool plain; /* experts lie whole and once */
} moe_int_chosen;

/* choice.c: the same of a wrong choice; `before` and `after` are shares of tokens. False: no cause
 * makes it. */
bool moe_int_ranks_choice(const moe_int_chosen *c, moe_explanation *ret);

#endif
