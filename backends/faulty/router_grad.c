/* The router backward: from dS through scale, renormalisation and score to the logits, then dW_r,
 * db_r and its part of dX. */
#include "faulty.h"

#include <stdlib.h>

static double norm_of(const fy_layer *l, int64_t t) {
    double sum = l->desc.router.renorm_eps;
    for (int64_t k = 0; k < l->desc.K; k++)
        sum += l->router.raw[t * l->desc.K + k];
    return sum;
}

/* dr[k], of the raw scores of token t. With w = c r / Z, Z = eps + sum r:
 * dr_k = c (g_k / Z - sum_j g_j r_j / Z^2). */
static void through_weights(const fy_layer *l, int64_t t, double *dr) {
    const moe_router_desc *r = &l->desc.router;
    const int64_t K = l->desc.K;
    const double *raw = l->router.raw + t * K, scale = FAULT(l, dz_without_scale) ? 1 : r->scale;
    const float *dS = fy_out(l, MOE_T_DS);
    double dot = 0;
    for (int64_t k = 0; k < K; k++) {
        const int64_t p = l->router.row[t * K + k];
        dr[k] = p >= 0 ? scale * dS[p] : 0;
        dr[k] *= FAULT(l, dz_scale_twice) ? scale : 1;
        dot += dr[k] * raw[k];
    }
    if (!r->renorm || FAULT(l, dz_renorm_missing))
        return;
    const double norm = norm_of(l, t);
    for (int64_t k = 0; k < K; k++)
        dr[k] = FAULT(l, dz_renorm_half) ? dr[k] / norm : dr[k] / norm - dot / (norm * norm);
}

static void through_score(const fy_layer *l, int64_t t, const double *dr, double *dz) {
    const int64_t K = l->desc.K;
    const int32_t *chosen = l->router.chosen + t * K;
    const double *raw = l->router.raw + t * K;
    double dot = 0;
    for (int64_t k = 0; k < K; k++)
        dot += raw[k] * dr[k];
    for (int64_t k = 0; k < K; k++) {
        double *at = &dz[chosen[k]];
        if (FAULT(l, dz_without_score))
            *at += dr[k];
        else if (l->desc.router.score == MOE_SCORE_SIGMOID)
            *at += FAULT(l, dz_sigmoid_slope) ? dr[k] * raw[k] : dr[k] * raw[k] * (1 - raw[k]);
        else if (FAULT(l, dz_diagonal))
            *at += raw[k] * (1 - raw[k]) * dr[k];
        else if (l->desc.router.score == MOE_SCORE_SOFTMAX_TOPK || FAULT(l, dz_chosen_only))
            *at += raw[k] * (dr[k] - dot);
        else
            *at += raw[k] * dr[k];
    }
    if (l->desc.router.score != MOE_SCORE_SOFTMAX || FAULT(l, dz_without_score) ||
        FAULT(l, dz_diagonal) || FAULT(l, dz_chosen_only))
        return;
    for (int64_t e = 0; e < l->R; e++) /* every logit, chosen or not */
        dz[e] -= fy_score(l, t, e) * dot;
}

static moe_status logits_gradient(fy_layer *l) {
    const int64_t count = l->T * l->R;
    if (!fy_routes_itself(&l->desc)) {
        const moe_tensor *s = &l->out.t[MOE_T_DS];
        const int64_t pairs = moe_tensor_count(s);
        double *dS = calloc(pairs ? (size_t)pairs : 1, sizeof *dS);
        if (!dS)
            return fy_no_memory(l);
        moe_convert(dS, MOE_F64, s->data, MOE_F32, (size_t)pairs);
        moe_status status = moe_route_backward(&l->desc, l->logits, l->own, dS, l->router.dz);
        free(dS);
        return status;
    }
    double *dr = calloc((size_t)l->desc.K, sizeof *dr);
    if (!dr)
        return fy_no_memory(l);
    for (int64_t i = 0; i < count; i++)
        l->router.dz[i] = 0;
    for (int64_t t = 0; t < l->T; t++) {
        through_weights(l, t, dr);
        through_score(l, t, dr, l->router.dz + t * l->R);
    }
    free(dr);
    return MOE_OK;
}

static void add_db_r(const fy_layer *l, const float *dz) {
    float *db = fy_out(l, MOE_T_DB_R);
    for (int64_t e = 0; db && e < l->R; e++) {
        double sum = 0;
        for (int64_t t = 0; t < l->T; t++)
            sum += dz[t * l->R + e];
        db[e] = FAULT(l, db_r_missing) ? 0 : (float)sum;
    }
    if (db)
        fy_store(l, db, l->R);
}

moe_status fy_route_backward(fy_layer *l) {
    const int64_t T = l->T, R = l->R, d = l->desc.d;
    float *dz = fy_floats(T * R), *turned = fy_floats(T * R), *dx = fy_floats(T * d);
    moe_status status = dz && turned && dx ? logits_gradient(l) : fy_no_memory(l);
    if (!status) {
        for (int64_t i = 0; i < T * R; i++)
            dz[i] = FAULT(l, dz_bf16) ? fy_bf16((float)l->router.dz[i]) : (float)l->router.dz[i];
        fy_transpose(dz, T, R, turned);
        fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));
        fy_store(l, fy_out(l, MOE_T_DW_R), R * d);
        add_db_r(l, dz);
        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), d, dx);
        float *sum = fy_out(l, MOE_T_DX);
        for (int64_t i = 0; !FAULT(l, dX_without_router) && i < T * d; i++)
            sum[i] += (FAULT(l, dX_router_twice) ? 2 : 1) * dx[i];
    }
    free(dz);
    free(turned);
    free(dx);
    return status;
}
