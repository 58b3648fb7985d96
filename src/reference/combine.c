#include "reference/combine.h"
#include "reference/loops.h"

#include <stdlib.h>

/* Rounds where the recipe does. */
static void store(const run_state *r, moe_point point, real *x, int64_t count) {
    if (r->points & (uint32_t)point)
        loop_round(x, count, r->storage);
}

void fill_shared_gate(run_state *r) {
    int64_t d = r->desc->d;
    for (int64_t t = 0; t < r->T; t++) {
        real z = 0;
        for (int64_t i = 0; r->shared.w_gate && i < d; i++)
            z += r->X[t * d + i] * r->shared.w_gate[i];
        store(r, MOE_POINT_GATE, &z, 1);
        r->shared.gate[t] = r->shared.w_gate ? 1 / (1 + MOE_REAL_FN(exp)(-z)) : 1;
        store(r, MOE_POINT_GATE, &r->shared.gate[t], 1);
    }
}

_Static_assert(MOE_WEIGHT_ON_COUNT == 2, "here and in run.c not on the input is on the output");

/* What a pair's expert output counts with. */
static real output_weight(const run_state *r, int64_t pair) {
    bool on_input = r->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    return on_input ? 1 : out_of(r, MOE_T_S)[pair];
}

static void add_scaled(real *sum, real scale, const real *row, int64_t d) {
    for (int64_t i = 0; i < d; i++)
        sum[i] += scale * row[i];
}

/* o += scale row, each product and each sum rounded where the recipe does. */
static void add_output(const run_state *r, real *o, real scale, const real *row) {
    for (int64_t i = 0; i < r->desc->d; i++) {
        real term = scale * row[i];
        store(r, MOE_POINT_SY, &term, 1);
        o[i] += term;
        store(r, MOE_POINT_ADD_O, &o[i], 1);
    }
}

void combine_forward(run_state *r) {
    const moe_plan *plan = r->res->plan;
    int64_t d = r->desc->d;
    const real *Y = out_of(r, MOE_T_Y), *S = out_of(r, MOE_T_S);
    for (int64_t t = 0; t < r->T; t++) {
        real *o = out_of(r, MOE_T_O) + t * d;
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            int64_t p = plan->pair_of_token[k];
            bool is_zero = p >= r->pairs;
            add_output(r, o, is_zero ? S[p] : output_weight(r, p),
                       is_zero ? r->X + t * d : Y + p * d);
        }
        if (r->desc->n_shared)
            add_output(r, o, r->shared.gate[t], r->shared.Y + t * d);
    }
    loop_round(out_of(r, MOE_T_O), r->T * d, r->storage);
}

/* A zero expert returns its input: dS = <dO, x>, dx = s dO. */
static void backward_zero_experts(const run_state *r) {
    const moe_plan *plan = r->res->plan;
    int64_t d = r->desc->d;
    for (int64_t p = r->pairs; p < plan->n_pairs; p++) {
        int64_t t = plan->token[p];
        real sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += r->dO[t * d + i] * r->X[t * d + i];
        out_of(r, MOE_T_DS)[p] = sum;
        add_scaled(out_of(r, MOE_T_DX) + t * d, out_of(r, MOE_T_S)[p], r->dO + t * d, d);
    }
}

static void backward_tokens(const run_state *r) {
    const moe_plan *plan = r->res->plan;
    int64_t d = r->desc->d;
    bool on_input = r->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const real *dXp = out_of(r, MOE_T_DXP);
    for (int64_t t = 0; t < r->T; t++) {
        real *dx = out_of(r, MOE_T_DX) + t * d;
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            int64_t p = plan->pair_of_token[k];
            if (p >= r->pairs)
                continue;
            real scale = on_input ? out_of(r, MOE_T_S)[p] : 1;
            add_scaled(dx, scale, dXp + p * d, d);
            store(r, MOE_POINT_ADD_DX, dx, d);
        }
        if (r->desc->n_shared)
            add_scaled(dx, 1, r->shared.dX + t * d, d);
        store(r, MOE_POINT_ADD_DX, dx, d);
    }
}

