/* The router's gradients at large shapes. dS of every token would need every expert in full, so the
 * subject's own dS is taken (its rows are judged on the sampled tokens) and only what follows it is
 * checked, exactly: through score and renormalisation to dz, then dW_r[e] = sum_t dz[t][e] x_t. */
#include "check/truth/truth.h"

#include <stdlib.h>
#include <string.h>

enum { ROUTER_EXPERTS = 8, MANY = 1 << 20 /* elements: worth a team of threads */ };

/* The routing in force, with the given dS, as the result of an oracle. */
typedef struct router_run {
    moe_reference_result oracle;
    moe_tensors v;
    moe_int_error_run errors;
    double *dz, *vdz; /* [T][R] */
} router_run;

static void free_run(router_run *k) {
    moe_tensor_destroy(&k->oracle.out.t[MOE_T_DS]);
    moe_tensors_destroy(&k->v);
    free(k->errors.xx);
    free(k->errors.vweight);
    free(k->dz);
    free(k->vdz);
}

static moe_status make_run(const moe_problem *problem, const moe_int_routing *routing,
                           const moe_tensor *dS, const moe_int_rounding *rounding, router_run *k) {
    const moe_plan *plan = routing->plan;
    int64_t T = problem->T, R = plan->n_experts, pairs = plan->n_pairs;
    size_t count = (size_t)(T * R);
    memset(k, 0, sizeof *k);
    k->oracle.plan = routing->plan;
    k->oracle.out.t[MOE_T_LOGITS] = (moe_tensor){routing->logits, MOE_F64, 2, {T, R}};
    k->oracle.out.t[MOE_T_S] = (moe_tensor){plan->weight, MOE_F64, 1, {pairs}};
    k->errors = (moe_int_error_run){.desc = &problem->layer,
                                    .in = &problem->in,
                                    .rounding = *rounding,
                                    .oracle = &k->oracle,
                                    .v = &k->v,
                                    .T = T};
    moe_status status = moe_tensor_cast(dS, MOE_F64, &k->oracle.out.t[MOE_T_DS]);
    if (!status)
        status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){T, R}, &k->v.t[MOE_T_LOGITS]);
    if (!status)
        status = moe_tensor_alloc(MOE_F64, 1, &pairs, &k->v.t[MOE_T_S]);
    if (!status)
        status = moe_tensor_alloc(MOE_F64, 1, &pairs, &k->v.t[MOE_T_DS]);
    k->errors.xx = malloc((size_t)T * sizeof(double));
    k->errors.vweight = malloc(((size_t)pairs + 1) * sizeof(double));
    k->dz = malloc(count * sizeof *k->dz);
    k->vdz = malloc(count * sizeof *k->vdz);
    if (status || !k->errors.xx || !k->errors.vweight || !k->dz || !k->vdz)
        return MOE_E_NOMEM;
#pragma omp parallel for schedule(static) if (T * problem->layer.d >= MANY)
    for (int64_t t = 0; t < T; t++)
        k->errors.xx[t] = moe_int_row_square(&problem->in.t[MOE_T_X], t, problem->layer.d);
    status = moe_int_weight_errors(&k->errors);
    return status ? status : moe_int_dz_errors(&k->errors, k->dz, k->vdz);
}

/* dz of token t and expert i of the parts' lists, and its variance with what adding it adds. */
static void term(const moe_problem *problem, const router_run *k, const moe_int_part *part,
                 int64_t t, int64_t i, double *ret_dz, double *ret_v) {
    const int64_t at = t * k->oracle.plan->n_experts + part->expert[i];
    const double added = moe_int_adding(&k->errors.rounding, (double)problem->T);
    *ret_dz = k->dz[at];
    *ret_v = k->vdz[at] + added * *ret_dz * *ret_dz;
}

/* Columns c ... c + n, n <= COLUMNS, of dW_r: a sum over all tokens in their order. */
enum { COLUMNS = 128 };
static void sum_columns(const moe_problem *problem, const router_run *k, int64_t c, int64_t n,
                        moe_int_part *dw) {
    const int64_t d = problem->layer.d;
    double x[COLUMNS], dz, v;
    for (int64_t t = 0; t < problem->T; t++) {
        moe_int_load(&problem->in.t[MOE_T_X], t * d + c, n, x);
        for (int64_t i = 0; i < dw->layout.groups; i++) {
            double *w = (double *)dw->want.data + i * d + c;
            double *vw = (double *)dw->variance.data + i * d + c;
            term(problem, k, dw, t, i, &dz, &v);
            for (int64_t j = 0; j < n; j++) {
                w[j] += dz * x[j];
                vw[j] += v * x[j] * x[j];
            }
        }
    }
}

/* Group i of the parts is expert i of their lists: sums over all tokens. */
static void sum_tokens(const moe_problem *problem, const router_run *k, moe_int_part *dw,
                       moe_int_part *db) {
    const int64_t d = problem->layer.d;
    double *b = db->want.data, *vb = db->variance.data, dz, v;
#pragma omp parallel for schedule(static) if (problem->T * d >= MANY)
    for (int64_t c = 0; c < d; c += COLUMNS)
        sum_columns(problem, k, c, d - c < COLUMNS ? d - c : COLUMNS, dw);
    for (int64_t t = 0; b && t < problem->T; t++)
        for (int64_t i = 0; i < db->layout.groups; i++) {
            term(problem, k, db, t, i, &dz, &v);
            b[i] += dz;
            vb[i] += v;
        }
}

moe_status moe_int_sample_router(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_tensor *dS, const moe_int_rounding *rounding,
                                 moe_int_truth *t) {
    int64_t experts[ROUTER_EXPERTS], d = problem->layer.d;
    int64_t n = moe_int_sample_experts(problem, routing->plan, ROUTER_EXPERTS, experts);
    moe_int_part *dw = &t->part[MOE_T_DW_R], *db = &t->part[MOE_T_DB_R];
    router_run k;
    moe_status status = make_run(problem, routing, dS, rounding, &k);
    if (!status)
        status = moe_int_part_alloc(MOE_T_DW_R, n, d, true, dw);
    if (!status && problem->layer.router.bias)
        status = moe_int_part_alloc(MOE_T_DB_R, n, 1, true, db);
    for (int64_t i = 0; !status && i < n; i++) {
        dw->base[i] = experts[i] * d;
        dw->expert[i] = experts[i];
        if (!db->base)
            continue;
        db->base[i] = experts[i];
        db->expert[i] = experts[i];
    }
    if (!status)
        sum_tokens(problem, &k, dw, db);
    free_run(&k);
    return status;
}
