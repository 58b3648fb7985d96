/* Bit for bit: each product of the layer from the subject's own stages, in an arithmetic that is
 * known exactly. Which one is given, or looked for in the bank of arithmetics. */
#ifndef MOE_CHECK_BITS_BITS_H
#define MOE_CHECK_BITS_BITS_H

#include "check/subject/subject.h"

/* What is asked for, in params or by the subject's own declaration; NULL: nothing. */
const char *moe_int_bits_wanted(const moe_int_subject *subject, const moe_check_params *params);

/* Fills result->bits as params->bits asks; a stage that is not what a given arithmetic makes of
 * the one before it fails. MOE_E_NOMEM. */
moe_status moe_int_bits(const moe_int_subject *subject, const moe_plan *plan,
                        const moe_check_params *params, moe_check_result *result);

#endif
