/* The operator: a layer put together for one call from the caller's memory (operator_memory.c) and
 * tensors (operator_tensors.c).
 *
 * OpenBLAS's number of threads is the process's, so calls wait for each other. */
#include "operator.h"
#include "core/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static moe_status op_supports(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                              moe_operator_support *ret) {
    moe_support support = {0};
    if (((const ob_device *)device)->coded)
        snprintf(support.reason, sizeof support.reason, "operators read no codes");
    if (support.reason[0] || moe_refuse_unknown(desc, &support)) {
        snprintf(ret->reason, sizeof ret->reason, "%s", support.reason);
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = ob_rounds(device, use->dtype) ? MOE_BF16 : MOE_F32;
    ret->deterministic = ob_promise(device);
    ret->place = MOE_PLACE_HOST;
    ret->alignment = sizeof(float);
    ret->free_dtypes = 1;
    return MOE_OK;
}

static moe_status op_open(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                          void **ret_operator) {
    const ob_device *dev = device;
    ob_operator *op = malloc(sizeof *op);
    if (!op)
        return moe_fail(dev->log, MOE_E_NOMEM, "openblas: no memory for an operator");
    *op = (ob_operator){dev, *desc, *use};
    *ret_operator = op;
    return MOE_OK;
}

static void op_close(void *op) {
    free(op);
}

static moe_status op_sizes(const void *self, int64_t tokens, int64_t columns,
                           moe_operator_sizes *ret, const moe_log *log) {
    const ob_operator *op = self;
    ob_layer l;
    (void)log;
    ret->columns = columns ? columns : moe_route_columns(&op->desc);
    ob_call_describe(op, tokens, ret->columns, &l);
    ret->cached = ob_call_lay_out(&l, OB_CACHED, NULL);
    ret->forward = ob_call_lay_out(&l, OB_FORWARD, NULL);
    ret->backward = ob_call_lay_out(&l, OB_BACKWARD, NULL);
    return MOE_OK;
}

static int64_t op_converted_bytes(const void *op, const moe_call *call) {
    ob_layer params = {0};
    (void)op;
    return ob_take_parameters(call, false, &params);
}

static moe_status op_convert(const void *op, const moe_call *call) {
    ob_layer params = {0};
    (void)op;
    ob_take_parameters(call, true, &params);
    return MOE_OK;
}

/* ---- one call ---- */

static moe_status take_call(const ob_operator *op, const moe_call *call, bool backward,
                            ob_device *dev, ob_layer *l) {
    ob_call_describe(op, call->tokens, call->columns, l);
    *dev = *op->dev;
    dev->log = call->log;
    l->dev = dev;
    l->seed = call->seed;
    if (op->use.pass & MOE_PASS_BWD)
        ob_call_lay_out(l, OB_CACHED, call->cached);
    ob_call_lay_out(l, backward ? OB_BACKWARD : OB_FORWARD, call->workspace);
    l->use.pass = backward ? MOE_PASS_BOTH : MOE_PASS_FWD;
    ob_take_parameters(call, false, l);
    l->X = ob_take_input(l, &call->t[MOE_T_X], OB_BUF_X);
    l->dO = ob_take_input(l, &call->t[MOE_T_DO], OB_BUF_DO);
    ob_take_output(l, &call->t[MOE_T_O], OB_BUF_O);
    ob_take_output(l, &call->t[MOE_T_DX], OB_BUF_DX);
    moe_status status = backward ? ob_take_gradients(l, call) : MOE_OK;
    if (!status)
        status = ob_take_float64(&call->t[MOE_T_W_R], &l->W_r);
    if (!status)
        status = ob_take_float64(&call->t[MOE_T_B_SELECT], &l->b_select);
    if (status)
        return moe_fail(call->log, status, "openblas: no memory for a call");
    ob_layer_describe(l); /* now with parameters, gradients and buffers */
    return MOE_OK;
}

/* The caller's plan, or, for a backward, the one that forward's logits made. */
static moe_status take_routing(ob_layer *l, const moe_call *call, bool backward) {
    moe_status status = MOE_OK;
    if (l->use.plan_given)
        status = moe_plan_of_slots(&call->index, &call->t[MOE_T_S], l->R, call->log, &l->own_plan);
    else if (backward)
        status = moe_route(&l->desc, l->T, l->buffer[OB_BUF_LOGITS].data, l->b_select, l->seed,
                           call->log, &l->own_plan);
    return status || !l->own_plan ? status : ob_layer_take_plan(l, l->own_plan);
}

static void end_call(ob_layer *l) {
    moe_plan_destroy(&l->own_plan);
    free(l->W_r);
    free(l->b_select);
    free(l->buffer[OB_BUF_TASKS].data);
}

/* What the layer's own router chose. */
static moe_status give_routing(const ob_layer *l, const moe_call *call) {
    const int64_t pairs = l->plan->n_pairs;
    const moe_tensor weight = {l->plan->weight, MOE_F64, 1, {pairs}};
    const moe_view *logits = &call->t[MOE_T_LOGITS], *S = &call->t[MOE_T_S];
    moe_status status = moe_plan_index_slots(l->plan, &call->index, call->log);
    if (!status && S->data)
        status = moe_plan_fill_slots(l->plan, NULL, &weight, S, call->log);
    if (!status && logits->data) {
        const moe_tensor z = ob_tensor_of(logits, MOE_F64, l->buffer[OB_BUF_LOGITS].data);
        moe_view_write(logits, &z, 0);
    }
    return status;
}

static moe_status op_forward(const void *self, const moe_call *call) {
    ob_device dev;
    ob_layer l;
    pthread_mutex_lock(&one_at_a_time);
    moe_status status = take_call(self, call, false, &dev, &l);
    if (!status)
        status = take_routing(&l, call, false);
    if (!status)
        status = ob_layer_forward(&l);
    if (!status && !l.use.plan_given)
        status = give_routing(&l, call);
    if (!status)
        ob_give_output(&l, &call->t[MOE_T_O], OB_BUF_O);
    end_call(&l);
    pthread_mutex_unlock(&one_at_a_time);
    return status;
}

static moe_status op_backward(const void *self, const moe_call *call) {
    ob_device dev;
    ob_layer l;
    const moe_view *dS = &call->t[MOE_T_DS];
    pthread_mutex_lock(&one_at_a_time);
    moe_status status = take_call(self, call, true, &dev, &l);
    if (!status)
        status = take_routing(&l, call, true);
    if (!status)
        status = ob_layer_backward(&l);
    if (!status && dS->data) {
        const moe_tensor ds = {l.buffer[OB_BUF_DS].data, MOE_F64, 1, {l.plan->n_pairs}};
        status =
            moe_plan_fill_slots(l.plan, call->index.data ? &call->index : NULL, &ds, dS, call->log);
    }
    if (!status)
        ob_give_output(&l, &call->t[MOE_T_DX], OB_BUF_DX);
    ob_give_gradients(&l, call, !status);
    end_call(&l);
    pthread_mutex_unlock(&one_at_a_time);
    return status;
}

static moe_status op_allocate(const void *op, int64_t bytes, void **ret) {
    void *data = moe_int_allocate((size_t)bytes);
    if (!data)
        return moe_fail(((const ob_operator *)op)->dev->log, MOE_E_NOMEM,
                        "openblas: no memory for %lld bytes", (long long)bytes);
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

const moe_operator_slots ob_operators = {
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
