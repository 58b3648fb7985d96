/* Freivalds' test of a product (R. Freivalds, IFIP 1977): out s = left (right^T s) for a vector s
 * of random signs costs as many steps as the matrices have elements, and every element of `out` has
 * its part in it. */
#ifndef MOE_CHECK_IDENTITY_PRODUCT_H
#define MOE_CHECK_IDENTITY_PRODUCT_H

#include "check/errors/errors.h"

#include <stdbool.h>

/* A matrix that is rows of a tensor. */
typedef struct moe_int_view {
    const moe_tensor *t;        /* NULL: all ones */
    int64_t first, rows, width; /* rows first .. of `width` elements, */
    const int32_t *row;         /* or these ones [rows], or NULL */
    const double *scale;        /* [rows] of each row, or NULL */
    bool by_column;             /* element (i, k) lies in row k */
    bool may_vanish;            /* a 0 may be what was too small to store */
} moe_int_view;

/* out(i, j) = sum_k left(i, k) right(j, k) + bias(j). */
typedef struct moe_int_product {
    moe_int_view out, left, right;
    const moe_tensor *bias; /* or NULL */
    int64_t bias_first;
    int64_t I, J, K;
    double rounded; /* how often a kernel may round an operand that it had otherwise */
} moe_int_product;

/* Where the two sides lie farthest apart. */
typedef struct moe_int_gap {
    double z, got, want;
    int64_t index; /* of a row of `out`, or of a column */
    bool column;
} moe_int_gap;

/* Keeps the farther one in *worst. */
void moe_int_gap_note(moe_int_gap *worst, const moe_int_gap *one);
/* z of a difference whose variance is v, no number where `want` is none. */
double moe_int_gap_z(double got, double want, double variance);

/* Every row and every column of `out` against a vector of signs that `key` draws; a wider gap than
 * ret's goes into *ret. MOE_E_NOMEM. */
moe_status moe_int_product_check(const moe_int_product *p, const moe_int_rounding *r, uint64_t key,
                                 moe_int_gap *ret);

#endif
