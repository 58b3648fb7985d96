/* What a rank does with its own tokens: it routes them, and sums what comes home. Products of the
 * router are in float64. */
#include "ep/rank.h"
#include "layer/traits.h"
#include "reference/loops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static moe_status as_doubles(const moe_tensor *t, double **ret) {
    const int64_t count = moe_tensor_count(t);
    free(*ret);
    *ret = moe_int_some(count, sizeof **ret);
    if (!*ret)
        return MOE_E_NOMEM;
    moe_convert(*ret, MOE_F64, t->data, t->dtype, (size_t)count);
    return MOE_OK;
}

moe_status moe_int_ep_load(moe_int_ep_rank *r) {
    moe_status status = as_doubles(&r->X, &r->x);
    if (!status && r->layer->use.pass & MOE_PASS_BWD)
        status = as_doubles(&r->dO, &r->dy);
    free(r->O);
    r->O = moe_int_some(r->T * r->layer->desc.d, sizeof *r->O);
    return r->O ? status : MOE_E_NOMEM;
}

/* ---- routing ---- */

static moe_status compute_logits(moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    const int64_t n = l->desc.E + l->desc.n_zero;
    double *w = NULL, *b = NULL;
    moe_status status = as_doubles(&l->params.t[MOE_T_W_R], &w);
    if (!status && l->desc.router.bias)
        status = as_doubles(&l->params.t[MOE_T_B_R], &b);
    free(r->logits);
    r->logits = moe_int_some(r->T * n, sizeof *r->logits);
    if (!r->logits)
        status = MOE_E_NOMEM;
    if (!status && r->T)
        moe_int_loop_linear_f64(r->x, r->T, l->desc.d, w, n, b, 1, r->logits);
    free(w);
    free(b);
    return status;
}

static moe_status subset(const moe_int_ep_rank *r, const moe_plan *all, moe_plan **ret) {
    int64_t *list = moe_int_some(r->T, sizeof *list);
    for (int64_t t = 0; list && t < r->T; t++)
        list[t] = r->token + t;
    moe_status status = list ? moe_plan_subset(all, list, r->T, ret) : MOE_E_NOMEM;
    free(list);
    return status;
}

/* Does a choice depend on other ranks' tokens? Capacities of groups do not that lie on one rank. */
static bool needs_others(const moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    const moe_router_desc *router = &l->desc.router;
    const int64_t group = router->capacity_group;
    if (!moe_int_select_rules[router->select].other_tokens ||
        l->dev->fault == MOE_INT_EP_CAPACITY_OF_RANK)
        return false;
    bool whole = router->select == MOE_SELECT_CAPACITY && group;
    for (int32_t q = 1; whole && q < r->comm.ranks; q++)
        whole = moe_int_ep_first_token(l, q) % group == 0;
    return !whole;
}

/* Then it is made by every rank for all, from everybody's logits. */
static moe_status route_all(moe_int_ep_rank *r, const double *b_select, moe_plan **ret) {
    const moe_int_ep_layer *l = r->layer;
    const int64_t n = l->desc.E + l->desc.n_zero;
    int64_t bytes[MOE_EP_MAX_RANKS];
    double *all = moe_int_some(l->use.tokens * n, sizeof *all);
    moe_plan *plan = NULL;
    for (int32_t q = 0; q < r->comm.ranks; q++)
        bytes[q] = (moe_int_ep_first_token(l, q + 1) - moe_int_ep_first_token(l, q)) * n *
                   (int64_t)sizeof *all;
    moe_status status =
        all ? moe_int_comm_gather(&r->comm, MOE_EP_SUMS, r->logits, all, bytes) : MOE_E_NOMEM;
    if (!status)
        status = moe_route(&l->desc, l->use.tokens, all, b_select, l->input.seed, NULL, &plan);
    if (!status)
        status = subset(r, plan, ret);
    moe_plan_destroy(&plan);
    free(all);
    return status;
}

moe_status moe_int_ep_route(moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    double *b_select = NULL;
    moe_plan_destroy(&r->plan);
    if (l->input.plan)
        return subset(r, l->input.plan, &r->plan);
    moe_status status = compute_logits(r);
    if (!status && l->desc.router.select_bias)
        status = as_doubles(&l->params.t[MOE_T_B_SELECT], &b_select);
    if (!status && needs_others(r))
        status = route_all(r, b_select, &r->plan);
    else if (!status && r->T)
        status = moe_route(&l->desc, r->T, r->logits, b_select, l->input.seed, NULL, &r->plan);
    else if (!status)
        status =
            moe_plan_create(0, l->desc.E + l->desc.n_zero, 0, NULL, NULL, NULL, NULL, &r->plan);
    free(b_select);
    return status;
}

