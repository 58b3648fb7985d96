/* The block around a layer: what is made of a subject's results, held to golden values. */
#ifndef MOE_CHECK_BLOCK_H
#define MOE_CHECK_BLOCK_H

#include "check/subject/subject.h"

/* Judges the results of problem->block that follow from the subject's O, dX and dS, and adds a
 * verdict for each; nothing for a problem without a block. MOE_E_NOMEM. */
moe_status moe_int_judge_block(const moe_int_subject *subject, const moe_log *log,
                               moe_check_result *result);

#endif
