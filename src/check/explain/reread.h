/* A stage that the next step reads otherwise than it should: what that leaves of the error of the
 * first wrong tensor, at some of its rows and columns. */
#ifndef MOE_CHECK_EXPLAIN_REREAD_H
#define MOE_CHECK_EXPLAIN_REREAD_H

#include "check/explain/local.h"

enum { MOE_INT_REREAD_ROWS = 12, MOE_INT_REREAD_COLUMNS = 32 };

typedef struct moe_int_reread {
    const moe_int_local *l;
    const moe_plan *plan;
    moe_tensor_id stage;    /* Y, A or H, of O; dX~ or dH, of dX */
    const moe_tensor *from; /* [pairs][width] as it should be read */
    int64_t pairs, width;
    int64_t *need, n_need;                  /* its columns that are read */
    int64_t row[MOE_INT_REREAD_ROWS], rows; /* of the tensor: wrong ones, then right ones */
    int64_t column[MOE_INT_REREAD_COLUMNS], columns;
    int64_t first[MOE_INT_REREAD_ROWS + 1]; /* of the rows' pairs */
    int64_t *pair;
    double *weight, *own; /* [listed], [listed][n_need] */
    double *error;        /* [rows][columns] */
    double *matrix;       /* [listed][columns][units]; NULL: the stage's rows are the parts */
    int64_t units;
    double d2;    /* the squares of error */
    double *room; /* [2 n_need + 2 units + columns] */
} moe_int_reread;

/* False: the stage is not to be had, or nothing is wrong there. *ret is destroyed either way. */
bool moe_int_reread_make(const moe_int_local *l, moe_tensor_id stage, moe_int_reread *ret);
void moe_int_reread_destroy(moe_int_reread *k);

/* Reads columns `need` of the row of a pair as `how` says. False: as it should be. */
typedef bool moe_int_read_fn(const moe_int_reread *k, const void *how, int64_t pair, double *ret);
/* The squares that are left of the error; gives up above `most`. */
double moe_int_reread_left(const moe_int_reread *k, moe_int_read_fn *read, const void *how,
                           double most);
/* Element `at` of the stage, over all its rows. */
double moe_int_reread_at(const moe_int_reread *k, int64_t at);

#endif
