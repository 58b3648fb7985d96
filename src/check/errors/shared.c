/* Errors of the shared expert. The oracle does not keep its stages, so it runs once more as what it
 * is: one routed expert that sees every token, with sigmoid(x . w_gate), or 1, as its weight. */
#include "check/errors/errors.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The shared expert as a layer of one expert. */
static moe_layer_desc as_layer(const moe_layer_desc *desc) {
    moe_layer_desc one = moe_shared_desc(desc);
    one.n = desc->n_shared;
    one.E = one.K = 1;
    one.n_zero = one.n_shared = 0;
    one.shared_gate = one.expert_bias = 0;
    one.glu_layout = MOE_GLU_CONCAT;
    moe_layer_desc plain;
    moe_layer_desc_init(&plain);
    one.router = plain.router;
    return one;
}

static moe_tensor as_expert(const moe_tensor *t) {
    return (moe_tensor){
        .data = t->data, .dtype = t->dtype, .ndim = 3, .shape = {1, t->shape[0], t->shape[1]}};
}

/* Weights g_t and their relative variances. */
static moe_status gate_weights(const moe_int_error_run *k, double *g, double *vg) {
    int64_t d = k->desc->d;
    double *w = NULL, ww = 0;
    if (k->desc->shared_gate) {
        w = moe_int_doubles(&k->in->t[MOE_T_W_GATE_SHARED], 0, d);
        if (!w)
            return MOE_E_NOMEM;
        ww = moe_int_norm2(w, d);
    }
    for (int64_t t = 0; t < k->T; t++) {
        double z = 0;
        const double *x = k->X + t * d;
        for (int64_t i = 0; w && i < d; i++)
            z += x[i] * w[i];
        g[t] = w ? 1 / (1 + exp(-z)) : 1;
        double stored =
            moe_int_at(&k->rounding, MOE_POINT_GATE, 1 + z * z * (1 - g[t]) * (1 - g[t]));
        double absolute = 2 * k->rounding.sum / fmax(g[t] * g[t], DBL_MIN); /* unit.c */
        vg[t] = w ? moe_int_dot_errors(&k->rounding, (double)d, k->xx[t] * ww, z) +
                        k->rounding.router + absolute + stored
                  : 0;
    }
    free(w);
    return MOE_OK;
}

/* dg = <dO, Y>, dz = dg g (1 - g): dw_gate = sum dz x, dX += dz w_gate. 1 - g errs by the roundoff
 * of g. */
static moe_status gate_errors(const moe_int_error_run *k, const double *g, const double *vg,
                              const double *dS, const double *vdS) {
    int64_t d = k->desc->d;
    double *w = moe_int_doubles(&k->in->t[MOE_T_W_GATE_SHARED], 0, d);
    double *vdw = k->v->t[MOE_T_DW_GATE_SHARED].data, *vdx = k->v->t[MOE_T_DX].data;
    if (!w)
        return MOE_E_NOMEM;
    double ww = moe_int_norm2(w, d);
    for (int64_t t = 0; t < k->T; t++) {
        double rest = moe_int_at(&k->rounding, MOE_POINT_GATE, 1); /* 1 - g of a stored g */
        double z2 = g[t] > 0 && g[t] < 1 ? rest * pow(log(g[t] / (1 - g[t])), 2) : 0;
        double slope = g[t] * (1 - g[t]), dz2 = slope * slope * dS[t] * dS[t];
        double v = slope * slope * (vdS[t] + moe_int_stored(&k->rounding, dS[t])) +
                   dz2 * (2 * vg[t] + z2 + moe_int_at(&k->rounding, MOE_POINT_GATE, 1)) +
                   (k->rounding.router + rest) * g[t] * g[t] * dS[t] * dS[t];
        double added = moe_int_adding(&k->rounding, (double)k->T) * dz2;
        for (int64_t i = 0; i < d; i++) {
            double x = k->X[t * d + i];
            vdw[i] += (v + added) * x * x;
            vdx[t * d + i] += v * w[i] * w[i];
        }
        k->rows->common_dx[t] += v * ww * v * ww;
    }
    free(w);
    return MOE_OK;
}

static moe_status add_to_tokens(const moe_int_error_run *k, const moe_reference_result *one,
                                const moe_int_error_ffn *f) {
    int64_t d = k->desc->d;
    double added = 2 * k->rounding.sum;
    double added_o = added + moe_int_at(&k->rounding, MOE_POINT_ADD_O, 1);
    moe_status status = MOE_OK;
    const double *Y = one->out.t[MOE_T_Y].data, *dXp = one->out.t[MOE_T_DXP].data;
    for (int64_t t = 0; t < k->T; t++) {
        double stored = f->weight[t] == 1 ? 0 : moe_int_at(&k->rounding, MOE_POINT_SY, 1);
        moe_int_add_stage(&k->rounding, (double *)k->v->t[MOE_T_O].data + t * d, f->weight[t],
                          f->vY + t * d, Y + t * d, f->vweight[t] + stored + added_o, d);
        moe_int_add_common(&k->rows->common_o[t], f->weight[t] * f->weight[t] * f->vweight[t],
                           Y + t * d, d);
        if (!k->dO)
            continue;
        moe_int_add_common(&k->rows->common_dx[t], f->vweight[t], dXp + t * d, d);
        moe_int_add_stage(&k->rounding, (double *)k->v->t[MOE_T_DX].data + t * d, 1,
                          f->vdXp + t * d, dXp + t * d, added, d);
        for (int64_t col = 0; !status && col < f->hw; col++) {
            double jump = f->jump[t * f->hw + col];
            if (jump == 0)
                continue;
            moe_int_kink dX = {MOE_T_DX, t, &k->in->t[MOE_T_W1_SHARED], col, jump};
            moe_int_kink dW1 = {MOE_T_DW1_SHARED, col, &k->in->t[MOE_T_X], t, jump};
            status = moe_int_add_kink(k, &dX);
            if (!status)
                status = moe_int_add_kink(k, &dW1);
        }
    }
    return status;
}

