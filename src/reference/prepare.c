#include "reference/prepare.h"
#include "reference/loops.h"

#include <stdlib.h>

moe_status alloc_real(int64_t count, real **ret) {
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

moe_status load(const run_state *r, moe_tensor_id id, int64_t first, int64_t count, real **ret) {
    if (!r->in->t[id].data)
        return MOE_OK;
    *ret = moe_int_allocate((size_t)count * sizeof **ret);
    if (!*ret)
        return MOE_E_NOMEM;
    convert(r, id, first, count, *ret);
    return MOE_OK;
}

moe_status load_into(const run_state *r, moe_tensor_id id, int64_t first, int64_t count,
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

moe_status prepare(run_state *r) {
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
