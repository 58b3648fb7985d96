/* Memory that grows from call to call. */
#ifndef MOE_CHECK_STATE_LEAK_H
#define MOE_CHECK_STATE_LEAK_H

#include "check/subject/run.h"

/* Runs the prepared layer some more times on the input that it has, and fails the result where the
 * process that the backend runs in keeps memory of every call. A large layer is left alone,
 * unless `repeats` (above 2) asks for that many calls at a time. Only memory that was written to
 * counts, from a page a call on; a device's own memory cannot be seen. */
void moe_int_leak_try(const moe_backend *backend, const moe_problem *problem, int32_t repeats,
                      moe_check_result *result, const moe_int_run *run);

#endif
