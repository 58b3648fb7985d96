/* The operator of the built-in reference: the definition on the caller's memory. It keeps nothing,
 * so a backward computes its forward again, and it copies what does not lie in row-major order. */
#include "backend/reference_device.h"
#include "moeref/operator.h"
#include "moeref/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reference_operator {
    const moe_int_reference_device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
} reference_operator;

static moe_status op_supports(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                              moe_operator_support *ret) {
    const moe_int_reference_device *dev = device;
    moe_support support = {0};
    (void)use;
    if (moe_refuse_unknown(desc, &support)) {
        snprintf(ret->reason, sizeof ret->reason, "%s", support.reason);
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = (int32_t)dev->precision;
    ret->deterministic = MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT;
    ret->place = MOE_PLACE_HOST;
    ret->alignment = 1;
    ret->free_dtypes = 1;
    return MOE_OK;
}

static moe_status op_open(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                          void **ret_operator) {
    reference_operator *op = malloc(sizeof *op);
    if (!op)
        return moe_fail(((const moe_int_reference_device *)device)->log, MOE_E_NOMEM,
                        "no memory for an operator");
    *op = (reference_operator){device, *desc, *use};
    *ret_operator = op;
    return MOE_OK;
}

static void op_close(void *op) {
    free(op);
}

static moe_status op_sizes(const void *self, int64_t tokens, int64_t columns,
                           moe_operator_sizes *ret, const moe_log *log) {
    const reference_operator *op = self;
    (void)tokens;
    (void)log;
    *ret = (moe_operator_sizes){.columns = columns ? columns : moe_route_columns(&op->desc)};
    return MOE_OK;
}

static int64_t op_converted_bytes(const void *op, const moe_call *call) {
    (void)op;
    (void)call;
    return 0;
}

static moe_status op_convert(const void *op, const moe_call *call) {
    (void)op;
    (void)call;
    return MOE_OK;
}

/* ---- a pass ---- */

typedef struct pass {
    const reference_operator *op;
    const moe_call *call;
    moe_tensors in;
    moe_plan *given;
    moe_reference_result *result;
} pass;

static moe_status read_view(const moe_view *v, moe_tensor *ret) {
    moe_status status = moe_tensor_alloc((moe_dtype)v->dtype, v->ndim, v->shape, ret);
    if (!status)
        moe_view_read(v, ret);
    return status;
}

static bool is_read(moe_tensor_id id) {
    const moe_tensor_role role = moe_tensor_role_of(id);
    return role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM;
}

static moe_status compute(pass *p) {
    const moe_call *call = p->call;
    const bool by_caller = p->op->use.routed == MOE_ROUTED_BY_CALLER;
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (is_read((moe_tensor_id)id) && call->t[id].data)
            status = read_view(&call->t[id], &p->in.t[id]);
    if (status)
        return moe_fail(call->log, status, "no memory for the tensors of a call");
    if (by_caller)
        status = moe_plan_of_slots(&call->index, &call->t[MOE_T_S],
                                   p->op->desc.E + p->op->desc.n_zero, call->log, &p->given);
    if (status)
        return status;
    const moe_reference_params params = {
        .tokens = call->tokens,
        .precision = (int32_t)p->op->dev->precision,
        .threads = p->op->dev->threads,
        .recipe = p->op->dev->recipe,
        .plan = p->given,
        .plan_given = by_caller,
        .seed = call->seed,
    };
    return moe_reference_run(&p->op->desc, &p->in, &params, call->log, &p->result);
}

static void finish(pass *p) {
    moe_tensors_destroy(&p->in);
    moe_plan_destroy(&p->given);
    moe_reference_result_destroy(&p->result);
}

/* Results of pairs go to their slots, all others as they are. */
static moe_status deliver(const pass *p, moe_tensor_id id) {
    const moe_call *call = p->call;
    const moe_tensor *src = &p->result->out.t[id];
    const moe_view *dst = &call->t[id];
    if (!dst->data)
        return MOE_OK;
    if (id == MOE_T_S || id == MOE_T_DS)
        return moe_plan_fill_slots(p->result->plan, call->index.data ? &call->index : NULL, src,
                                   dst, call->log);
    moe_view_write(dst, src, moe_tensor_param_of(id) != MOE_T_COUNT && call->beta);
    return MOE_OK;
}

static moe_status op_forward(const void *self, const moe_call *call) {
    pass p = {.op = self, .call = call};
    moe_status status = compute(&p);
    if (!status && p.op->use.routed == MOE_ROUTED_BY_LAYER) {
        status = moe_plan_index_slots(p.result->plan, &call->index, call->log);
        if (!status)
            status = deliver(&p, MOE_T_S);
        if (!status)
            status = deliver(&p, MOE_T_LOGITS);
    }
    if (!status)
        status = deliver(&p, MOE_T_O);
    finish(&p);
    return status;
}

static moe_status op_backward(const void *self, const moe_call *call) {
    pass p = {.op = self, .call = call};
    moe_status status = compute(&p);
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_BACKWARD)
            status = deliver(&p, (moe_tensor_id)id);
    finish(&p);
    return status;
}

/* ---- memory ---- */

static moe_status op_allocate(const void *op, int64_t bytes, void **ret) {
    void *data = malloc(bytes ? (size_t)bytes : 1);
    if (!data)
        return moe_fail(((const reference_operator *)op)->dev->log, MOE_E_NOMEM,
                        "no memory for %lld bytes", (long long)bytes);
    *ret = data;
    return MOE_OK;
}

static void op_free(const void *op, void *data) {
    (void)op;
    free(data);
}

static moe_status op_copy(const void *op, void *dst, const void *src, int64_t bytes, void *stream) {
    (void)op;
    (void)stream;
    memmove(dst, src, (size_t)bytes);
    return MOE_OK;
}

const moe_operator_slots moe_int_reference_operators = {
    .supports = op_supports,
    .open = op_open,
    .close = op_close,
    .sizes = op_sizes,
    .converted_bytes = op_converted_bytes,
    .convert = op_convert,
    .forward = op_forward,
    .backward = op_backward,
    .allocate = op_allocate,
    .free = op_free,
    .copy = op_copy,
};
