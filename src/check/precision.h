/* Is what a recipe keeps in fp32 kept in fp32 on the way, too? Told from the subject's own values:
 * the truth is too far away, its distance is what the stored stages err. */
#ifndef MOE_CHECK_PRECISION_H
#define MOE_CHECK_PRECISION_H

#include "check/readings.h"
#include "check/truth/truth.h"

/* Does the reading keep tensor `id` in fp32 beside 16-bit results? */
bool moe_int_promised_fp32(moe_tensor_id id, const moe_int_reading *reading);

/* Is O the sum of its own w*Y, added in fp32 and rounded once? `weight` [all pairs], Y [pairs][d]
 * as the subject holds it; `plan` as the subject has it. Fails v if not. */
moe_status moe_int_judge_combine(const moe_problem *problem, const moe_int_reading *reading,
                                 const moe_plan *plan, const moe_tensor *weight,
                                 const moe_tensor *Y, const moe_tensor *O, moe_tensor_verdict *v);

/* Likewise dX of dX~ [pairs][d], with what passes through the router by its own dS. MOE_E_NOMEM. */
moe_status moe_int_judge_dX(const moe_problem *problem, const moe_int_reading *reading,
                            const moe_plan *plan, const moe_int_routing *routing,
                            const moe_tensors *got, const moe_tensor *dXp, moe_tensor_verdict *v);

/* Is dW_r the sum of dlogits*x with dlogits of its own dS in fp32? Fails v if not. MOE_E_NOMEM. */
moe_status moe_int_judge_dlogits(const moe_problem *problem, const moe_int_reading *reading,
                                 const moe_int_routing *routing, const moe_tensor *dS,
                                 const moe_tensor *dW_r, moe_tensor_verdict *v);

#endif
