/* A case's block, written as the steps of a tape. */
#ifndef MOE_BLOCK_WRITTEN_H
#define MOE_BLOCK_WRITTEN_H

#include "block/tape/tape.h"
#include "moeref/case.h"

/* X, W1 and W2 of the drawn problem as parameters of those names. MOE_E_NOMEM. */
moe_status moe_int_block_parameters(const moe_problem *drawn, moe_int_parameters *ret);

/* Writes c's block, which is not 0: its output is the tape's last step. The tape, empty before,
 * keeps `parameters`. */
moe_status moe_int_block_write(const moe_case *c, moe_int_parameters *parameters,
                               moe_int_tape *tape);

/* The last step with experts. */
const moe_int_step *moe_int_block_last_experts(const moe_int_tape *tape);

#endif
