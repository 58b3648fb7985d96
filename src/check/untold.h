/* The routing of a subject that does not say which experts it chose. */
#ifndef MOE_CHECK_UNTOLD_H
#define MOE_CHECK_UNTOLD_H

#include "check/routing/guess.h"
#include "check/subject/subject.h"
#include "check/truth/truth.h"

/* Does some other choice of experts explain its O where it differs from the truth's? A plan that
 * does, settled with its verdict in `result`'s topk_index; plan NULL: none. */
moe_status moe_int_untold_routing(const moe_int_subject *subject, const moe_int_routing *routing,
                                  const moe_int_truth *truth, const moe_int_reading *reading,
                                  int threads, const moe_log *log, moe_check_result *result,
                                  moe_int_routing *ret);

#endif
