/* Has a backend left its inputs alone? */
#ifndef MOE_CHECK_SUBJECT_INPUTS_H
#define MOE_CHECK_SUBJECT_INPUTS_H

#include "moeref/case.h"
#include "moeref/check.h"

#include <stdbool.h>

/* Hashes of everything that a problem hands over. */
typedef struct moe_int_inputs_mark {
    uint64_t tensor[MOE_T_COUNT], plan;
} moe_int_inputs_mark;

/* NULL has a hash too. */
uint64_t moe_int_hash_plan(const moe_plan *plan);
void moe_int_inputs_note(const moe_problem *problem, moe_int_inputs_mark *ret);
/* Changed inputs are a failure by themselves, and no truth can start from them. */
bool moe_int_inputs_unchanged(const moe_problem *problem, const moe_int_inputs_mark *mark,
                              moe_check_result *result);

#endif