/* The shared expert's weight: sigmoid(x . w), or 1. */
void moe_int_ep_gate(moe_int_ep_rank *r) {
    const moe_tensor *w = &r->layer->params.t[MOE_T_W_GATE_SHARED];
    const int64_t d = r->layer->desc.d;
    for (int64_t t = 0; t < r->T; t++) {
        double z = 0;
        for (int64_t i = 0; w->data && i < d; i++)
            z += r->x[t * d + i] * moe_load(w->data, w->dtype, (size_t)i);
        r->gate[t] = w->data ? 1 / (1 + exp(-z)) : 1;
    }
}

/* ---- sums ---- */

/* sum += scale row, in steps of the arithmetic. */
static void add(const moe_int_ep_layer *l, double scale, const moe_tensor *rows, int64_t row,
                double *sum) {
    const int64_t d = l->desc.d;
    for (int64_t i = 0; i < d; i++) {
        const double x = moe_load(rows->data, rows->dtype, (size_t)(row * d + i));
        sum[i] = moe_int_ep_step(l, sum[i] + moe_int_ep_step(l, scale * x));
    }
}

/* What home multiplies a pair's row with. */
static double home_weight(const moe_int_ep_rank *r, int64_t pair, bool backward) {
    const moe_int_ep_layer *l = r->layer;
    const double s = moe_int_ep_step(l, r->plan->weight[pair]);
    const bool on_input = l->desc.router.weight_on == MOE_WEIGHT_ON_INPUT;
    if (l->dev->fault == MOE_INT_EP_WEIGHT_NEVER && !backward)
        return 1;
    if (l->dev->fault == MOE_INT_EP_WEIGHT_TWICE && !backward && !on_input)
        return s * s;
    if (l->dev->fault == MOE_INT_EP_GRADIENT_WEIGHT_TWICE && backward)
        return on_input ? s * s : s;
    return on_input == backward ? s : 1;
}

/* Rows of a pair that count. */
static int32_t parts_of(const moe_int_ep_rank *r) {
    return r->width - (r->layer->dev->fault == MOE_INT_EP_PART_MISSING);
}

/* A pair's row is the sum of its parts', in the order of ranks. */
static moe_tensor put_together(const moe_int_ep_rank *r, const moe_tensor *rows, int64_t pair,
                               double *sum) {
    const int64_t d = r->layer->desc.d, *row = r->row_of + pair * r->width;
    memset(sum, 0, (size_t)d * sizeof *sum);
    for (int32_t i = 0; i < parts_of(r); i++)
        if (row[i] >= 0)
            add(r->layer, 1, rows, row[i], sum);
    return (moe_tensor){.data = sum, .dtype = MOE_F64, .ndim = 2, .shape = {1, d}};
}

moe_status moe_int_ep_sum_pairs(moe_int_ep_rank *r, const moe_tensor *rows, bool backward) {
    const moe_plan *plan = r->plan;
    const int64_t pairs = moe_int_ep_real_pairs(r), d = r->layer->desc.d;
    double *sums = backward ? r->dX : r->O, *y = moe_int_some(d, sizeof *y);
    for (int64_t t = 0; y && t < r->T; t++)
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            const int64_t p = plan->pair_of_token[k];
            if (p >= pairs)
                continue;
            const moe_tensor row = put_together(r, rows, p, y);
            add(r->layer, home_weight(r, p, backward), &row, 0, sums + t * d);
        }
    const moe_status status = y ? MOE_OK : MOE_E_NOMEM;
    free(y);
    return status;
}

void moe_int_ep_sum_weight_gradients(moe_int_ep_rank *r, const void *rows, moe_dtype type) {
    for (int64_t p = 0; p < moe_int_ep_real_pairs(r); p++)
        for (int32_t i = 0; i < r->width; i++) {
            const int64_t row = r->row_of[p * r->width + i];
            if (row < 0)
                continue;
            const double x = moe_load(rows, type, (size_t)row);
            r->dS[p] = i ? moe_int_ep_step(r->layer, r->dS[p] + x) : x;
        }
}

