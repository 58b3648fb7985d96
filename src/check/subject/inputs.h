/* What a backend is given and must not change. */
#ifndef MOE_CHECK_SUBJECT_INPUTS_H
#define MOE_CHECK_SUBJECT_INPUTS_H

#include "moeref/check.h"

#include <stdbool.h>
#include <stdint.h>

/* Hashes of a problem's inputs, parameters and plan. */
typedef struct moe_int_inputs {
    uint64_t tensor[MOE_T_COUNT], plan;
} moe_int_inputs;

/* Is it an input or a parameter? */
bool moe_int_is_given(moe_tensor_id id);
/* 0 for no plan. */
uint64_t moe_int_hash_plan(const moe_plan *plan);
void moe_int_inputs_note(const moe_problem *problem, moe_int_inputs *ret);
/* Are they as they were? Changed ones are a failure by themselves, told in `result`, and no truth
 * can start from them. An isolated backend could only change the copy that its `layer`, or NULL,
 * works with. */
bool moe_int_inputs_kept(const moe_int_inputs *before, const moe_problem *problem,
                         const moe_layer *layer, moe_check_result *result);

#endif
