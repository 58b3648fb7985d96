/* Have the inputs of a run been left alone? */
#ifndef MOE_CHECK_SUBJECT_INPUTS_H
#define MOE_CHECK_SUBJECT_INPUTS_H

#include "check/subject/run.h"

/* Digests of what goes into a run. */
typedef struct moe_int_inputs {
    uint64_t tensor[MOE_T_COUNT]; /* 0: there is none */
    uint64_t plan;
} moe_int_inputs;

moe_int_inputs moe_int_inputs_of(const moe_problem *problem);
/* Changed inputs are a failure by themselves, and no truth can start from them. */
bool moe_int_inputs_unchanged(const moe_int_inputs *before, const moe_problem *problem,
                              const moe_int_run *run, moe_check_result *result);

#endif
