/* What is judged: the results of a backend, or of a file. */
#ifndef MOE_CHECK_SUBJECT_SUBJECT_H
#define MOE_CHECK_SUBJECT_SUBJECT_H

#include "check/subject/guard.h"
#include "moeref/check.h"

#include <stdbool.h>

/* Runs that must be right too. */
typedef enum moe_int_again {
    MOE_INT_LATER,    /* a later run that need not have the same bits */
    MOE_INT_SECOND,   /* of a second input (state/mirror.h) */
    MOE_INT_POISONED, /* with NaN for the weights of experts without tokens */
    MOE_INT_AGAIN_COUNT
} moe_int_again;

/* What such a run is called at the beginning of a reason. */
static inline const char *moe_int_again_word(moe_int_again again) {
    static const char *const words[MOE_INT_AGAIN_COUNT] = {
        [MOE_INT_LATER] = "later run",
        [MOE_INT_SECOND] = "second input",
        [MOE_INT_POISONED] = "NaN in weights of experts without tokens",
    };
    return words[again];
}

/* Results to be judged: a backend's, or a file's. */
typedef struct moe_int_subject {
    const moe_problem *problem;
    moe_dtype arithmetic;
    moe_tensors got;                        /* not owned; data NULL: absent */
    moe_tensors again[MOE_INT_AGAIN_COUNT]; /* likewise, in the order and sign of `got` */
    const moe_plan *plan;                   /* its own choice of experts; NULL: unknown */
    /* One more stage, as a tensor that the caller frees; what is found about its buffer goes into
     * `result`. NULL: there are no more. */
    moe_status (*fetch)(void *user, moe_tensor_id id, moe_check_result *result, moe_tensor *ret);
    void *user;
    const bool *stale;    /* [MOE_T_COUNT] the second input's has the first one's bits; or NULL */
    const char *declared; /* its arithmetic, as moe_arithmetic_parse takes it; NULL: unknown */
    const struct moe_int_truth *known; /* a truth that may be made already (truth.h); or NULL */
    bool drifts; /* what is fetched is of a later run, whose results have other bits */
} moe_int_subject;

#endif
