/* Sums over a token's experts, under a change: O, then dX. */
#include "check/explain/local.h"
#include "check/explain/runner.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add(double scale, const double *x, int64_t n, double *sum) {
    for (int64_t i = 0; i < n; i++)
        sum[i] += scale * x[i];
}

double moe_int_run_gate(const moe_int_runner *k, int64_t i) {
    const moe_tensor *w = &k->s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    const moe_layer_desc *desc = moe_int_run_layer(k);
    if (!desc->shared_gate || k->c->terms & MOE_INT_NO_SHARED_GATE)
        return 1;
    double z = 0;
    for (int64_t c = 0; c < desc->d; c++)
        z += k->s->X[i * desc->d + c] * moe_load(w->data, w->dtype, (size_t)c);
    return k->c->terms & MOE_INT_GATE_LINEAR ? z : 1 / (1 + exp(-z));
}

/* Is pair p left out of its token's sums? */
static bool left_out(const moe_int_runner *k, int64_t p) {
    int64_t e = moe_int_plan_expert_of(k->sub, p);
    int64_t rows = k->c->plan->offsets[e + 1] - k->c->plan->offsets[e];
    return !k->c->skip_dw && !moe_int_change_adds(k->c, e, k->position[p], rows);
}

/* What multiplies the token's own row in a zero expert. */
static double zero_weight(const moe_int_runner *k, int64_t p) {
    unsigned terms = k->c->terms;
    return terms & MOE_INT_NO_ZERO ? 0 : terms & MOE_INT_ZERO_UNWEIGHTED ? 1 : k->used->weight[p];
}

/* Token i's part of O from pair p. */
static void add_output(const moe_int_runner *k, int64_t i, int64_t p, double *o) {
    const moe_layer_desc *desc = moe_int_run_layer(k);
    const moe_tensor *b2 = &k->s->evidence->problem->in.t[MOE_T_B2];
    int64_t d = desc->d, e = moe_int_plan_expert_of(k->sub, p);
    if (left_out(k, p))
        return;
    if (e >= desc->E) {
        add(zero_weight(k, p), k->s->X + i * d, d, o);
        return;
    }
    double out = k->c->terms & MOE_INT_ON_OUTPUT ? k->used->weight[p] : 1;
    add(out, k->r->routed.Y + p * d, d, o);
    for (int64_t c = 0; k->c->terms & MOE_INT_B2_UNWEIGHTED && c < d; c++)
        o[c] += (1 - out) * moe_load(b2->data, b2->dtype, (size_t)(e * d + c));
}

/* The same of dX. */
static void add_gradient(const moe_int_runner *k, int64_t i, int64_t p, double *dx) {
    const moe_layer_desc *desc = moe_int_run_layer(k);
    int64_t d = desc->d, e = moe_int_plan_expert_of(k->sub, p);
    bool on_input = k->c->terms & MOE_INT_ON_INPUT;
    bool scaled = on_input != ((k->c->terms & MOE_INT_DX_SCALE_OTHER) != 0);
    if (left_out(k, p))
        return;
    if (e >= desc->E)
        add(zero_weight(k, p), k->s->dO + i * d, d, dx);
    else
        add(scaled ? k->used->weight[p] : 1, k->r->routed.dXp + p * d, d, dx);
}

static bool has_shared(const moe_int_runner *k) {
    return moe_int_run_layer(k)->n_shared && !(k->c->terms & MOE_INT_NO_SHARED);
}

static void add_shared_gradient(const moe_int_runner *k, int64_t i, double *dx) {
    const moe_int_stage_rows *f = &k->r->shared;
    const moe_tensor *w = &k->s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    int64_t d = f->d;
    if (!has_shared(k) || k->c->terms & MOE_INT_NO_DX_SHARED)
        return;
    add(1, f->dXp + i * d, d, dx);
    if (!moe_int_run_layer(k)->shared_gate ||
        k->c->terms & (MOE_INT_NO_DX_GATE | MOE_INT_NO_SHARED_GATE))
        return;
    double g = moe_int_run_gate(k, i), slope = k->c->terms & MOE_INT_GATE_SLOPE ? g : g * (1 - g);
    double dz = k->c->shared_factor * f->dS[i] * slope;
    for (int64_t c = 0; c < d; c++)
        dx[c] += dz * moe_load(w->data, w->dtype, (size_t)c);
}

