/* The router's gradients at large shapes. dS of every token would need every expert in full, so the
 * subject's own dS is taken (its rows are judged on the sampled tokens) and only what follows it is
 * checked, exactly: through score and renormalisation to dz, then dW_r[e] = sum_t dz[t][e] x_t. */
#include "check/check_int.h"

#include <stdlib.h>

enum { ROUTER_EXPERTS = 8 };

static moe_status logit_gradients(const moe_problem *problem, const moe_int_routing *routing,
                                  const moe_tensor *dS, double *ret) {
    int64_t pairs = routing->plan->n_pairs;
    double *ds = malloc((size_t)(pairs + 1) * sizeof *ds);
    if (!ds)
        return MOE_E_NOMEM;
    moe_convert(ds, MOE_F64, dS->data, dS->dtype, (size_t)pairs);
    moe_status s = moe_route_backward(&problem->layer, routing->logits, routing->plan, ds, ret);
    free(ds);
    return s;
}

/* Row i of the parts is expert experts[i]. */
static void add_token(const moe_problem *problem, const double *dz, const double *x,
                      const int64_t *experts, int64_t n, double *dw, double *db) {
    int64_t d = problem->layer.d;
    for (int64_t i = 0; i < n; i++) {
        double g = dz[experts[i]];
        for (int64_t c = 0; c < d; c++)
            dw[i * d + c] += g * x[c];
        if (db)
            db[i] += g;
    }
}

static moe_status sum_tokens(const moe_problem *problem, const double *dz, const int64_t *experts,
                             int64_t n, moe_int_truth *t) {
    int64_t d = problem->layer.d, outputs = problem->layer.E + problem->layer.n_zero;
    const moe_tensor *X = &problem->in.t[MOE_T_X];
    double *x = malloc((size_t)d * sizeof *x);
    if (!x)
        return MOE_E_NOMEM;
    for (int64_t row = 0; row < problem->T; row++) {
        moe_convert(x, MOE_F64,
                    (const char *)X->data + (size_t)(row * d) * moe_dtype_size(X->dtype), X->dtype,
                    (size_t)d);
        add_token(problem, dz + row * outputs, x, experts, n, t->part[MOE_T_DW_R].want.data,
                  t->part[MOE_T_DB_R].want.data);
    }
    free(x);
    return MOE_OK;
}

moe_status moe_int_sample_router(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_tensor *dS, moe_int_truth *t) {
    int64_t experts[ROUTER_EXPERTS], outputs = problem->layer.E + problem->layer.n_zero;
    int64_t n = moe_int_sample_experts(problem, routing->plan, ROUTER_EXPERTS, experts);
    moe_int_part *dw = &t->part[MOE_T_DW_R], *db = &t->part[MOE_T_DB_R];
    double *dz = malloc((size_t)(problem->T * outputs) * sizeof *dz);
    moe_status s = dz ? logit_gradients(problem, routing, dS, dz) : MOE_E_NOMEM;
    if (!s)
        s = moe_int_part_alloc(MOE_T_DW_R, n, problem->layer.d, false, dw);
    if (!s && problem->layer.router.bias)
        s = moe_int_part_alloc(MOE_T_DB_R, n, 1, false, db);
    for (int64_t i = 0; !s && i < n; i++) {
        dw->base[i] = experts[i] * problem->layer.d;
        dw->expert[i] = experts[i];
        if (!db->base)
            continue;
        db->base[i] = experts[i];
        db->expert[i] = experts[i];
    }
    if (!s)
        s = sum_tokens(problem, dz, experts, n, t);
    free(dz);
    return s;
}
