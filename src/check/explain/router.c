/* The router's backward pass under a change: the logits' gradient, dW_r and db_r. */
#include "check/explain/scene.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

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

/* One token, from the gradients dr of its raw weights. */
static void wrong_slopes(const moe_int_change *change, const moe_plan *raw, int64_t t,
                         const double *dr, double *dz) {
    double dot = 0;
    for (int64_t k = raw->token_offsets[t]; k < raw->token_offsets[t + 1]; k++)
        dot += raw->weight[raw->pair_of_token[k]] * dr[raw->pair_of_token[k]];
    for (int64_t k = raw->token_offsets[t]; k < raw->token_offsets[t + 1]; k++) {
        int64_t p = raw->pair_of_token[k];
        double w = raw->weight[p], slope = 1;
        if (change->slope == MOE_INT_SLOPE_VALUE)
            slope = w;
        if (change->slope == MOE_INT_SLOPE_DIAGONAL)
            slope = w * (1 - w);
        dz[moe_int_plan_expert_of(raw, p)] =
            change->slope == MOE_INT_SLOPE_CHOSEN ? w * (dr[p] - dot) : slope * dr[p];
    }
}

/* From the weights' gradients: through scale and renormalisation as it should be, then by a wrong
 * slope. */
static moe_status through_wrong_score(const moe_int_change *change, const double *logits,
                                      const moe_plan *plan, double *d_weight, double *ret) {
    const moe_router_desc *r = &change->back.router;
    moe_layer_desc desc = change->back;
    moe_plan *raw = NULL;
    desc.router.renorm = 0;
    desc.router.scale = 1;
    moe_status status = moe_plan_copy(plan, &raw);
    if (!status)
        status = moe_route_weigh(&desc, logits, raw);
    for (int64_t t = 0; !status && t < plan->n_tokens; t++) {
        double norm = r->renorm_eps, dot = 0;
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            int64_t p = plan->pair_of_token[k];
            norm += raw->weight[p];
            d_weight[p] *= r->scale;
            dot += d_weight[p] * raw->weight[p];
        }
        for (int64_t k = plan->token_offsets[t]; r->renorm && k < plan->token_offsets[t + 1]; k++)
            d_weight[plan->pair_of_token[k]] =
                d_weight[plan->pair_of_token[k]] / norm - dot / (norm * norm);
        double *dz = ret + t * plan->n_experts;
        memset(dz, 0, (size_t)plan->n_experts * sizeof *dz);
        wrong_slopes(change, raw, t, d_weight, dz);
    }
    moe_plan_destroy(&raw);
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
    if (!status && change->slope == MOE_INT_SLOPE_RIGHT)
        status = moe_route_backward(&back, logits, plan, d_weight, ret);
    else if (!status)
        status = through_wrong_score(change, logits, plan, d_weight, ret);
    const int64_t count = change->dz_type == MOE_F64 ? 0 : plan->n_tokens * plan->n_experts;
    for (int64_t i = 0; !status && i < count; i++)
        ret[i] = moe_round_to((float)ret[i], change->dz_type);
    free(d_weight);
    return status;
}

/* Group i is expert i of the scene's: sums over all tokens. */
static void sum_tokens(const moe_int_scene *s, const double *dz, int64_t tokens, double *x,
                       moe_int_variant *ret) {
    const moe_problem *problem = s->evidence->problem;
    int64_t d = problem->layer.d, R = problem->layer.E + problem->layer.n_zero;
    for (int64_t t = 0; t < tokens; t++) {
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
    double *dz = calloc((size_t)(problem->T * plan->n_experts), sizeof *dz);
    double *dS = moe_int_doubles(given, 0, plan->n_pairs);
    double *x = malloc((size_t)problem->layer.d * sizeof *x);
    moe_status status = dz && dS && x ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = moe_int_changed_dz(change, change->logits, plan, dS, dz);
    if (!status)
        sum_tokens(s, dz, problem->T - change->tokens_dropped, x, ret);
    free(dz);
    free(dS);
    free(x);
    return status;
}
