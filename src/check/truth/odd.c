/* Rows of a subject's results that stand out, before any truth is known: one token in many that is
 * left out, added twice or garbage is hardly ever drawn, but has the smallest row, or the largest.
 * Nothing is judged here: such tokens join the sample, and the oracle says whether they are right.
 */
#include "check/truth/truth.h"
#include "core/samples.h"

#include <math.h>
#include <stdlib.h>

enum { EACH = MOE_INT_ODD / 4, MANY = 1 << 20 /* elements: worth a team of threads */ };

/* The `EACH` tokens of smallest (sign -1) or largest (1) size of all that have experts; what is not
 * finite is seen anyway. */
static void take_ends(const moe_plan *plan, const double *size, double sign, int64_t *ret,
                      int64_t *count) {
    moe_int_largest ends = {.most = EACH};
    for (int64_t t = 0; t < plan->n_tokens; t++)
        if (plan->token_offsets[t] != plan->token_offsets[t + 1] && isfinite(size[t]))
            moe_int_keep_largest(&ends, sign * size[t], t);
    for (int i = 0; i < ends.count; i++)
        ret[(*count)++] = ends.at[i];
}

moe_status moe_int_odd_tokens(const moe_plan *plan, const moe_tensors *seen,
                              int64_t ret[MOE_INT_ODD], int64_t *ret_count) {
    static const moe_tensor_id ids[] = {MOE_T_O, MOE_T_DX};
    const int64_t T = plan->n_tokens;
    double *size = malloc(((size_t)T + 1) * sizeof *size);
    *ret_count = 0;
    if (!size)
        return MOE_E_NOMEM;
    for (int i = 0; i < 2; i++) {
        const moe_tensor *t = &seen->t[ids[i]];
        if (!t->data || t->ndim != 2 || t->shape[0] != T)
            continue;
#pragma omp parallel for schedule(static) if (T * t->shape[1] >= MANY)
        for (int64_t k = 0; k < T; k++)
            size[k] = moe_int_row_square(t, k, t->shape[1]);
        take_ends(plan, size, -1, ret, ret_count);
        take_ends(plan, size, 1, ret, ret_count);
    }
    free(size);
    return MOE_OK;
}