/* O += g Y_shared with g = sigmoid(x . w): dz = dg g (1 - g), dw += dz x, dx += dz w. */
static void backward_shared_gate(const run_state *r) {
    int64_t d = r->desc->d;
    real *dw = out_of(r, MOE_T_DW_GATE_SHARED);
    for (int64_t t = 0; t < r->T; t++) {
        real g = r->shared.gate[t];
        store(r, MOE_POINT_GATE, &r->shared.d_gate[t], 1);
        real dz = r->shared.d_gate[t] * g * (1 - g);
        store(r, MOE_POINT_GATE, &dz, 1);
        add_scaled(dw, dz, r->X + t * d, d);
        add_scaled(out_of(r, MOE_T_DX) + t * d, dz, r->shared.w_gate, d);
        store(r, MOE_POINT_ADD_DX, out_of(r, MOE_T_DX) + t * d, d);
    }
    loop_round(dw, d, r->storage);
}

/* dW_r = dz^T X, db_r = sum dz, dX += dz W_r. */
static void backward_logits(const run_state *r, const real *dz, const real *w_r, real *dx) {
    int64_t d = r->desc->d, n = r->desc->E + r->desc->n_zero;
    loop_outer(dz, r->T, n, r->X, d, r->threads, out_of(r, MOE_T_DW_R));
    loop_round(out_of(r, MOE_T_DW_R), n * d, r->storage);
    real *db = out_of(r, MOE_T_DB_R);
    for (int64_t t = 0; db && t < r->T; t++)
        add_scaled(db, 1, dz + t * n, n);
    if (db)
        loop_round(db, n, r->storage);
    loop_times(dz, r->T, n, w_r, d, r->threads, dx);
    add_scaled(out_of(r, MOE_T_DX), 1, dx, r->T * d);
}

static moe_status backward_router(run_state *r) {
    const moe_plan *plan = r->res->plan;
    int64_t d = r->desc->d, n = plan->n_experts, T = r->T;
    size_t pairs = plan->n_pairs > 0 ? (size_t)plan->n_pairs : 1;
    double *d_weight = malloc(pairs * sizeof *d_weight);
    real *dz = malloc((size_t)(T * n) * sizeof *dz), *dx = malloc((size_t)(T * d) * sizeof *dx);
    real *w_r = malloc((size_t)(n * d) * sizeof *w_r);
    r->d_logits = malloc((size_t)(T * n) * sizeof *r->d_logits);
    moe_status status = d_weight && dz && dx && w_r && r->d_logits ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        moe_convert(d_weight, MOE_F64, out_of(r, MOE_T_DS), MOE_REAL_DTYPE, (size_t)plan->n_pairs);
        status = moe_route_backward(r->desc, r->logits, plan, d_weight, r->d_logits);
    }
    if (!status) {
        const moe_tensor *w = &r->in->t[MOE_T_W_R];
        moe_convert(dz, MOE_REAL_DTYPE, r->d_logits, MOE_F64, (size_t)(T * n));
        store(r, MOE_POINT_DLOGITS, dz, T * n);
        moe_convert(w_r, MOE_REAL_DTYPE, w->data, w->dtype, (size_t)(n * d));
        store(r, MOE_POINT_INPUT, w_r, n * d);
        backward_logits(r, dz, w_r, dx);
    }
    free(d_weight);
    free(dz);
    free(dx);
    free(w_r);
    return status;
}

moe_status combine_backward(run_state *r) {
    backward_tokens(r);
    backward_zero_experts(r);
    store(r, MOE_POINT_DS, out_of(r, MOE_T_DS), r->res->plan->n_pairs);
    if (r->shared.w_gate)
        backward_shared_gate(r);
    moe_status status = r->plan_given ? MOE_OK : backward_router(r);
    if (!status)
        loop_round(out_of(r, MOE_T_DX), r->T * r->desc->d, r->storage);
    return status;
}
