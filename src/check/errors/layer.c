/* Errors of the whole layer: every expert's feed-forward, then the sums over a token's experts. */
#include "check/errors/errors.h"
#include "check/errors/exact.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void moe_int_add_stage(const moe_int_rounding *r, double *v, double scale, const double *v_stage,
                       const double *stage, double relative, int64_t d) {
    for (int64_t i = 0; i < d; i++)
        v[i] += scale * scale *
                (v_stage[i] + moe_int_stored(r, stage[i]) + stage[i] * stage[i] * relative);
}

void moe_int_add_common(double *common, double v, const double *row, int64_t d) {
    const double whole = v > 0 ? v * moe_int_norm2(row, d) : 0;
    *common += isfinite(whole) ? whole * whole : 0;
}

void moe_int_blank(moe_tensor *t, int64_t first, int64_t count) {
    for (int64_t i = 0; t->data && i < count; i++)
        ((double *)t->data)[first + i] = NAN;
}

/* Element `first` of a float64 tensor, NULL where the layer does not have it. */
static double *at(const moe_tensor *t, int64_t first) {
    return t->data ? (double *)t->data + first : NULL;
}

static double *gather(const moe_int_error_run *k, const double *m, int64_t first, int64_t rows,
                      bool weighted) {
    const moe_plan *plan = k->oracle->plan;
    int64_t d = k->desc->d;
    double *out = malloc((size_t)(rows * d + 1) * sizeof *out);
    for (int64_t r = 0; out && r < rows; r++) {
        double scale = weighted ? plan->weight[first + r] : 1;
        for (int64_t i = 0; i < d; i++)
            out[r * d + i] = scale * m[plan->token[first + r] * d + i];
    }
    return out;
}

static void point_at_stages(const moe_int_error_run *k, int64_t e, moe_int_error_ffn *f) {
    const moe_tensor *out = k->oracle->out.t, *v = k->v->t;
    int64_t d = k->desc->d, n = f->n, hw = f->hw, first = k->oracle->plan->offsets[e];
    f->H = at(&out[MOE_T_H], first * hw);
    f->A = at(&out[MOE_T_A], first * n);
    f->Y = at(&out[MOE_T_Y], first * d);
    f->dH = at(&out[MOE_T_DH], first * hw);
    f->dXp = at(&out[MOE_T_DXP], first * d);
    f->vH = at(&v[MOE_T_H], first * hw);
    f->vA = at(&v[MOE_T_A], first * n);
    f->vY = at(&v[MOE_T_Y], first * d);
    f->vdS = at(&v[MOE_T_DS], first);
    f->vdH = at(&v[MOE_T_DH], first * hw);
    f->vdXp = at(&v[MOE_T_DXP], first * d);
    f->vdW1 = at(&v[MOE_T_DW1], e * hw * d);
    f->vdb1 = at(&v[MOE_T_DB1], e * hw);
    f->vdW2 = at(&v[MOE_T_DW2], e * d * n);
    f->vdb2 = at(&v[MOE_T_DB2], e * d);
    f->jump = k->jump + first * hw;
}

