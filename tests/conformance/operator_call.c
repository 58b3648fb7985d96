#include "operator_call.h"

#include <stdlib.h>
#include <string.h>

static moe_status reserve(const operator_call *c, int64_t bytes, void **data) {
    moe_operator_free(c->op, *data);
    *data = NULL;
    return bytes ? moe_operator_allocate(c->op, bytes, data) : MOE_OK;
}

/* A dense view of new memory in the operator's place. */
static moe_status bind(operator_call *c, moe_view *v, moe_dtype dtype, const moe_tensor *shape) {
    moe_tensor t = *shape;
    void *data = v->data;
    t.dtype = dtype;
    moe_status status = reserve(c, moe_tensor_bytes(&t), &data);
    t.data = data;
    *v = moe_view_of(&t);
    v->place = moe_operator_info(c->op)->place;
    v->device_index = moe_operator_info(c->op)->device_index;
    return status;
}

static moe_status put(const operator_call *c, const moe_view *v, const moe_tensor *src) {
    moe_tensor cast = {0};
    moe_status status = moe_tensor_cast(src, (moe_dtype)v->dtype, &cast);
    if (!status)
        status = moe_operator_copy(c->op, v->data, cast.data, moe_tensor_bytes(&cast), NULL);
    moe_tensor_destroy(&cast);
    return status;
}

static moe_status bind_and_put(operator_call *c, moe_tensor_id id, const moe_tensor *src) {
    moe_status status = bind(c, &c->call.t[id], (moe_dtype)c->use.dtype, src);
    return status ? status : put(c, &c->call.t[id], src);
}

moe_status operator_call_open(operator_call *c, moe_backend *backend, const moe_problem *problem,
                              moe_dtype gradient) {
    memset(c, 0, sizeof *c);
    c->desc = problem->layer;
    c->use =
        (moe_operator_use){.dtype = (int32_t)problem->dtype,
                           .pass = problem->pass == MOE_PASS_FWD ? MOE_PASS_FWD : MOE_PASS_BOTH,
                           .routed = problem->plan ? MOE_ROUTED_BY_CALLER : MOE_ROUTED_BY_LAYER};
    moe_status status = moe_operator_open(backend, &c->desc, &c->use, &c->op);
    c->gradient = gradient;
    if (!status)
        c->result = moe_operator_info(c->op)->free_dtypes
                        ? (moe_dtype)moe_operator_info(c->op)->arithmetic
                        : (moe_dtype)problem->dtype;
    return status;
}

moe_status operator_call_weights(operator_call *c, const moe_tensors *params) {
    moe_status status = MOE_OK;
    const int by_caller = c->use.routed == MOE_ROUTED_BY_CALLER;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        const moe_tensor_id param = moe_tensor_param_of((moe_tensor_id)id);
        const bool is_param = moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_PARAM;
        const moe_tensor *src = &params->t[param == MOE_T_COUNT ? (moe_tensor_id)id : param];
        if ((!is_param && param == MOE_T_COUNT) || !src->data ||
            !moe_tensor_exists(&c->desc, (moe_tensor_id)id, by_caller))
            continue;
        moe_tensor zero = {0};
        if (is_param) {
            status = bind_and_put(c, (moe_tensor_id)id, src);
        } else if (c->use.pass != MOE_PASS_FWD) {
            status = moe_tensor_alloc(c->gradient, src->ndim, src->shape, &zero);
            if (!status)
                status = bind(c, &c->call.t[id], c->gradient, src);
            if (!status)
                status = put(c, &c->call.t[id], &zero);
            moe_tensor_destroy(&zero);
        }
    }
    return status;
}

static int64_t most_slots(const moe_plan *plan) {
    int64_t most = 1;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        if (plan->token_offsets[t + 1] - plan->token_offsets[t] > most)
            most = plan->token_offsets[t + 1] - plan->token_offsets[t];
    return most;
}

