/* Internal: how problems get their tensors, shared by drawn cases and checkpoints. */
#ifndef MOE_LAYER_PROBLEM_H
#define MOE_LAYER_PROBLEM_H

#include "layer/stored_plan.h"
#include "moeref/case.h"

/* Draws the plan that c->route (not MOE_ROUTE_ROUTER) describes. A pure function of the case. */
moe_status moe_int_draw_plan(const moe_case *c, const moe_log *log, moe_plan **ret);

/* c->masked tokens, [T] 1: masked. The caller frees it. */
moe_status moe_int_draw_mask(const moe_case *c, unsigned char **ret);
/* Takes what c->masked and c->drop leave out of the drawn pairs. */
moe_status moe_int_leave_out(const moe_case *c, int32_t *token, int32_t *expert, int64_t *count);
/* Replaces *plan, which a router made, by the one without the problem's masked tokens. */
moe_status moe_int_mask_plan(const moe_problem *problem, moe_plan **plan);

/* Allocates an input or parameter of a problem whose layer, T, dtype and name are set. */
moe_status moe_int_alloc_input(moe_problem *problem, moe_tensor_id id, const moe_log *log);

/* The same for X or dO, filled from the stream of its id. */
moe_status moe_int_draw_input(moe_problem *problem, moe_tensor_id id, moe_fill_kind kind,
                              double scale, const moe_log *log);

/* Replaces W1 and W2 by what c->quant makes of them. */
moe_status moe_int_quantise_experts(const moe_case *c, const moe_log *log, moe_problem *p);

/* moe_problem_from_file for tensors under a prefix. The case says what the layer is; its `route`
 * may become a given plan. */
moe_status moe_int_problem_stored(const moe_int_prefixed *stored, const moe_case *c,
                                  const moe_log *log, moe_problem **ret);

/* A formatted string that the caller frees; NULL when memory is exhausted. */
char *moe_int_format(const char *format, ...) MOE_PRINTF(1, 2);

#endif
