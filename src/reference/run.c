/* The whole layer: route, run every expert forward and backward, combine. */
#include "reference/run.h"
#include "core/memory.h"
#include "core/progress.h"
#include "reference/combine.h"
#include "reference/ffn.h"
#include "reference/loops.h"

#include <stdlib.h>

#define RUN REAL(moe_int_run)

static void *out_of(const run_state *r, moe_tensor_id id) {
    return r->res->out.t[id].data;
}

static moe_status alloc_real(int64_t count, real **ret) {
    *ret = calloc((size_t)(count > 0 ? count : 1), sizeof **ret);
    return *ret ? MOE_OK : MOE_E_NOMEM;
}

static bool has(const run_state *r, moe_point point) {
    return (r->points & (uint32_t)point) != 0;
}

/* An input's values as `real`, rounded where the recipe does. */
static void convert(const run_state *r, moe_tensor_id id, int64_t first, int64_t count, real *ret) {
    const moe_tensor *t = &r->in->t[id];
    moe_convert(ret, MOE_REAL_DTYPE,
                (const char *)t->data + (size_t)first * moe_dtype_size(t->dtype), t->dtype,
                (size_t)count);
    if (has(r, MOE_POINT_INPUT))
        loop_round(ret, count, r->storage);
}

/* The same into fresh memory; *ret stays NULL for an absent one. */
static moe_status load(const run_state *r, moe_tensor_id id, int64_t first, int64_t count,
                       real **ret) {
    if (!r->in->t[id].data)
        return MOE_OK;
    *ret = moe_int_allocate((size_t)count * sizeof **ret);
    if (!*ret)
        return MOE_E_NOMEM;
    convert(r, id, first, count, *ret);
    return MOE_OK;
}

/* The same into a room, of which the former content is not asked for again. */
static moe_status load_into(const run_state *r, moe_tensor_id id, int64_t first, int64_t count,
                            moe_int_room *room, const real **ret) {
    real *data = moe_int_room_take(room, (size_t)count * sizeof *data);
    if (!data)
        return MOE_E_NOMEM;
    convert(r, id, first, count, data);
    *ret = data;
    return MOE_OK;
}

static moe_status multiply_logits(const run_state *r, const real *w, const real *b, real *z) {
    const int64_t n = r->desc->E + r->desc->n_zero, d = r->desc->d;
    if (!r->chain.unit) {
        loop_linear(r->X, r->T, d, w, n, b, r->threads, z);
        return MOE_OK;
    }
    const moe_int_operand left = {r->X, d, 1, NULL, NULL, true};
    const moe_int_operand right = {w, d, 1, NULL, NULL, true};
    return moe_int_multiply_emulated(&r->chain, &left, &right, r->T, n, d, (const void *)b,
                                     r->threads, (void *)z);
}

static moe_status compute_logits(run_state *r) {
    const moe_layer_desc *desc = r->desc;
    int64_t n = desc->E + desc->n_zero, count = r->T * n;
    real *w = NULL, *b = NULL, *z = NULL;
    moe_status status = load(r, MOE_T_W_R, 0, n * desc->d, &w);
    if (!status && desc->router.bias)
        status = load(r, MOE_T_B_R, 0, n, &b);
    if (!status)
        status = alloc_real(count, &z);
    r->logits = malloc((size_t)count * sizeof *r->logits);
    if (!status && !r->logits)
        status = MOE_E_NOMEM;
    if (!status)
        status = multiply_logits(r, w, b, z);
    if (!status) {
        if (has(r, MOE_POINT_LOGITS))
            loop_round(z, count, r->storage);
        moe_convert(r->logits, MOE_F64, z, MOE_REAL_DTYPE, (size_t)count);
    }
    free(w);
    free(b);
    free(z);
    return status;
}

/* The plan to use: given, chosen before and weighed here, or routed here. */
static moe_status make_plan(run_state *r) {
    const moe_reference_params *p = r->params;
    double *b_select = NULL;
    int64_t n = r->desc->E + r->desc->n_zero;
    moe_status status = MOE_OK;
    if (p->plan)
        status = moe_plan_copy(p->plan, &r->res->plan);
    if (r->plan_given || status)
        return status;
    status = compute_logits(r);
    if (!status && p->plan)
        return moe_route_weigh(r->desc, r->logits, r->res->plan);
    if (!status && r->desc->router.select_bias) {
        b_select = malloc((size_t)n * sizeof *b_select);
        if (!b_select)
            return MOE_E_NOMEM;
        const moe_tensor *t = &r->in->t[MOE_T_B_SELECT];
        moe_convert(b_select, MOE_F64, t->data, t->dtype, (size_t)n);
    }
    if (!status)
        status = moe_route(r->desc, r->T, r->logits, b_select, p->seed, r->log, &r->res->plan);
    free(b_select);
    return status;
}

