/* A failure in one file, safetensors that Python opens in two lines: enough to judge it again
 * without the backend that made it.
 *
 *     in.X, in.W1 ... in.plan_offsets ...  the problem's tensors, and its plan where it was given
 *     got.O, got.dW1 ... got.plan_...      the results, and the choice of experts where it is known
 *     stage.H, stage.A ...                 inner stages, where the backend offers them
 *     later.O ... second.O, poisoned.O     those of other runs that are judged too
 *     want.O ...                           the truth in float64
 *     metadata                             layer (a case line), arithmetic, the verdict as text,
 * and of_run: is it of the calls, not of these results?
 */
#ifndef MOE_CHECK_BUNDLE_BUNDLE_H
#define MOE_CHECK_BUNDLE_BUNDLE_H

#include "check/subject/subject.h"
#include "check/truth/truth.h"
#include "moeref/safetensors.h"

/* The prefixes of names. */
#define MOE_INT_BUNDLE_IN    "in."
#define MOE_INT_BUNDLE_GOT   "got."
#define MOE_INT_BUNDLE_STAGE "stage."
#define MOE_INT_BUNDLE_WANT  "want."
extern const char *const moe_int_bundle_again[MOE_INT_AGAIN_COUNT];

/* Writes a bundle into the folder `dir` and says where; a failure to do so is said too, and changes
 * no verdict. `of_run`: the calls were wrong, and the first run's results need not be. `truth`
 * NULL: it is not known. */
void moe_int_bundle_write(const moe_int_subject *subject, const moe_int_truth *truth, bool of_run,
                          const char *dir, const moe_log *log, moe_check_result *result);

/* A bundle that was read: `subject` points into it. */
typedef struct moe_int_bundle {
    moe_safetensors *file;
    moe_problem *problem;
    moe_plan *plan;
    const char *verdict; /* as it was reached first */
    bool of_run;         /* for what no file of results holds */
    moe_tensors stages;
    moe_int_subject subject; /* its `user` is the bundle, which stays where it is */
} moe_int_bundle;

/* *ret is to be freed, also on failure. MOE_E_FORMAT: no bundle, or a damaged one. */
moe_status moe_int_bundle_read(const char *path, const moe_log *log, moe_int_bundle *ret);
void moe_int_bundle_destroy(moe_int_bundle *bundle);

#endif
