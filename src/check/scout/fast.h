/* A judged layer once more, by a backend that is fast: not the truth, but near enough to say where
 * to look for what is not. */
#ifndef MOE_CHECK_SCOUT_FAST_H
#define MOE_CHECK_SCOUT_FAST_H

#include "check/subject/run.h"
#include "check/truth/truth.h"

/* What is judged, and the truth of its sample. */
typedef struct moe_int_fast_task {
    const moe_problem *problem;
    const moe_int_routing *routing;
    const moe_int_truth *truth;
    const moe_check_params *params;
    const moe_log *log;
} moe_int_fast_task;

typedef struct moe_int_fast {
    moe_backend *backend;
    moe_problem problem; /* the task's, whose plan in force is given */
    moe_check_result *notes;
    moe_int_run run;
    moe_tensors out; /* views of what the run gave; dX with the router's part */
    moe_tensor dX;   /* that one, owned */
} moe_int_fast;

/* Is such a run wanted beside the backend `judged`, and is there time and memory for it? */
bool moe_int_fast_wanted(const moe_int_fast_task *task, const char *judged);
/* *ret is to be destroyed, also on failure. MOE_E_UNSUPPORTED, after a warning where the backend
 * was asked for by name: it cannot run the layer, or is not right on the sample. MOE_E_NOMEM; what
 * moe_backend_open fails with. */
moe_status moe_int_fast_run(const moe_int_fast_task *task, moe_int_fast *ret);
void moe_int_fast_destroy(moe_int_fast *f);

#endif
