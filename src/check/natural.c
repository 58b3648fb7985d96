/* Natural sizes of quantities that cancel.
 *
 * dS = <dO, y> (<dXp, x> with the weight on the input) is a sum of d products of random sign. A
 * single one may come out far smaller than its terms, and the error, which follows the terms, then
 * looks large beside it. The natural size of dS^2 is |dO|^2 |y|^2 / d (random signs); NMSE's
 * denominator is not let under a quarter of the sum of those, and no element may be off by more
 * than 0.02 |dO| |y| in bf16 (five roundoffs of the terms' norm; the same number of roundoffs in
 * fp16).
 *
 * Behind dS, a logit's gradient is a difference: dz_k = s_k (dS_k - sum_j s_j dS_j) and its kin,
 * zero for K = 1 with renormalised weights. Its terms are s_k dS_k, so dW_r's natural size is sum_t
 * |x_t|^2 sum_k (s_k dS_k)^2. */
#include "check/check_int.h"

#include <stdlib.h>
#include <string.h>

/* In bf16 roundoffs of |dO| |y|: 0.02 / 2^-8. Origin: correct kernels, see gates.c. */
#define DS_LIMIT_ROUNDOFFS (0.02 * 256)

/* sum of squares of row `row` of a [.][d] tensor of any floating type */
static double row_squares(const moe_tensor *t, int64_t row, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) {
        double v = moe_load(t->data, t->dtype, (size_t)(row * d + i));
        sum += v * v;
    }
    return isfinite(sum) ? sum : 0;
}

/* |dO_t|^2 |y_p|^2, where a zero expert's y is x; |dXp|^2 |x|^2 with the weight on the input. */
static double pair_square(const moe_layer_desc *desc, const moe_int_truth *truth, int64_t p) {
    const moe_plan *plan = truth->oracle->plan;
    const moe_tensor *X = &truth->in.t[MOE_T_X], *dO = &truth->in.t[MOE_T_DO];
    int64_t t = plan->token[p], d = desc->d;
    if (p >= plan->offsets[desc->E])
        return row_squares(dO, t, d) * row_squares(X, t, d);
    if (desc->router.weight_on == MOE_WEIGHT_ON_INPUT)
        return row_squares(&truth->oracle->out.t[MOE_T_DXP], p, d) * row_squares(X, t, d);
    return row_squares(dO, t, d) * row_squares(&truth->oracle->out.t[MOE_T_Y], p, d);
}

static void add_router_terms(const moe_layer_desc *desc, const moe_int_truth *truth, int64_t p,
                             moe_int_natural *n) {
    const moe_plan *plan = truth->oracle->plan;
    double ds = ((const double *)truth->oracle->out.t[MOE_T_DS].data)[p];
    double term = plan->weight[p] * ds * plan->weight[p] * ds / 4;
    if (!isfinite(term))
        return;
    n->db_r += term;
    n->dW_r += term * row_squares(&truth->in.t[MOE_T_X], plan->token[p], desc->d);
}

moe_status moe_int_natural_make(const moe_layer_desc *desc, const moe_int_truth *truth,
                                moe_dtype arithmetic, moe_int_natural *ret) {
    moe_int_natural n = {0};
    if (!truth->oracle->out.t[MOE_T_DS].data) {
        *ret = n;
        return MOE_OK;
    }
    int64_t pairs = truth->oracle->plan->n_pairs;
    bool on_output = desc->router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    bool low = arithmetic == MOE_BF16 || arithmetic == MOE_F16;
    if (low && on_output) {
        n.dS_limit = malloc((size_t)(pairs + 1) * sizeof *n.dS_limit);
        if (!n.dS_limit)
            return MOE_E_NOMEM;
    }
    for (int64_t p = 0; p < pairs; p++) {
        add_router_terms(desc, truth, p, &n);
        double square = pair_square(desc, truth, p);
        n.dS += square / (double)desc->d / 4;
        if (n.dS_limit)
            n.dS_limit[p] = DS_LIMIT_ROUNDOFFS * moe_dtype_roundoff(arithmetic) * sqrt(square);
    }
    *ret = n;
    return MOE_OK;
}

void moe_int_natural_free(moe_int_natural *n) {
    free(n->dS_limit);
    memset(n, 0, sizeof *n);
}
