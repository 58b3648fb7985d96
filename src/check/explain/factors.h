/* A wrong gradient as a sum over rows of two vectors' products, beside a few random directions, in
 * which such a sum costs no more than its rows. Of the gradient its wrong rows and columns are
 * looked at. */
#ifndef MOE_CHECK_EXPLAIN_FACTORS_H
#define MOE_CHECK_EXPLAIN_FACTORS_H

#include "check/explain/shared.h"
#include "check/explain/vectors.h"

/* What multiplies row r's product. */
typedef enum moe_int_row_weight {
    MOE_INT_WEIGHT_NONE,
    MOE_INT_WEIGHT_ONCE,
    MOE_INT_WEIGHT_TWICE,
    MOE_INT_WEIGHT_FIRST_ROW, /* its own for the expert's first row's */
    MOE_INT_WEIGHT_NEXT_ROW,
    MOE_INT_WEIGHT_ROW_BEFORE,
    MOE_INT_WEIGHT_LOCAL, /* as if the expert's rows were the first of all */
    MOE_INT_WEIGHT_REST,  /* 1 less it */
    MOE_INT_WEIGHTS
} moe_int_row_weight;

/* Vectors beside those of vectors.h: 1, of a bias's sum; of the router's. */
enum {
    MOE_INT_VECTOR_ONES = MOE_INT_VECTOR_COUNT,
    MOE_INT_VECTOR_DLOGITS,
    MOE_INT_VECTOR_LOGITS,
    MOE_INT_VECTOR_SHARED_H, /* the shared expert's */
    MOE_INT_VECTOR_SHARED_DH,
    MOE_INT_VECTOR_SHARED_A,
    MOE_INT_VECTOR_SHARED_Y,
    MOE_INT_VECTOR_SHARED_DXP,
    MOE_INT_VECTORS
};

/* One sum: its two vectors, and how they enter it. */
typedef struct moe_int_sum_of {
    int left, right;
    moe_int_row_weight weight;
    int left_bits, right_bits; /* 0: all */
    int64_t left_by, right_by; /* of the row so many on, */
    bool round;                /* after the last the first; else the next expert's */
} moe_int_sum_of;

enum { MOE_INT_FACTOR_ROWS = 96 };

typedef struct moe_int_factors {
    const moe_int_evidence *e;
    moe_tensor_id id;
    int64_t a, b, first, rows; /* the gradient is [a][b]; pairs, or tokens */
    bool tokens;
    moe_int_sum_of own;
    int64_t seen, at[MOE_INT_FACTOR_ROWS];      /* rows of the gradient that are looked at */
    int64_t columns, first_column, last_column; /* wrong ones */
    int64_t probes;
    double *probe;        /* [probes][b], 0 in columns that are right; owned */
    double *got, *sum;    /* [probes][seen] */
    double *left, *right; /* [a], [b] */
    double *dz, *z;       /* [T][R] of the router's; owned */
    moe_int_stage_rows s; /* of the shared expert's; owned */
    double d2;            /* of the right sum */
} moe_int_factors;

/* False: the tensor is no such sum, or what it is made of is not there. *ret is to be freed. */
bool moe_int_factors_make(const moe_int_local *l, moe_int_factors *ret);
void moe_int_factors_destroy(moe_int_factors *k);

/* Has vector `which` the width, and is it there? */
bool moe_int_factors_have(const moe_int_factors *k, int which, int64_t width);
/* Squared distance of the gradient from the sum, in the directions of the probes. */
double moe_int_factors_distance(const moe_int_factors *k, const moe_int_sum_of *s);
/* Is it so, as far as rounding lets tell? */
bool moe_int_factors_explain(const moe_int_factors *k, double left);
/* "dO with A times the combine weight"; and which columns alone. */
void moe_int_factors_say(const moe_int_sum_of *s, moe_int_finding *f);
void moe_int_factors_say_part(const moe_int_factors *k, moe_int_finding *f);

#endif