static moe_status expert_errors(moe_int_error_run *k, int64_t e) {
    const moe_plan *plan = k->oracle->plan;
    const moe_layer_desc *desc = k->desc;
    int64_t first = plan->offsets[e], rows = plan->offsets[e + 1] - first;
    int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    if (rows == 0)
        return MOE_OK;
    bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    double *raw = gather(k, k->X, first, rows, false), *x = gather(k, k->X, first, rows, on_input);
    double *dy = k->dO ? gather(k, k->dO, first, rows, false) : NULL;
    const double *w1 =
        moe_int_error_weight(&k->in->t[MOE_T_W1], e * hw * d, hw * d, &k->weights[0]);
    const double *w2 = moe_int_error_weight(&k->in->t[MOE_T_W2], e * d * n, d * n, &k->weights[1]);
    double *b2 = desc->expert_bias ? moe_int_doubles(&k->in->t[MOE_T_B2], e * d, d) : NULL;
    moe_int_error_ffn f = {.desc = desc,
                           .rounding = &k->rounding,
                           .layout = desc->glu_layout,
                           .n = n,
                           .hw = hw,
                           .rows = rows,
                           .threads = k->threads,
                           .on_input = on_input,
                           .raw = raw,
                           .x = x,
                           .dy = dy,
                           .weight = plan->weight + first,
                           .vweight = k->vweight + first,
                           .W1 = w1,
                           .W2 = w2,
                           .b2 = b2,
                           .squares = k->squares};
    bool complete = raw && x && w1 && w2 && (dy || !k->dO) && (b2 || !desc->expert_bias);
    point_at_stages(k, e, &f);
    moe_status status = complete ? moe_int_ffn_errors(&f) : MOE_E_NOMEM;
    free(raw);
    free(x);
    free(dy);
    free(b2);
    return status;
}

/* A zero expert stores nothing: only its weight errs, by `vs`. */
static void add_zero_expert(const moe_int_error_run *k, int64_t t, double w, double vs, double of_o,
                            double of_dx) {
    int64_t d = k->desc->d;
    moe_int_add_common(&k->rows->common_o[t], w * w * vs, k->X + t * d, d);
    if (k->dO)
        moe_int_add_common(&k->rows->common_dx[t], w * w * vs, k->dO + t * d, d);
    for (int64_t i = t * d; i < (t + 1) * d; i++) {
        *at(&k->v->t[MOE_T_O], i) += w * w * of_o * k->X[i] * k->X[i];
        if (k->dO)
            *at(&k->v->t[MOE_T_DX], i) += w * w * of_dx * k->dO[i] * k->dO[i];
    }
}

/* Where partial sums of dX are stored: the experts' as they are added (above), then with the shared
 * expert, with its gate's part and with the router's. */
static void store_gradient_parts(const moe_int_error_run *k, bool routed) {
    const moe_tensor *dX = &k->oracle->out.t[MOE_T_DX];
    double parts = (k->desc->n_shared ? 1 : 0) + (k->desc->shared_gate ? 1 : 0) + routed;
    parts = moe_int_at(&k->rounding, MOE_POINT_ADD_DX, parts);
    for (int64_t i = 0; parts > 0 && dX->data && i < k->T * k->desc->d; i++)
        *at(&k->v->t[MOE_T_DX], i) += parts * *at(dX, i) * *at(dX, i);
}

/* What storing w y adds, over its square. */
static double stored_output(const moe_int_error_run *k, double w, const double *y) {
    if (moe_int_at(&k->rounding, MOE_POINT_SY, 1) == 0)
        return 0;
    return moe_int_stored_share(&k->rounding, w, y, k->desc->d);
}

/* A pair's weight moves its rows of O and dX as a whole: where it is on the output, w Y, and dX~ by
 * way of dH; where it is on the input, all that comes after. */
static void add_common(const moe_int_error_run *k, int64_t t, int64_t p, double of_o,
                       double of_dx) {
    const moe_tensor *out = k->oracle->out.t;
    const int64_t d = k->desc->d;
    moe_int_add_common(&k->rows->common_o[t], of_o * of_o * k->vweight[p], at(&out[MOE_T_Y], p * d),
                       d);
    if (k->dO)
        moe_int_add_common(&k->rows->common_dx[t], of_dx * of_dx * k->vweight[p],
                           at(&out[MOE_T_DXP], p * d), d);
}

