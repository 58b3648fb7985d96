/* What one run of a backend passes around, and getting its results. */
#ifndef MOE_CHECK_SUBJECT_RUNNER_H
#define MOE_CHECK_SUBJECT_RUNNER_H

#include "check/subject/run.h"

typedef struct moe_int_runner {
    const moe_problem *problem;
    moe_check_result *result;
    moe_int_run *run;
    const moe_backend *backend;
    bool again; /* results may have the first run's bits once more */
    bool same;  /* the one that was fetched last has, and its buffer holds nothing */
} moe_int_runner;

static inline bool moe_int_runner_has_backward(const moe_int_runner *k) {
    return (k->problem->pass & MOE_PASS_BWD) != 0;
}

/* What is said of a step that failed. */
void moe_int_runner_stop(const moe_int_runner *k, const char *step, moe_status status);

/* fetch.c: fetches into a fresh guarded buffer. MOE_E_UNSUPPORTED: the backend does not keep it. */
moe_status moe_int_runner_fetch(moe_int_runner *k, moe_tensor_id id, moe_int_guarded *ret);
/* Fetches every result that is due; `take` gets each one and may empty it, what it leaves is freed.
 */
bool moe_int_runner_fetch_each(moe_int_runner *k,
                               void (*take)(moe_int_runner *, moe_tensor_id, moe_int_guarded *));

#endif
