/* A second input whose results are known from the first one's. */
#ifndef MOE_CHECK_STATE_MIRROR_H
#define MOE_CHECK_STATE_MIRROR_H

#include "check/subject/run.h"

/* The problem with its tokens in reverse order and dO negated. Every token's results move with it,
 * every gradient changes its sign, and nothing else changes, but for the order of sums: the first
 * input's truth judges this one too. Tokens stay where they are when the router looks at all of
 * them at once, as then their order may matter. */
typedef struct moe_int_mirror {
    moe_problem problem; /* a view, but for X, dO and plan */
    int64_t *order;      /* [T] token `i` of it is token order[i] of the original */
} moe_int_mirror;

moe_status moe_int_mirror_make(const moe_problem *problem, const moe_log *log, moe_int_mirror *ret);
void moe_int_mirror_destroy(moe_int_mirror *m);
/* Is it another input at all? */
bool moe_int_mirror_differs(const moe_int_mirror *m);
/* Has every token the experts in `mirrored` that it has in `plan`? */
bool moe_int_mirror_same_choice(const moe_int_mirror *m, const moe_plan *plan,
                                const moe_plan *mirrored);
/* A run of the mirrored problem in the original's order and sign; what has neither rows of tokens
 * nor of pairs is taken out of the run. Without plans (NULL) tensors of pairs stay out. The caller
 * frees ret[MOE_T_COUNT], also on failure. */
moe_status moe_int_mirror_undo(const moe_int_mirror *m, moe_int_run *run, const moe_plan *plan,
                               const moe_plan *mirrored, moe_int_guarded *ret);

#endif
