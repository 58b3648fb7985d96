/* The router's backward pass under a change: the logits' gradient, dW_r and db_r. */
#include "check/explain/scene.h"

#include <stdlib.h>

/* ret[p] = d_weight[p] * (weight / weight without renormalisation): the sum taken as a constant. */
static moe_status past_the_norm(const moe_int_change *change, const double *logits,
                                const moe_plan *plan, double *d_weight) {
    moe_layer_desc raw = change->desc;
    moe_plan *unnormed = NULL;
    raw.router.renorm = 0;
    moe_status status = moe_plan_copy(plan, &unnormed);
    if (!status)
        status = moe_route_weigh(&raw, logits, unnormed);
    for (int64_t p = 0; !status && p < plan->n_pairs; p++)
        if (unnormed->weight[p] != 0)
            d_weight[p] *= plan->weight[p] / unnormed->weight[p];
    moe_plan_destroy(&unnormed);
    return status;
}

moe_status moe_int_changed_dz(const moe_int_change *change, const double *logits,
                              const moe_plan *plan, const double *dS, double *ret) {
    moe_layer_desc back = change->back;
    double *d_weight = malloc(((size_t)plan->n_pairs + 1) * sizeof *d_weight);
    if (!d_weight)
        return MOE_E_NOMEM;
    for (int64_t p = 0; p < plan->n_pairs; p++)
        d_weight[p] = dS[p];
    moe_status status = MOE_OK;
    if (change->terms & MOE_INT_NORM_CONSTANT) {
        status = past_the_norm(change, logits, plan, d_weight);
        back.router.renorm = 0;
    }
    if (!status)
        status = moe_route_backward(&back, logits, plan, d_weight, ret);
    free(d_weight);
    return status;
}

/* Group i is expert i of the scene's: sums over all tokens. */
static void sum_tokens(const moe_int_scene *s, const double *dz, double *x, moe_int_variant *ret) {
    const moe_problem *problem = s->evidence->problem;
    int64_t d = problem->layer.d, R = problem->layer.E + problem->layer.n_zero;
    for (int64_t t = 0; t < problem->T; t++) {
        moe_int_load(&problem->in.t[MOE_T_X], t * d, d, x);
        for (int64_t i = 0; i < s->n_experts; i++) {
            double g = dz[t * R + s->expert[i]];
            for (int64_t c = 0; c < d; c++)
                ret->value[MOE_T_DW_R][i * d + c] += g * x[c];
            if (ret->value[MOE_T_DB_R])
                ret->value[MOE_T_DB_R][i] += g;
        }
    }
}

moe_status moe_int_router_slices_make(const moe_int_scene *s, const moe_int_change *change,
                                      moe_int_variant *ret) {
    const moe_problem *problem = s->evidence->problem;
    const moe_tensor *given = &s->evidence->got.t[MOE_T_DS];
    const moe_plan *plan = change->plan;
    double *dz = malloc((size_t)(problem->T * plan->n_experts) * sizeof *dz);
    double *dS = moe_int_doubles(given, 0, plan->n_pairs);
    double *x = malloc((size_t)problem->layer.d * sizeof *x);
    moe_status status = dz && dS && x ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = moe_int_changed_dz(change, change->logits, plan, dS, dz);
    if (!status)
        sum_tokens(s, dz, x, ret);
    free(dz);
    free(dS);
    free(x);
    return status;
}
