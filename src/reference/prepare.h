/* What a run has before its experts: inputs in its arithmetic, the plan, and room for results. */
#ifndef MOE_REFERENCE_PREPARE_H
#define MOE_REFERENCE_PREPARE_H

#include "reference/combine.h"

#define alloc_real REAL(moe_int_alloc_real)
#define load       REAL(moe_int_load)
#define load_into  REAL(moe_int_load_into)
#define prepare    REAL(moe_int_prepare)

/* Zeros, which the caller frees. */
moe_status alloc_real(int64_t count, real **ret);

/* `count` values of an input as `real`, rounded where the recipe does, in fresh memory that the
 * caller frees; *ret stays NULL for an absent one. */
moe_status load(const run_state *r, moe_tensor_id id, int64_t first, int64_t count, real **ret);
/* The same into a room, of which the former content is not asked for again. */
moe_status load_into(const run_state *r, moe_tensor_id id, int64_t first, int64_t count,
                     moe_int_room *room, const real **ret);

/* X, dO, the plan with its weights and logits, and the results, which are 0. */
moe_status prepare(run_state *r);

#endif