/* O_t = sum of w Y, dX_t = sum of dX~: stored stages, weights, and adding them up. */
static void sum_over_experts(const moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    const moe_tensor *out = k->oracle->out.t, *v = k->v->t;
    int64_t d = k->desc->d;
    bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    for (int64_t t = 0; t < k->T; t++) {
        int64_t from = plan->token_offsets[t], to = plan->token_offsets[t + 1];
        double partial = 0.5 * (double)(to - from);
        double added = moe_int_adding(&k->rounding, (double)(to - from + 2));
        double added_o = added + moe_int_at(&k->rounding, MOE_POINT_ADD_O, partial);
        double added_dx = added + moe_int_at(&k->rounding, MOE_POINT_ADD_DX, partial);
        for (int64_t i = from; i < to; i++) {
            int64_t p = plan->pair_of_token[i];
            double w = plan->weight[p], vs = k->vweight[p], stored = 0;
            if (w != 1 && !on_input && p < k->pairs)
                stored = stored_output(k, w, at(&out[MOE_T_Y], p * d));
            else if (w != 1 && p >= k->pairs)
                stored = stored_output(k, w, k->X + t * d);
            if (p >= k->pairs) {
                add_zero_expert(k, t, w, vs, vs + added_o + stored, vs + added_dx);
                continue;
            }
            add_common(k, t, p, on_input ? 1 : w, on_input ? w : 1);
            moe_int_add_stage(&k->rounding, at(&v[MOE_T_O], t * d), on_input ? 1 : w,
                              at(&v[MOE_T_Y], p * d), at(&out[MOE_T_Y], p * d),
                              added_o + stored + (on_input ? 0 : vs), d);
            if (k->dO)
                moe_int_add_stage(&k->rounding, at(&v[MOE_T_DX], t * d), on_input ? w : 1,
                                  at(&v[MOE_T_DXP], p * d), at(&out[MOE_T_DXP], p * d),
                                  added_dx + (on_input ? vs : 0), d);
        }
    }
}

/* dS of a zero expert is <dO, x>. */
static void zero_expert_gradients(const moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    int64_t d = k->desc->d;
    for (int64_t p = k->pairs; k->dO && p < plan->n_pairs; p++) {
        double sum = 0;
        for (int64_t i = plan->token[p] * d; i < (plan->token[p] + 1) * d; i++)
            sum += k->dO[i] * k->dO[i] * k->X[i] * k->X[i];
        *at(&k->v->t[MOE_T_DS], p) = moe_int_adding(&k->rounding, (double)d) * sum;
    }
}

moe_status moe_int_add_kink(const moe_int_error_run *k, const moe_int_kink *kink) {
    return k->oracle->out.t[kink->of].data ? moe_int_rows_add(k->rows, kink) : MOE_OK;
}

/* A kink at column `col` of pair row p decides one element of dH and everything that is summed from
 * it. dX and dW1 are judged on both sides; dS, which it moves but little, errs by that much more.
 */
static moe_status add_kink(const moe_int_error_run *k, int64_t e, int64_t p, int64_t col) {
    const moe_plan *plan = k->oracle->plan;
    moe_tensor *out = k->oracle->out.t;
    int64_t d = k->desc->d, hw = moe_h_width(k->desc, k->desc->n);
    bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    moe_int_blank(&out[MOE_T_DH], p * hw + col, 1);
    moe_int_blank(&out[MOE_T_DXP], p * d, d);
    moe_int_blank(&out[MOE_T_DB1], e * hw + col, 1);
    double step = (on_input ? plan->weight[p] : 1) * k->jump[p * hw + col];
    moe_int_kink dX = {MOE_T_DX, plan->token[p], &k->in->t[MOE_T_W1], e * hw + col, step};
    moe_int_kink dW1 = {MOE_T_DW1, e * hw + col, &k->in->t[MOE_T_X], plan->token[p], step};
    moe_status status = moe_int_add_kink(k, &dX);
    return status ? status : moe_int_add_kink(k, &dW1);
}

static moe_status add_kinks(const moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    int64_t hw = moe_h_width(k->desc, k->desc->n);
    moe_status status = MOE_OK;
    for (int64_t e = 0; k->dO && e < k->desc->E; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++)
            for (int64_t col = 0; !status && col < hw; col++)
                if (k->jump[p * hw + col] != 0)
                    status = add_kink(k, e, p, col);
    moe_int_rows_sort(k->rows, &k->oracle->out);
    return status;
}

