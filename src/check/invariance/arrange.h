/* Batches that hold the same tokens in other ways. */
#ifndef MOE_CHECK_INVARIANCE_ARRANGE_H
#define MOE_CHECK_INVARIANCE_ARRANGE_H

#include "moeref/case.h"

/* The largest batch. A problem with fewer tokens gives each of them several times. */
#define MOE_INT_POOL 512

typedef struct moe_int_arrangement {
    const char *name;
    int64_t tokens;
    /* Which of the pool's `pool` tokens stands at place i of T. */
    int64_t (*at)(int64_t i, int64_t T, int64_t pool);
} moe_int_arrangement;

/* The first one is what all are compared with: token j stands at place j of it. */
extern const moe_int_arrangement moe_int_arrangements[];
extern const int moe_int_arrangement_count;

/* The problem in that arrangement: a view, but for X, dO and the plan. `plan` is the first
 * arrangement's or the problem's own, whose token j is the pool's; NULL: the backend routes. */
moe_status moe_int_arrange(const moe_problem *problem, const moe_int_arrangement *a, int64_t pool,
                           const moe_plan *plan, moe_problem *ret);
void moe_int_arrange_end(moe_problem *arranged);

#endif
