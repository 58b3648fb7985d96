/* What is judged: the results of a backend, or of a file. */
#ifndef MOE_CHECK_SUBJECT_SUBJECT_H
#define MOE_CHECK_SUBJECT_SUBJECT_H

#include "check/subject/guard.h"
#include "moeref/check.h"

#include <stdbool.h>

/* Results to be judged: a backend's, or a file's. */
typedef struct moe_int_subject {
    const moe_problem *problem;
    moe_dtype arithmetic;
    moe_tensors got;      /* not owned; data NULL: absent */
    moe_tensors later;    /* those of a later run that need not have the same bits; or absent */
    const moe_plan *plan; /* its own choice of experts; NULL: unknown */
    /* One more stage, as a tensor that the caller frees; NULL: there are no more. */
    moe_status (*fetch)(void *user, moe_tensor_id id, moe_tensor *ret);
    void *user;
} moe_int_subject;

#endif