/* Errors of the feed-forward over the stages of `one`, added to the layer's. */
static moe_status ffn_errors(moe_int_error_run *k, const moe_layer_desc *desc,
                             const moe_reference_result *one, const double *g, const double *vg) {
    const moe_tensor *out = one->out.t;
    int64_t T = k->T, d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    int64_t sizes[] = {T * hw, T * n, T * d, T, T * hw, T * d, T * hw};
    double *v[7];
    bool complete = true;
    for (int i = 0; i < 7; i++) {
        v[i] = calloc((size_t)sizes[i], sizeof *v[i]);
        complete = complete && v[i];
    }
    const double *w1 = moe_int_error_weight(&k->in->t[MOE_T_W1_SHARED], 0, hw * d, &k->weights[0]);
    const double *w2 = moe_int_error_weight(&k->in->t[MOE_T_W2_SHARED], 0, d * n, &k->weights[1]);
    moe_int_error_ffn f = {.desc = desc,
                           .rounding = &k->rounding,
                           .layout = MOE_GLU_CONCAT,
                           .n = n,
                           .hw = hw,
                           .rows = T,
                           .threads = k->threads,
                           .raw = k->X,
                           .x = k->X,
                           .dy = k->dO,
                           .weight = g,
                           .vweight = vg,
                           .W1 = w1,
                           .W2 = w2,
                           .H = out[MOE_T_H].data,
                           .A = out[MOE_T_A].data,
                           .Y = out[MOE_T_Y].data,
                           .dH = out[MOE_T_DH].data,
                           .dXp = out[MOE_T_DXP].data,
                           .vH = v[0],
                           .vA = v[1],
                           .vY = v[2],
                           .vdS = v[3],
                           .vdH = v[4],
                           .vdXp = v[5],
                           .jump = v[6],
                           .vdW1 = k->v->t[MOE_T_DW1_SHARED].data,
                           .vdW2 = k->v->t[MOE_T_DW2_SHARED].data,
                           .squares = k->squares};
    moe_status status = complete && w1 && w2 ? moe_int_ffn_errors(&f) : MOE_E_NOMEM;
    if (!status)
        status = add_to_tokens(k, one, &f);
    if (!status && k->desc->shared_gate && k->dO)
        status = gate_errors(k, g, vg, out[MOE_T_DS].data, f.vdS);
    for (int i = 0; i < 7; i++)
        free(v[i]);
    return status;
}

static moe_status run_alone(const moe_int_error_run *k, const moe_layer_desc *desc, const double *g,
                            moe_reference_result **ret) {
    moe_tensors in = {0};
    in.t[MOE_T_X] = k->in->t[MOE_T_X];
    in.t[MOE_T_DO] = k->in->t[MOE_T_DO];
    in.t[MOE_T_W1] = as_expert(&k->in->t[MOE_T_W1_SHARED]);
    in.t[MOE_T_W2] = as_expert(&k->in->t[MOE_T_W2_SHARED]);
    int32_t *token = malloc((size_t)k->T * sizeof *token);
    int32_t *expert = calloc((size_t)k->T, sizeof *expert);
    moe_plan *plan = NULL;
    moe_status status = token && expert ? MOE_OK : MOE_E_NOMEM;
    for (int64_t t = 0; !status && t < k->T; t++)
        token[t] = (int32_t)t;
    if (!status)
        status = moe_plan_create(k->T, 1, k->T, token, expert, g, NULL, &plan);
    moe_reference_params params = {.tokens = k->T,
                                   .precision = MOE_F64,
                                   .threads = k->threads,
                                   .plan = plan,
                                   .plan_given = 1,
                                   .skip_weight_gradients = 1};
    if (!status)
        status = moe_reference_run(desc, &in, &params, NULL, ret);
    moe_plan_destroy(&plan);
    free(token);
    free(expert);
    return status;
}

moe_status moe_int_shared_errors(moe_int_error_run *k) {
    moe_layer_desc desc = as_layer(k->desc);
    moe_reference_result *one = NULL;
    double *g = malloc((size_t)k->T * sizeof *g), *vg = malloc((size_t)k->T * sizeof *vg);
    moe_status status = g && vg ? gate_weights(k, g, vg) : MOE_E_NOMEM;
    if (!status)
        status = run_alone(k, &desc, g, &one);
    if (!status)
        status = ffn_errors(k, &desc, one, g, vg);
    moe_reference_result_destroy(&one);
    free(g);
    free(vg);
    return status;
}
