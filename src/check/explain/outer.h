/* A wrong gradient of weights beside the rows that it is a sum over: sum_r left_r (x) right_r. */
#ifndef MOE_CHECK_EXPLAIN_OUTER_H
#define MOE_CHECK_EXPLAIN_OUTER_H

#include "check/explain/local.h"

typedef struct moe_int_outer {
    const moe_int_evidence *e;
    moe_tensor_id id;
    int64_t expert;            /* -1: of all tokens (dW_r) */
    int64_t a, b;              /* left's and right's width; the gradient is [a][b] */
    int64_t own, before, rows; /* rows: those before its own, its own, those after */
    int64_t first;             /* pair (or token) of the first row */
    double *left, *right;      /* [rows][a], [rows][b] */
    double *got, *error;       /* [a][b]: the gradient, and it less its own rows' */
    double d2;
    const char *left_name, *right_name;
} moe_int_outer;

/* False: the tensor is none, or what it is made of is not there. k->left is to be freed. */
bool moe_int_outer_make(const moe_int_local *l, moe_int_outer *k);

#endif