static void fill_zero_experts(const moe_int_runner *k) {
    const moe_int_stage_rows *f = &k->r->routed;
    for (int64_t p = k->sub->offsets[moe_int_run_layer(k)->E]; p < k->sub->n_pairs; p++) {
        f->dS[p] = 0;
        for (int64_t c = 0; c < f->d; c++)
            f->dS[p] += f->dy[p * f->d + c] * f->x[p * f->d + c];
    }
}

/* What passes back to dX through the router. */
static moe_status add_router(const moe_int_runner *k) {
    const moe_tensor *w_r = &k->s->evidence->problem->in.t[MOE_T_W_R];
    int64_t n = k->s->n_tokens, d = moe_int_run_layer(k)->d, R = k->sub->n_experts;
    double *z = malloc((size_t)(2 * n * R + d) * sizeof *z);
    if (!z)
        return MOE_E_NOMEM;
    double *dz = z + n * R, *row = dz + n * R;
    const double times = k->c->terms & MOE_INT_DX_ROUTER_TWICE ? 2 : 1;
    for (int64_t i = 0; i < n; i++)
        memcpy(z + i * R, k->c->logits + k->s->tokens[i] * R, (size_t)R * sizeof *z);
    moe_status status = moe_int_changed_dz(k->c, z, k->sub, k->r->routed.dS, dz);
    for (int64_t e = 0; !status && e < R; e++) {
        moe_int_load(w_r, e * d, d, row);
        for (int64_t i = 0; i < n; i++)
            add(times * dz[i * R + e], row, d, k->r->value[MOE_T_DX] + i * d);
    }
    free(z);
    return status;
}

/* Token i's pair that is added as number j of all. */
static int64_t pair_at(const moe_int_runner *k, int64_t i, int64_t j) {
    const int64_t from = k->sub->token_offsets[i], end = k->sub->token_offsets[i + 1];
    for (int64_t n = from; k->c->by_rank && n < end; n++)
        if (moe_int_rank_of(k->sub, k->sub->pair_of_token[n]) == j - from)
            return k->sub->pair_of_token[n];
    return k->sub->pair_of_token[j];
}

void moe_int_sum_outputs(const moe_int_runner *k) {
    const moe_int_stage_rows *shared = &k->r->shared;
    int64_t d = moe_int_run_layer(k)->d;
    double *O = k->r->value[MOE_T_O];
    for (int64_t i = 0; i < k->s->n_tokens; i++) {
        for (int64_t j = k->sub->token_offsets[i]; j < k->sub->token_offsets[i + 1]; j++) {
            add_output(k, i, pair_at(k, i, j), O + i * d);
            moe_int_sum_stored(k->c, MOE_INT_SUM_O, j, O + i * d, d);
        }
        if (has_shared(k))
            add(shared->weight[i], shared->Y + i * d, d, O + i * d);
    }
    moe_int_change_store(k->c, O, k->s->n_tokens * d);
}

moe_status moe_int_sum_gradients(const moe_int_runner *k) {
    int64_t d = moe_int_run_layer(k)->d;
    double *dX = k->r->value[MOE_T_DX];
    moe_status status = MOE_OK;
    fill_zero_experts(k);
    for (int64_t i = 0; i < k->s->n_tokens; i++) {
        for (int64_t j = k->sub->token_offsets[i]; j < k->sub->token_offsets[i + 1]; j++) {
            add_gradient(k, i, pair_at(k, i, j), dX + i * d);
            moe_int_sum_stored(k->c, MOE_INT_SUM_DX, j, dX + i * d, d);
        }
        add_shared_gradient(k, i, dX + i * d);
    }
    if (k->c->logits && !(k->c->terms & MOE_INT_NO_DX_ROUTER))
        status = add_router(k);
    moe_int_change_store(k->c, dX, k->s->n_tokens * d);
    return status;
}