static moe_status prepare(moe_int_error_run *k) {
    const moe_tensor *X = &k->in->t[MOE_T_X], *dO = &k->in->t[MOE_T_DO];
    int64_t hw = moe_h_width(k->desc, k->desc->n);
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        const moe_tensor *t = &k->oracle->out.t[id];
        if (t->data)
            status = moe_tensor_alloc(MOE_F64, t->ndim, t->shape, &k->v->t[id]);
    }
    k->X = moe_int_doubles(X, 0, moe_tensor_count(X));
    k->xx = k->X ? moe_int_row_squares(k->X, k->T, k->desc->d) : NULL;
    k->dO = dO->data ? moe_int_doubles(dO, 0, moe_tensor_count(dO)) : NULL;
    k->vweight = calloc((size_t)k->oracle->plan->n_pairs + 1, sizeof *k->vweight);
    k->jump = calloc((size_t)(k->pairs * hw) + 1, sizeof *k->jump);
    if (!status && (!k->xx || (dO->data && !k->dO) || !k->vweight || !k->jump))
        status = MOE_E_NOMEM;
    return status;
}

/* What of a row's errors is its weight's. */
static void share_weights(const moe_int_error_run *k) {
    const double *vs = k->vweight;
    const double rest = moe_int_at(&k->rounding, MOE_POINT_SX, 1) /* of the input, and of adding */
                        + moe_int_adding(&k->rounding, (double)k->desc->d);
    const bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    for (int64_t p = 0; p < k->oracle->plan->n_pairs; p++)
        if (on_input)
            k->rows->on_input[p] = vs[p] / (vs[p] + rest);
        else
            k->rows->weight[p] = vs[p];
}

static moe_status fill(moe_int_error_run *k) {
    bool routed = k->oracle->out.t[MOE_T_LOGITS].data != NULL;
    moe_status status = routed ? moe_int_weight_errors(k) : MOE_OK;
    for (int64_t p = 0; p < k->oracle->plan->n_pairs; p++)
        k->vweight[p] += moe_int_flushed_share(&k->rounding, k->oracle->plan->weight[p]);
    for (int64_t e = 0; !status && e < k->desc->E; e++)
        status = expert_errors(k, e);
    if (status)
        return status;
    share_weights(k);
    sum_over_experts(k);
    zero_expert_gradients(k);
    store_gradient_parts(k, routed);
    if (k->desc->n_shared)
        status = moe_int_shared_errors(k);
    if (!status && routed && k->dO)
        status = moe_int_router_errors(k);
    if (!status)
        status = add_kinks(k);
    return status;
}

moe_status moe_int_layer_errors(const moe_layer_desc *desc, const moe_tensors *in,
                                const moe_int_rounding *rounding, int threads,
                                moe_reference_result *oracle, moe_tensors *ret,
                                moe_int_rows *ret_rows) {
    moe_int_error_run k = {.desc = desc,
                           .in = in,
                           .rounding = *rounding,
                           .threads = threads,
                           .oracle = oracle,
                           .v = ret,
                           .rows = ret_rows,
                           .T = oracle->plan->n_tokens,
                           .pairs = oracle->plan->offsets[desc->E]};
    k.rounding.exact_h = moe_int_exact_h(desc, in, oracle);
    memset(ret, 0, sizeof *ret);
    moe_status status = moe_int_rows_alloc(k.T, oracle->plan->n_pairs, ret_rows);
    if (!status)
        status = prepare(&k);
    if (!status)
        status = fill(&k);
    free(k.X);
    free(k.xx);
    free(k.dO);
    free(k.vweight);
    free(k.jump);
    for (int i = 0; i < 2; i++) {
        moe_int_room_destroy(&k.weights[i]);
        moe_int_room_destroy(&k.squares[i]);
    }
    if (status) {
        moe_tensors_destroy(ret);
        moe_int_rows_destroy(ret_rows);
    }
    return status;
}
