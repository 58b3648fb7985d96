/* What one call leaves behind must not reach the next. */
#ifndef MOE_CHECK_STATE_STATE_H
#define MOE_CHECK_STATE_STATE_H

#include "check/subject/run.h"

/* Results of more runs, in the order of the first one's; MOE_INT_LATER is not among them. */
typedef struct moe_int_more_runs {
    moe_int_guarded set[MOE_INT_AGAIN_COUNT][MOE_T_COUNT]; /* owned */
    bool stale[MOE_T_COUNT]; /* of a second input, and the first one's */
} moe_int_more_runs;

/* Gives the prepared layer another input, then the first one again, and the backend a layer in
 * which the weights of experts without tokens are NaN. What is found about buffers, choices and
 * calls goes into `result`; what is to be judged into *ret, which is to be freed. `log` is for
 * failures of memory. */
void moe_int_state_try(moe_backend *backend, const moe_problem *problem,
                       const moe_check_params *params, const moe_log *log, moe_check_result *result,
                       moe_int_run *run, moe_int_more_runs *ret);
void moe_int_more_runs_destroy(moe_int_more_runs *more);

/* 2, 3 ... when `b` is that many times `a`, as it is where results are added to what was there;
 * else 0. */
int moe_int_times(const moe_tensor *a, const moe_tensor *b);

#endif
