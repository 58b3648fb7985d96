/* A backend's run of a problem. */
#ifndef MOE_CHECK_SUBJECT_RUN_H
#define MOE_CHECK_SUBJECT_RUN_H

#include "check/subject/inputs.h"
#include "check/subject/subject.h"

/* A backend's run of a problem. */
typedef struct moe_int_run {
    moe_layer *layer;
    moe_support support;
    char declared[128]; /* arithmetic, as moe_arithmetic_parse takes it; "": none */
    moe_int_guarded first[MOE_T_COUNT], later[MOE_T_COUNT];
    moe_plan *plan; /* its choice; NULL: given, or not told */
    bool bad_plan;  /* it told one that contradicts itself: nothing of pairs is to be had */
    bool usable;    /* results are there to be judged */
    bool repeats[MOE_T_COUNT]; /* false: bits of `first` and `later` differ */
    bool same_plan;            /* every run chose alike */
    moe_int_inputs given;      /* before the first run */
    bool returned;             /* the last run is one of the first input after another */
} moe_int_run;

/* Prepares a layer and runs it once. Findings about buffers go into `result`, as do refusal (SKIP)
 * and errors. */
void moe_int_run_make(moe_backend *backend, const moe_problem *problem, moe_check_result *result,
                      moe_int_run *ret);
/* So many runs more, up to the first that differs; whether they had the first one's bits stays in
 * *run. Then whether inputs are as they were, also after none. */
void moe_int_run_repeat(const moe_backend *backend, const moe_problem *problem, int times,
                        moe_check_result *result, moe_int_run *run);
/* Did every run give the bits that a deterministic backend owes? */
bool moe_int_run_repeats(const moe_int_run *run);
/* Runs a prepared layer once on the inputs of `problem`; the layer stays the caller's, the rest of
 * *ret is to be freed. Only `first`, `plan` and `usable` are set. */
bool moe_int_run_on(const moe_backend *backend, moe_layer *layer, const moe_support *support,
                    const moe_problem *problem, moe_check_result *result, moe_int_run *ret);
/* Back to the inputs of the first run, once more: it counts as one of the repeats. */
void moe_int_run_return(const moe_backend *backend, const moe_problem *problem,
                        moe_check_result *result, moe_int_run *run);
/* Frees what was fetched, but not the layer. */
void moe_int_run_clear(moe_int_run *run);
/* One more stage of the last run, as a tensor that the caller frees. */
moe_status moe_int_run_stage(moe_int_run *run, const moe_problem *problem, moe_check_result *result,
                             moe_tensor_id id, moe_tensor *ret);
void moe_int_run_destroy(moe_int_run *run);

#endif
