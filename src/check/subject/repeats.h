/* A further run's results beside the first one's. */
#ifndef MOE_CHECK_SUBJECT_REPEATS_H
#define MOE_CHECK_SUBJECT_REPEATS_H

#include "check/subject/run.h"

/* False when some bits differ; run->repeats then says of which. */
bool moe_int_run_compare(moe_int_run *run, const moe_int_guarded *fresh);
/* run->later keeps of every result the run that lies farthest from the first, so that one wrong run
 * among many is judged. A deterministic backend's last run is the one that differs, if any does.
 * What is not kept stays in `fresh`. */
void moe_int_run_keep(moe_int_run *run, moe_int_guarded *fresh);

#endif
