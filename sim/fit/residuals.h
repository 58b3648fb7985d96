/* Internal: statistics of residuals (relative errors of predictions) over a table's rows. */
#ifndef MOE_SIM_FIT_RESIDUALS_H
#define MOE_SIM_FIT_RESIDUALS_H

#include "sim/fit/table.h"
#include "sim/gpus/params.h"

/* Which rows count: those with fold[i] >= 0, != but. */
typedef struct moe_int_residuals {
    const moe_table *table;
    const int32_t *fold;
    const double *residual; /* relative error of each row */
    int32_t but;            /* -1: all folds */
} moe_int_residuals;

moe_status moe_int_residuals_by_class(const moe_int_residuals *r,
                                      moe_fit_error ret[MOE_FIT_CLASSES]);

/* Rows of each kernel's name. */
moe_status moe_int_residuals_by_kernel(const moe_int_residuals *r, moe_fit_result *ret);

/* Where 80 of 100 measured times lie around predicted ones, of each size, of shapes that were left
 * out. A size of few rows keeps what *spread has, and is not marked as found. */
moe_status moe_int_residuals_spread(const moe_int_residuals *r,
                                    moe_int_spread spread[MOE_INT_SIZES],
                                    bool ret_found[MOE_INT_SIZES]);

#endif