/* index and S, with one column more than any token fills. */
static moe_status put_plan(operator_call *c, const moe_plan *plan) {
    const int64_t shape[2] = {c->call.tokens, c->call.columns};
    const moe_tensor weight = {plan->weight, MOE_F64, 1, {plan->n_pairs}};
    moe_tensor index = {0}, S = {0};
    moe_status status = moe_tensor_alloc(MOE_I32, 2, shape, &index);
    if (!status)
        status = moe_tensor_alloc(MOE_F32, 2, shape, &S);
    const moe_view to_index = moe_view_of(&index), to_S = moe_view_of(&S);
    if (!status)
        status = moe_plan_index_slots(plan, &to_index, NULL);
    if (!status)
        status = moe_plan_fill_slots(plan, NULL, &weight, &to_S, NULL);
    if (!status)
        status = put(c, &c->call.index, &index);
    if (!status)
        status = put(c, &c->call.t[MOE_T_S], &S);
    moe_tensor_destroy(&index);
    moe_tensor_destroy(&S);
    return status;
}

static moe_status bind_results(operator_call *c) {
    const moe_tensor slots = {.ndim = 2, .shape = {c->call.tokens, c->call.columns}};
    moe_tensor rows = {0};
    moe_tensor_shape(&c->desc, MOE_T_O, c->call.tokens, 0, 0, &rows);
    moe_status status = bind(c, &c->call.index, MOE_I32, &slots);
    if (!status)
        status = bind(c, &c->call.t[MOE_T_S], MOE_F32, &slots);
    if (!status)
        status = bind(c, &c->call.t[MOE_T_O], c->result, &rows);
    if (!status && c->use.pass != MOE_PASS_FWD)
        status = bind(c, &c->call.t[MOE_T_DX], c->result, &rows);
    if (!status && c->use.pass != MOE_PASS_FWD)
        status = bind(c, &c->call.t[MOE_T_DS], MOE_F32, &slots);
    return status;
}

static moe_status bind_memory(operator_call *c) {
    moe_call *call = &c->call;
    const int64_t scratch =
        c->sizes.forward > c->sizes.backward ? c->sizes.forward : c->sizes.backward;
    moe_status status = reserve(c, c->sizes.cached, &call->cached);
    if (!status)
        status = reserve(c, scratch, &call->workspace);
    call->cached_bytes = c->sizes.cached;
    call->workspace_bytes = scratch;
    return status;
}

moe_status operator_call_input(operator_call *c, const moe_problem *problem) {
    const moe_plan *plan = problem->plan;
    const int64_t experts = c->desc.E + c->desc.n_zero;
    const int64_t columns = plan ? most_slots(plan) + 1 : 1;
    moe_status status =
        moe_operator_sizes_for(c->op, problem->T, columns < experts ? columns : experts, &c->sizes);
    c->call.tokens = problem->T;
    c->call.columns = c->sizes.columns;
    c->call.seed = problem->seed;
    if (!status)
        status = bind_memory(c);
    if (!status)
        status = bind_results(c);
    if (!status)
        status = bind_and_put(c, MOE_T_X, &problem->in.t[MOE_T_X]);
    if (!status && problem->in.t[MOE_T_DO].data)
        status = bind_and_put(c, MOE_T_DO, &problem->in.t[MOE_T_DO]);
    return status || !plan ? status : put_plan(c, plan);
}

moe_status operator_call_fetch(const operator_call *c, moe_tensor_id id, moe_tensor *ret) {
    const moe_view *v = &c->call.t[id];
    moe_status status = moe_tensor_alloc((moe_dtype)v->dtype, v->ndim, v->shape, ret);
    return status ? status
                  : moe_operator_copy(c->op, ret->data, v->data, moe_tensor_bytes(ret),
                                      c->call.stream);
}

void operator_call_close(operator_call *c) {
    if (!c->op)
        return;
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_operator_free(c->op, c->call.t[id].data);
    moe_operator_free(c->op, c->call.index.data);
    moe_operator_free(c->op, c->call.cached);
    moe_operator_free(c->op, c->call.workspace);
    moe_operator_close(&c->op);
}