/* Copies lie by rank and, within one, by token: adding them as they lie is in order. */
void moe_int_ep_sum_ranks(moe_int_ep_rank *r, const moe_tensor *rows, bool backward) {
    const int64_t d = r->layer->desc.d;
    double *sums = backward ? r->dX : r->O;
    for (int64_t i = 0; i < r->handle.copies; i++) {
        if (r->handle.send_token[i] < 0)
            continue;
        double *sum = sums + r->handle.send_token[i] * d;
        if (r->layer->dev->fault == MOE_INT_EP_DX_NOT_SUMMED && backward)
            memset(sum, 0, (size_t)d * sizeof *sum);
        add(r->layer, 1, rows, i, sum);
    }
}

static moe_tensor view_of(const double *rows, int64_t T, int64_t d) {
    return (moe_tensor){.data = (void *)rows, .dtype = MOE_F64, .ndim = 2, .shape = {T, d}};
}

void moe_int_ep_finish_forward(moe_int_ep_rank *r, const double *shared) {
    const moe_int_ep_layer *l = r->layer;
    const int64_t d = l->desc.d;
    const moe_tensor x = view_of(r->x, r->T, d), y = view_of(shared, r->T, d);
    for (int64_t p = moe_int_ep_real_pairs(r); p < r->plan->n_pairs; p++)
        add(l, moe_int_ep_step(l, r->plan->weight[p]), &x, r->plan->token[p],
            r->O + r->plan->token[p] * d);
    for (int64_t t = 0; shared && t < r->T; t++)
        add(l, moe_int_ep_step(l, r->gate[t]), &y, t, r->O + t * d);
}

/* ---- backward ---- */

/* A zero expert returns its input: dS = <dO, x>, dX += s dO. */
static void zero_experts_backward(moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    const int64_t d = l->desc.d;
    const moe_tensor dy = view_of(r->dy, r->T, d);
    for (int64_t p = moe_int_ep_real_pairs(r); p < r->plan->n_pairs; p++) {
        const int64_t t = r->plan->token[p];
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum = moe_int_ep_step(l, sum + moe_int_ep_step(l, r->dy[t * d + i] * r->x[t * d + i]));
        r->dS[p] = sum;
        add(l, moe_int_ep_step(l, r->plan->weight[p]), &dy, t, r->dX + t * d);
    }
}

/* Of sigmoid(x . w): dz = dg g (1 - g), dX += dz w. */
static void gate_backward(moe_int_ep_rank *r, const double *d_gate, double *ret_dz) {
    const moe_tensor *w = &r->layer->params.t[MOE_T_W_GATE_SHARED];
    for (int64_t t = 0; w->data && t < r->T; t++) {
        ret_dz[t] = d_gate[t] * r->gate[t] * (1 - r->gate[t]);
        add(r->layer, ret_dz[t], w, 0, r->dX + t * r->layer->desc.d);
    }
}

static moe_status router_backward(moe_int_ep_rank *r, double **ret_dz) {
    const moe_int_ep_layer *l = r->layer;
    const int64_t n = l->desc.E + l->desc.n_zero, d = l->desc.d;
    double *w = NULL, *dx = moe_int_some(r->T * d, sizeof *dx),
           *dz = moe_int_some(r->T * n, sizeof *dz);
    moe_status status = dx && dz ? as_doubles(&l->params.t[MOE_T_W_R], &w) : MOE_E_NOMEM;
    if (!status && r->T) {
        status = moe_route_backward(&l->desc, r->logits, r->plan, r->dS, dz);
        moe_int_loop_times_f64(dz, r->T, n, w, d, 1, dx);
        const moe_tensor rows = view_of(dx, r->T, d);
        for (int64_t t = 0; t < r->T; t++)
            add(l, 1, &rows, t, r->dX + t * d);
    }
    free(w);
    free(dx);
    *ret_dz = dz;
    return status;
}

moe_status moe_int_ep_finish_backward(moe_int_ep_rank *r, const double *shared,
                                      const double *d_gate) {
    const int64_t d = r->layer->desc.d;
    double *dz = NULL, *dz_gate = moe_int_some(r->T, sizeof *dz_gate);
    moe_status status = dz_gate ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        const moe_tensor dx = view_of(shared, r->T, d);
        for (int64_t t = 0; shared && t < r->T; t++)
            add(r->layer, 1, &dx, t, r->dX + t * d);
        zero_experts_backward(r);
        if (shared)
            gate_backward(r, d_gate, dz_gate);
        if (!r->layer->use.plan_given)
            status = router_backward(r, &dz);
    }
    if (!status)
        status = moe_int_ep_sum_gradients(r, dz, dz_gate);
    free(dz);
    free(dz_gate);
    return status;
}
