/* An input that leaves experts without tokens. */
#ifndef MOE_CHECK_STATE_ALIKE_H
#define MOE_CHECK_STATE_ALIKE_H

#include "check/subject/run.h"

/* The prepared layer sees an input whose tokens are all alike: they choose the same experts, and of
 * every other one that had tokens before, the gradients must be exactly 0 now. Needs no truth: what
 * is left of an earlier input is told by that alone. Findings go into `result`. Only where the
 * choice is given or told, and a pass has at most some 1e10 FLOPs. The layer keeps that input. */
void moe_int_alike_try(const moe_backend *backend, const moe_problem *problem, const moe_log *log,
                       moe_check_result *result, const moe_int_run *run);

#endif
