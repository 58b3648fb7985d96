/* How a verdict is reached:
 *
 *     subject/   runs a backend with guarded buffers, or reads a file that another program wrote
 *     routing/   is its choice of experts right, or inside the rounding margin?
 *     truth/     the oracle for that choice in float64: everything, or a sample
 *     errors/    the errors that a correct kernel makes there
 *     coverage/  what the case decides, for cases that ought to
 *     compare/   one tensor against its truth, under a gate; where an error is
 *     explain/   after a failure: which hypothesis makes the results right
 *     verdict/   the record that is filled
 *     bundle/    a failure in a file, and back: to be judged again elsewhere
 *     state/     other inputs to the same layer, judged by the same truth
 *     check.c, files.c   a backend's run, or a file, from the first call to the verdict
 *     glance.c   is a sampled run wrong already, so that no other need be made?
 *     judge.c    tensor by tensor, then the inner stages
 *     trial.c    one tensor, and the same one of other runs
 *     readings.c   which recipe's rounding points explain the results
 *     precision.c  is what a recipe keeps in fp32 in fp32?
 */
#ifndef MOE_CHECK_JUDGE_H
#define MOE_CHECK_JUDGE_H

#include "check/subject/subject.h"

/* Judges everything the subject has; fills the result's tensors, verdict and first wrong stage.
 * Fails only where no verdict can be reached (memory, a problem that the reference refuses). */
moe_status moe_int_judge(const moe_int_subject *subject, const moe_check_params *params,
                         const moe_log *log, moe_check_result *result);

#endif
