/* What a subject may be read as: an arithmetic and the rounding points of a recipe. */
#ifndef MOE_CHECK_READINGS_H
#define MOE_CHECK_READINGS_H

#include "check/routing/reading.h"
#include "check/subject/subject.h"

/* `problem` as a kernel sees it that keeps its inputs in `arithmetic`: golden values do not hold
 * for it. ret->in is owned where it had to be rounded; moe_int_problem_free ends it. */
moe_status moe_int_problem_rounded(const moe_problem *problem, moe_dtype arithmetic,
                                   moe_problem *ret);
void moe_int_problem_free(const moe_problem *original, moe_problem *rounded);

/* Judges one more reading, without looking for causes; *result is what was found before. `first`
 * is the trial of the first reading, whose truth may serve again. */
struct moe_int_trial;
typedef moe_status moe_int_judge_fn(const moe_int_subject *subject,
                                    const struct moe_int_trial *first,
                                    const moe_int_reading *reading, const moe_check_params *params,
                                    const moe_log *log, moe_check_result *result);

/* Can rounding be why it failed? Not where numbers are missing. Where inputs lose digits anything
 * else may be, from the choice of experts on; else no error is that large, and experts are right.
 */
bool moe_int_may_be_rounding(const moe_check_result *r, const moe_problem *problem);

/* Says in `result` whose recipe that was. */
void moe_int_name_reading(const moe_check_params *params, const moe_problem *problem,
                          moe_check_result *result);

/* After a failure by values under the first reading: another recipe that explains the subject, or
 * all but what is apart (apart.h), becomes its verdict, if none was asked for. A recipe that must
 * be asked for, or another arithmetic, is suggested. `before` is the result as it was before the
 * first reading. */
moe_status moe_int_other_readings(const moe_int_subject *subject, const struct moe_int_trial *first,
                                  const moe_check_params *params, const moe_log *log,
                                  moe_int_judge_fn *judge, const moe_check_result *before,
                                  moe_check_result *result);

#endif