static bool is_weight_gradient(moe_tensor_id id) {
    return id == MOE_T_DW1 || id == MOE_T_DB1 || id == MOE_T_DW2 || id == MOE_T_DB2;
}

/* Is this result made by this run at all? */
static bool makes(const run_state *r, moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM || (moe_tensor_is_backward(id) && !r->dO))
        return false;
    if (r->params->skip_weight_gradients && is_weight_gradient(id))
        return false;
    return moe_tensor_exists(r->desc, id, r->plan_given);
}

static moe_status alloc_results(run_state *r) {
    const moe_plan *plan = r->res->plan;
    r->pairs = plan->offsets[r->desc->E];
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < MOE_T_COUNT; i++) {
        moe_tensor *t = &r->res->out.t[i];
        moe_tensor_shape(r->desc, (moe_tensor_id)i, r->T, r->pairs, plan->n_pairs, t);
        if (makes(r, (moe_tensor_id)i))
            status = moe_tensor_alloc(MOE_REAL_DTYPE, t->ndim, t->shape, t);
    }
    return status;
}

/* Expert e's parameters; biases are allocated. */
static moe_status load_expert(run_state *r, int64_t e, ffn *f) {
    const moe_layer_desc *desc = r->desc;
    int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    real *b1 = NULL, *b2 = NULL;
    moe_status status = load_into(r, MOE_T_W1, e * hw * d, hw * d, &r->weights[0], &f->W1);
    if (!status)
        status = load_into(r, MOE_T_W2, e * d * n, d * n, &r->weights[1], &f->W2);
    if (!status && desc->expert_bias)
        status = load(r, MOE_T_B1, e * hw, hw, &b1);
    if (!status && desc->expert_bias)
        status = load(r, MOE_T_B2, e * d, d, &b2);
    f->b1 = b1;
    f->b2 = b2;
    return status;
}

static void free_biases(const ffn *f) {
    free((void *)f->b1);
    free((void *)f->b2);
}

/* Element `index` of a result, or NULL where it is not wanted. */
static real *at(void *data, int64_t index) {
    return data ? (real *)data + index : NULL;
}

static void point_at_results(const run_state *r, int64_t e, ffn *f) {
    int64_t d = r->desc->d, n = f->n, hw = f->hw, row = r->res->plan->offsets[e];
    f->H = at(out_of(r, MOE_T_H), row * hw);
    f->A = at(out_of(r, MOE_T_A), row * n);
    f->Y = at(out_of(r, MOE_T_Y), row * d);
    f->dS = at(out_of(r, MOE_T_DS), row);
    f->dH = at(out_of(r, MOE_T_DH), row * hw);
    f->dXp = at(out_of(r, MOE_T_DXP), row * d);
    f->dW1 = at(out_of(r, MOE_T_DW1), e * hw * d);
    f->db1 = at(out_of(r, MOE_T_DB1), e * hw);
    f->dW2 = at(out_of(r, MOE_T_DW2), e * d * n);
    f->db2 = at(out_of(r, MOE_T_DB2), e * d);
}

static moe_status run_experts(run_state *r) {
    const moe_plan *plan = r->res->plan;
    moe_status status = MOE_OK;
    for (int64_t e = 0; !status && e < r->desc->E; e++) {
        ffn f = {.desc = r->desc,
                 .n = r->desc->n,
                 .hw = moe_h_width(r->desc, r->desc->n),
                 .layout = r->desc->glu_layout,
                 .threads = r->threads,
                 .storage = r->storage,
                 .points = r->points,
                 .rows = plan->offsets[e + 1] - plan->offsets[e],
                 .token = plan->token + plan->offsets[e],
                 .weight = (real *)out_of(r, MOE_T_S) + plan->offsets[e],
                 .on_input = r->desc->router.weight_on == MOE_WEIGHT_ON_INPUT,
                 .chain = r->chain.unit ? &r->chain : NULL,
                 .gates_first = r->gates_first,
                 .X = r->X,
                 .dO = r->dO};
        moe_int_progress(r->params->progress, "oracle", e, r->desc->E);
        if (f.rows == 0) /* what it has is 0, as results are */
            continue;
        point_at_results(r, e, &f);
        status = load_expert(r, e, &f);
        if (!status)
            status = ffn_forward(&f);
        if (!status && r->dO)
            status = ffn_backward(&f);
        free_biases(&f);
    }
    return status;
}

