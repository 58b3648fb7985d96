/* Identities over the subject's own results: where the truth is a sample, every element of the
 * linear stages is held to what the subject itself made it of. */
#ifndef MOE_CHECK_IDENTITY_IDENTITY_H
#define MOE_CHECK_IDENTITY_IDENTITY_H

#include "check/errors/errors.h"
#include "check/subject/subject.h"

/* Fails the tensors that are not what they should be made of, and says in `result` which were
 * covered. MOE_E_NOMEM. */
moe_status moe_int_identities(const moe_int_subject *subject, const moe_int_rounding *rounding,
                              const moe_plan *plan, int threads, const moe_progress *progress,
                              moe_check_result *result);

#endif
