/* Errors of the router: of the combine weights, and of the gradient that comes back through them.
 * The router computes in fp32 or better, so beside stored bf16 and fp16 only dS counts. */
#include "check/errors.h"

#include "reference/loops.h"

#include <stdlib.h>

/* V of every logit: adding d terms. [T][R] */
static moe_status logit_errors(const moe_int_error_run *k, int64_t R) {
    int64_t d = k->desc->d;
    double *w = moe_int_doubles(&k->in->t[MOE_T_W_R], 0, R * d);
    double *ww = w ? moe_int_row_squares(w, R, d) : NULL;
    double *xx = moe_int_row_squares(k->X, k->T, d), *v = k->v->t[MOE_T_LOGITS].data;
    bool complete = ww && xx;
    for (int64_t i = 0; complete && i < k->T * R; i++)
        v[i] = k->rounding.sum * xx[i / R] * ww[i % R];
    free(w);
    free(ww);
    free(xx);
    return complete ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_weight_errors(moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    const double *S = k->oracle->out.t[MOE_T_S].data;
    int64_t R = plan->n_experts;
    moe_status s = logit_errors(k, R);
    const double *vz = k->v->t[MOE_T_LOGITS].data;
    for (int64_t e = 0; !s && e < R; e++) {
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            /* |d log s / d z| <= 1 for every score, for z_e and for the sum of the others alike */
            k->vweight[p] = 2 * vz[plan->token[p] * R + e] + k->rounding.router;
            ((double *)k->v->t[MOE_T_S].data)[p] = S[p] * S[p] * k->vweight[p];
        }
    }
    return s;
}

/* 1 for the slot-th pair of every token, 0 for all others. */
static void pick_slot(const moe_plan *plan, int64_t slot, double *ret) {
    for (int64_t p = 0; p < plan->n_pairs; p++)
        ret[p] = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        if (plan->token_offsets[t] + slot < plan->token_offsets[t + 1])
            ret[plan->pair_of_token[plan->token_offsets[t] + slot]] = 1;
}

/* What pair p of token t adds to V of the token's dz[R], given the slopes of dz in its dS. The term
 * slope * dS errs by dS, by its storing and by the weights in the slope. And the slope is itself a
 * difference of terms of the size of the weight (zero for K = 1 with renormalised weights). */
static void add_pair(const moe_int_error_run *k, int64_t t, int64_t p, const double *slope,
                     double *ret) {
    const moe_plan *plan = k->oracle->plan;
    const double *dS = k->oracle->out.t[MOE_T_DS].data, *v = k->v->t[MOE_T_DS].data;
    double dS2 = dS[p] * dS[p], term = v[p] + dS2 * (1 + k->vweight[p]);
    for (int64_t e = 0; e < plan->n_experts; e++)
        ret[e] += slope[e] * slope[e] * term;
    double own = k->rounding.router * plan->weight[p] * plan->weight[p] * dS2;
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++)
        ret[moe_int_expert_of_row(plan, plan->pair_of_token[i])] += own;
}

/* V of dz [T][R]. dz is linear in dS: its slopes are the router's backward of unit vectors, one
 * pair of every token at a time. */
static moe_status dz_errors(const moe_int_error_run *k, const double *z, double *one, double *slope,
                            double *ret) {
    const moe_plan *plan = k->oracle->plan;
    int64_t R = plan->n_experts, slots = 0;
    moe_status s = MOE_OK;
    for (int64_t t = 0; t < k->T; t++) {
        int64_t n = plan->token_offsets[t + 1] - plan->token_offsets[t];
        slots = n > slots ? n : slots;
    }
    for (int64_t slot = 0; !s && slot < slots; slot++) {
        pick_slot(plan, slot, one);
        s = moe_route_backward(k->desc, z, plan, one, slope);
        for (int64_t t = 0; !s && t < k->T; t++) {
            int64_t i = plan->token_offsets[t] + slot;
            if (i < plan->token_offsets[t + 1])
                add_pair(k, t, plan->pair_of_token[i], slope + t * R, ret + t * R);
        }
    }
    return s;
}

/* dW_r = dz^T X, db_r = sum dz, dX += dz W_r. vdz is used up. */
static moe_status linear_stages(const moe_int_error_run *k, double *vdz, const double *dz) {
    int64_t d = k->desc->d, T = k->T, R = k->oracle->plan->n_experts;
    double *squares = malloc((size_t)(T * d) * sizeof *squares);
    double *dx = malloc((size_t)(T * d) * sizeof *dx);
    double *w = moe_int_doubles(&k->in->t[MOE_T_W_R], 0, R * d);
    double *v = k->v->t[MOE_T_DX].data, *vdb = k->v->t[MOE_T_DB_R].data;
    bool complete = squares && dx && w;
    if (complete) {
        for (int64_t i = 0; i < T * R; i++)
            vdz[i] += k->rounding.sum * (double)R * dz[i] * dz[i];
        moe_int_loop_square_f64(w, R * d, w);
        moe_int_loop_times_f64(vdz, T, R, w, d, k->threads, dx);
        for (int64_t i = 0; i < T * d; i++)
            v[i] += dx[i];
        for (int64_t i = 0; i < T * R; i++)
            vdz[i] += k->rounding.sum * (double)T * dz[i] * dz[i];
        moe_int_loop_square_f64(k->X, T * d, squares);
        moe_int_loop_outer_f64(vdz, T, R, squares, d, k->threads, k->v->t[MOE_T_DW_R].data);
        for (int64_t i = 0; vdb && i < T * R; i++)
            vdb[i % R] += vdz[i];
    }
    free(squares);
    free(dx);
    free(w);
    return complete ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_router_errors(const moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    const double *z = k->oracle->out.t[MOE_T_LOGITS].data;
    size_t count = (size_t)(k->T * plan->n_experts);
    double *one = malloc(((size_t)plan->n_pairs + 1) * sizeof *one);
    double *slope = malloc(count * sizeof *slope), *vdz = calloc(count, sizeof *vdz);
    moe_status s = one && slope && vdz ? MOE_OK : MOE_E_NOMEM;
    if (!s)
        s = dz_errors(k, z, one, slope, vdz);
    if (!s)
        s = moe_route_backward(k->desc, z, plan, k->oracle->out.t[MOE_T_DS].data, slope);
    if (!s)
        s = linear_stages(k, vdz, slope);
    free(one);
    free(slope);
    free(vdz);
    return s;
}