/* The shared expert is an expert that sees every token, with sigmoid(x . w_gate) as its weight. */
static moe_status run_shared(run_state *r) {
    const moe_layer_desc own = moe_shared_desc(r->desc), *desc = &own;
    int64_t T = r->T, d = desc->d, n = desc->n_shared, hw = moe_h_width(desc, n);
    shared_state *sh = &r->shared;
    real *w1 = NULL, *w2 = NULL, *h = NULL, *a = NULL, *dh = NULL;
    moe_status status = load(r, MOE_T_W1_SHARED, 0, hw * d, &w1);
    if (!status)
        status = load(r, MOE_T_W2_SHARED, 0, d * n, &w2);
    if (!status && desc->shared_gate)
        status = load(r, MOE_T_W_GATE_SHARED, 0, d, &sh->w_gate);
    real **buffers[] = {&h, &a, &sh->Y, &sh->gate, &dh, &sh->dX, &sh->d_gate};
    int64_t counts[] = {T * hw, T * n, T * d, T, T * hw, T * d, T};
    for (int i = 0; !status && i < 7; i++)
        status = alloc_real(counts[i], buffers[i]);
    if (!status) {
        fill_shared_gate(r);
        ffn f = {.desc = desc,
                 .n = n,
                 .hw = hw,
                 .threads = r->threads,
                 .storage = r->storage,
                 .points = r->points,
                 .rows = T,
                 .weight = sh->gate,
                 .chain = r->chain.unit ? &r->chain : NULL,
                 .X = r->X,
                 .dO = r->dO,
                 .W1 = w1,
                 .W2 = w2,
                 .H = h,
                 .A = a,
                 .Y = sh->Y,
                 .dS = sh->d_gate,
                 .dH = dh,
                 .dXp = sh->dX,
                 .dW1 = out_of(r, MOE_T_DW1_SHARED),
                 .dW2 = out_of(r, MOE_T_DW2_SHARED)};
        status = ffn_forward(&f);
        if (!status && r->dO)
            status = ffn_backward(&f);
    }
    free(w1);
    free(w2);
    free(h);
    free(a);
    free(dh);
    return status;
}

/* The unit that is played, in the run's 16-bit type. */
static moe_status take_products(run_state *r) {
    const moe_arithmetic *how = r->params->products;
    const moe_layer_desc *desc = r->desc;
    if (!how)
        return MOE_OK;
    moe_status status = moe_int_chain_make(
        how, r->storage == MOE_BF16 ? MOE_INT_FORMAT_BF16 : MOE_INT_FORMAT_FP16, &r->chain);
    return status ? status
                  : moe_int_gates_first(how, desc->glu_layout, desc->n, moe_h_width(desc, desc->n),
                                        &r->gates_first);
}

static moe_status prepare(run_state *r) {
    int64_t count = r->T * r->desc->d;
    moe_status status = take_products(r);
    if (!status)
        status = load(r, MOE_T_X, 0, count, &r->X);
    if (!status)
        status = load(r, MOE_T_DO, 0, count, &r->dO);
    if (!status)
        status = make_plan(r);
    if (!status)
        status = alloc_results(r);
    if (status)
        return status;
    moe_convert(out_of(r, MOE_T_S), MOE_REAL_DTYPE, r->res->plan->weight, MOE_F64,
                (size_t)r->res->plan->n_pairs);
    if (has(r, MOE_POINT_S))
        loop_round(out_of(r, MOE_T_S), r->res->plan->n_pairs, r->storage);
    if (r->logits)
        moe_convert(out_of(r, MOE_T_LOGITS), MOE_REAL_DTYPE, r->logits, MOE_F64,
                    (size_t)(r->T * (r->desc->E + r->desc->n_zero)));
    return MOE_OK;
}

static void run_destroy(run_state *r) {
    for (int i = 0; i < 2; i++)
        moe_int_room_destroy(&r->weights[i]);
    free(r->X);
    free(r->dO);
    free(r->gates_first);
    free(r->logits);
    free(r->d_logits);
    free(r->shared.w_gate);
    free(r->shared.gate);
    free(r->shared.d_gate);
    free(r->shared.Y);
    free(r->shared.dX);
}

moe_status RUN(const moe_layer_desc *desc, const moe_tensors *in,
               const moe_reference_params *params, int threads, const moe_log *log,
               moe_reference_result *res) {
    run_state r = {.desc = desc,
                   .in = in,
                   .params = params,
                   .threads = threads,
                   .log = log,
                   .res = res,
                   .T = params->tokens,
                   .storage = (moe_dtype)params->precision,
                   .points =
                       params->recipe ? params->recipe->points : moe_recipe_find("moeref")->points,
                   .plan_given = params->plan && params->plan_given};
    moe_status status = prepare(&r);
    if (!status)
        status = run_experts(&r);
    if (!status && desc->n_shared)
        status = run_shared(&r);
    if (!status)
        combine_forward(&r);
    if (!status && r.dO)
        status = combine_backward(&r);
    run_destroy(&r);
    return status;
}
