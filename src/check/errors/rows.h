/* What rows of results and stages need beside every element's variance (rows.c says why). */
#ifndef MOE_CHECK_ERRORS_ROWS_H
#define MOE_CHECK_ERRORS_ROWS_H

#include "moeref/layer.h"

#include <stdbool.h>

/* A pre-activation that rounding may carry across a kink, where the activation's slope jumps: a
 * kernel on the other side of it has step * from[column] more in the row. */
typedef struct moe_int_kink {
    moe_tensor_id of; /* dX, dW1 or dW1_shared, as rows of d */
    int64_t row;
    const moe_tensor *from; /* W1 of the experts or of the shared one for dX, else X; not owned */
    int64_t column;
    double step;
} moe_int_kink;

/* What rows of d need beside every element's variance. */
typedef struct moe_int_rows {
    /* [tokens] Of O and of dX: errors that are one vector times one random number, such as that of
     * a combine weight: of each of them the expected sum of squares over the row, squared; their
     * sum. In units of (u^2/3)^2. */
    double *common_o, *common_dx;
    /* [all pairs] relative variance of a pair's weight, in units of u^2/3: rows of dH and dX~ are
     * the weight times a vector, and err by it as a whole, where it is on the output. Else 0. */
    double *weight;
    /* [all pairs] where it is on the input, the share of the variance of a row of H that is the
     * weight's: rows of all stages, and what they add to gradients, err by it as a whole. Else 0;
     * NULL: all 0 */
    double *on_input;
    moe_int_kink *kink; /* [kinks] by tensor and row */
    int64_t kinks, room;
} moe_int_rows;

moe_status moe_int_rows_alloc(int64_t tokens, int64_t pairs, moe_int_rows *ret);
void moe_int_rows_destroy(moe_int_rows *rows);
moe_status moe_int_rows_add(moe_int_rows *rows, const moe_int_kink *kink);
/* Puts the kinks in order. Rows with too many of them, or with one that is no number, cannot be
 * judged and become NaN in `out`. */
void moe_int_rows_sort(moe_int_rows *rows, moe_tensors *out);
/* Has any row of tensor `id` one? */
bool moe_int_rows_have_kinks(const moe_int_rows *rows, moe_tensor_id id);
/* want, of tensor `id`, in float64, with every row on those sides of its kinks where it is nearest
 * to got's, each element as far as it errs anyway: by `variance` and by being stored (NULL: all
 * alike). The caller frees it. */
moe_status moe_int_rows_settle(const moe_int_rows *rows, moe_tensor_id id, const moe_tensor *got,
                               const moe_tensor *want, const moe_tensor *variance, moe_tensor *ret);

#endif
