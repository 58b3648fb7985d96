/* Other choices that a token's router may have made, the nearest first. */
#ifndef MOE_CHECK_ROUTING_ALTERNATIVES_H
#define MOE_CHECK_ROUTING_ALTERNATIVES_H

#include "moeref/case.h"

/* Sets of experts; set 0 is the choice in force. */
typedef struct moe_int_sets {
    int64_t count, room;
    int64_t most;    /* experts that a set may have: K + 1, or those in force + 1 */
    int64_t *n;      /* [room] */
    int32_t *expert; /* [room][most], each set ascending */
} moe_int_sets;

/* One token as its router sees it. All arrays are [n], n = E + n_zero. */
typedef struct moe_int_token_view {
    const moe_problem *problem;
    const double *z, *up, *down, *b_select; /* b_select may be NULL */
    const double *score;                    /* what the choice is made by */
    int64_t n;
} moe_int_token_view;

/* How far from the choice in force. */
typedef enum moe_int_reach {
    MOE_INT_NEAR, /* ties within the rounding margin, and swaps with the next by score */
    MOE_INT_ANY   /* every swap of one expert */
} moe_int_reach;

/* Does the router choose token by token, so that each has K experts whatever the others do? */
bool moe_int_chooses_by_token(const moe_layer_desc *desc);

/* `drops`: also sets with one expert fewer or more, where other tokens may have moved one. MOE_E_*
 * for want of memory; *ret is to be freed, also then. */
moe_status moe_int_sets_make(const moe_int_token_view *view, const int32_t *chosen, int64_t k,
                             moe_int_reach reach, bool drops, moe_int_sets *ret);
void moe_int_sets_destroy(moe_int_sets *sets);

#endif
