/* Weight gradients at sampled hidden units: units.c computes one, unit_sample.c chooses which. */
#ifndef MOE_CHECK_UNITS_H
#define MOE_CHECK_UNITS_H

#include "check/truth/truth.h"

enum { MOE_INT_UNITS = 4 }; /* of an expert */

/* One expert's feed-forward: its tensors, and where its rows come from. */
typedef struct moe_int_unit_ffn {
    const moe_problem *problem;
    const moe_plan *plan; /* NULL: the shared expert */
    moe_int_rounding rounding;
    const double *logits,
        *norms;   /* [T][R], [R] of the router (errors.h); NULL: weights are given */
    double gate2; /* |w_gate|^2 of the shared expert */
    moe_tensor_id w1, b1, w2, dw1, db1, dw2; /* b1, db1: MOE_T_COUNT without biases */
    int64_t e, n, hw, rows;
    int32_t layout;
    int64_t unit[MOE_INT_UNITS], n_units;
} moe_int_unit_ffn;

/* Where the results of one expert start in the parts. */
typedef struct moe_int_unit_sums {
    double *dw1[2], *var1[2], *dw2, *var2; /* [d] each */
    double *db1[2], *var_b1[2];            /* one element each, or NULL */
} moe_int_unit_sums;

/* Column of H of unit j: gate (up = 0) or up. */
int64_t moe_int_unit_column(const moe_int_unit_ffn *u, int64_t j, int up);

/* Adds all rows of the expert to one unit's sums. MOE_E_NOMEM. */
moe_status moe_int_unit_run(const moe_int_unit_ffn *u, int64_t j, const moe_int_unit_sums *sums);

/* db2[d] of the whole expert, and its variance, both zeroed before. MOE_E_NOMEM. */
moe_status moe_int_unit_db2(const moe_int_unit_ffn *u, double *db2, double *variance);

#endif
