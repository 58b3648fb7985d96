/* What is judged: the results of a backend, or of a file. */
#ifndef MOE_CHECK_SUBJECT_SUBJECT_H
#define MOE_CHECK_SUBJECT_SUBJECT_H

#include "check/subject/guard.h"
#include "moeref/check.h"

#include <stdbool.h>

/* Results of another run that must be right too, in the order and sign of the first one's. */
typedef struct moe_int_again {
    const char *what; /* "later run", "second input" ... */
    moe_tensors t;    /* data NULL: absent */
} moe_int_again;
#define MOE_INT_AGAIN_MAX 3

/* Results to be judged: a backend's, or a file's. */
typedef struct moe_int_subject {
    const moe_problem *problem;
    moe_dtype arithmetic;
    moe_tensors got;                        /* not owned; data NULL: absent */
    moe_int_again again[MOE_INT_AGAIN_MAX]; /* not owned */
    size_t n_again;
    const moe_plan *plan; /* its own choice of experts; NULL: unknown, or given by the problem */
    /* One more stage, as a tensor that the caller frees; NULL: there are no more. */
    moe_status (*fetch)(void *user, moe_tensor_id id, moe_tensor *ret);
    void *user;
} moe_int_subject;

#endif
