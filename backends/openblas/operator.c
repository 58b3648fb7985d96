/* The operator: a layer put together for one call from the caller's memory. Weights
 * of fp32, bf16 and fp16 are used where they lie, whichever way round; biases, a router's weights
 * and other dtypes are converted once, X, dO and results in each call.
 *
 * OpenBLAS's number of threads is the process's, so calls wait for each other. */
#include "moeref/operator.h"
#include "core/memory.h"
#include "layer.h"
#include "tasks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

typedef struct ob_operator {
    const ob_device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
} ob_operator;

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

/* ---- memory ---- */

/* The layer of a call, as far as sizes depend on it. */
static void describe(const ob_operator *op, int64_t tokens, int64_t columns, ob_layer *ret) {
    *ret = (ob_layer){.dev = op->dev,
                      .desc = op->desc,
                      .use = {.tokens = tokens,
                              .dtype = op->use.dtype,
                              .pass = op->use.pass,
                              .plan_given = op->use.routed == MOE_ROUTED_BY_CALLER},
                      .T = tokens,
                      .R = op->desc.E + op->desc.n_zero};
    ob_layer_describe(ret);
    ret->routed.rows = tokens * columns; /* at most */
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

typedef enum where { CACHED, FORWARD, BACKWARD, EITHER } where;

typedef struct piece {
    ob_buffer_id id;
    where where;
    bool wanted;
    int64_t count;
    size_t size;
} piece;

enum { PIECES = 19 };

static void list_pieces(const ob_layer *l, piece *ret) {
    const bool routes = !l->use.plan_given, shared = l->desc.n_shared > 0;
    const bool gate = shared && l->desc.shared_gate;
    const int64_t T = l->T, Td = T * l->desc.d, rows = l->routed.rows, d = l->desc.d;
    const int64_t wide = l->routed.width, wide_shared = l->shared.width;
    const piece all[PIECES] = {
        {OB_BUF_H, CACHED, true, rows * wide, sizeof(float)},
        {OB_BUF_H_SHARED, CACHED, shared, T * wide_shared, sizeof(float)},
        {OB_BUF_LOGITS, CACHED, routes, T * l->R, sizeof(double)},
        {OB_BUF_GATE, CACHED, gate, T, sizeof(float)},
        {OB_BUF_GATE_LOGIT, CACHED, gate, T, sizeof(double)},
        {OB_BUF_X, EITHER, true, Td, sizeof(float)},
        {OB_BUF_O, FORWARD, true, Td, sizeof(float)},
        {OB_BUF_WEIGHT, EITHER, true, rows, sizeof(float)},
        {OB_BUF_WORK, FORWARD, true, rows * d, sizeof(float)},
        {OB_BUF_PACK, EITHER, true, (int64_t)ob_pack_floats(l) * l->dev->threads, sizeof(float)},
        {OB_BUF_DO, BACKWARD, true, Td, sizeof(float)},
        {OB_BUF_DX, BACKWARD, true, Td, sizeof(float)},
        {OB_BUF_DS, BACKWARD, true, rows, sizeof(double)},
        {OB_BUF_DS_SHARED, BACKWARD, shared, T, sizeof(double)},
        {OB_BUF_DLOGITS, BACKWARD, routes, T * l->R, sizeof(double)},
        {OB_BUF_DZ, BACKWARD, routes, T * l->R, sizeof(float)},
        {OB_BUF_DH, BACKWARD, true, larger(rows * wide, T * wide_shared), sizeof(float)},
        {OB_BUF_WORK, BACKWARD, true, larger(rows * larger(d, l->desc.n), T * l->desc.n_shared),
         sizeof(float)},
        {OB_BUF_COUNT, EITHER, false, 0, 0},
    };
    memcpy(ret, all, sizeof all);
}

static size_t padded(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Inference has nothing to keep: what would be cached is scratch. */
static bool lies_in(const ob_layer *l, const piece *p, where memory) {
    const bool keeps = l->use.pass & MOE_PASS_BWD;
    if (!p->wanted)
        return false;
    if (p->where == CACHED)
        return memory == (keeps ? CACHED : FORWARD);
    return memory == p->where || (p->where == EITHER && memory != CACHED);
}

/* Bytes of one memory; with `base` the buffers that lie there are set. The bases need not be
 * aligned better than a float, hence the room. */
static int64_t lay_out(ob_layer *l, where memory, char *base) {
    piece all[PIECES];
    size_t at = ALIGN - (base ? (uintptr_t)base % ALIGN : 0);
    list_pieces(l, all);
    for (int i = 0; i < PIECES; i++) {
        if (!lies_in(l, &all[i], memory))
            continue;
        const size_t bytes = (size_t)all[i].count * all[i].size;
        if (base)
            l->buffer[all[i].id] = (ob_buffer){base + at, bytes};
        at += padded(bytes);
    }
    return at == ALIGN && !base ? 0 : (int64_t)at;
}

static moe_status op_sizes(const void *self, int64_t tokens, int64_t columns,
                           moe_operator_sizes *ret, const moe_log *log) {
    const ob_operator *op = self;
    ob_layer l;
    (void)log;
    ret->columns = columns ? columns : moe_route_columns(&op->desc);
    describe(op, tokens, ret->columns, &l);
    ret->cached = lay_out(&l, CACHED, NULL);
    ret->forward = lay_out(&l, FORWARD, NULL);
    ret->backward = lay_out(&l, BACKWARD, NULL);
    return MOE_OK;
}

/* ---- weights ---- */

/* Dense in the order of its dimensions; `turned`: with the last two exchanged. */
static bool is_dense(const moe_view *v, bool turned) {
    const int last = v->ndim - 1;
    int64_t stride = 1;
    for (int i = last; i >= 0; i--) {
        const int axis = turned && i >= last - 1 ? 2 * last - 1 - i : i;
        if (v->shape[axis] != 1 && v->stride[axis] != stride)
            return false;
        stride *= v->shape[axis];
    }
    return true;
}

static bool is_row_major(const moe_view *v) {
    return is_dense(v, false);
}

/* Can products read it as it lies, and which way round is that? */
static bool lies_well(moe_tensor_id id, const moe_view *v, bool *ret_turned) {
    const bool matrix = ob_is_matrix(id);
    *ret_turned = matrix && !is_row_major(v) && is_dense(v, true);
    return (v->dtype == MOE_F32 || (matrix && ob_weights_readable(v->dtype))) &&
           (is_row_major(v) || *ret_turned);
}

static moe_tensor tensor_of(const moe_view *v, moe_dtype dtype, void *data) {
    moe_tensor t = {.data = data, .dtype = dtype, .ndim = v->ndim};
    memcpy(t.shape, v->shape, sizeof t.shape);
    return t;
}

/* Every parameter of a call: where it lies, or as fp32 in its part of `converted`. Returns the
 * bytes of the latter; `fill`: writes them. */
static int64_t take_parameters(const moe_call *call, bool fill, ob_layer *ret) {
    int64_t at = 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_role_of((moe_tensor_id)id) != MOE_ROLE_PARAM || v->ndim == 0)
            continue;
        moe_tensor *t = &ret->param.t[id];
        *t = tensor_of(v, (moe_dtype)v->dtype, v->data);
        if (lies_well((moe_tensor_id)id, v, &ret->turned[id]))
            continue;
        ret->turned[id] = false;
        t->dtype = MOE_F32;
        t->data = call->converted ? (char *)call->converted + at : NULL;
        if (fill)
            moe_view_read(v, t);
        at += (int64_t)padded((size_t)moe_tensor_bytes(t));
    }
    return at;
}

static int64_t op_converted_bytes(const void *op, const moe_call *call) {
    ob_layer params = {0};
    (void)op;
    return take_parameters(call, false, &params);
}

static moe_status op_convert(const void *op, const moe_call *call) {
    ob_layer params = {0};
    (void)op;
    take_parameters(call, true, &params);
    return MOE_OK;
}

static moe_status take_float64(const moe_view *src, double **ret) {
    if (!src->data)
        return MOE_OK;
    moe_tensor t = tensor_of(src, MOE_F64, NULL);
    *ret = t.data = malloc((size_t)moe_tensor_bytes(&t));
    if (!*ret)
        return MOE_E_NOMEM;
    moe_view_read(src, &t);
    return MOE_OK;
}

/* ---- one call ---- */

static const float *take_input(ob_layer *l, const moe_view *v, ob_buffer_id id) {
    if (!v->data || v->dtype == MOE_F32)
        return v->data;
    moe_tensor t = tensor_of(v, MOE_F32, l->buffer[id].data);
    moe_view_read(v, &t);
    return t.data;
}

/* Results of fp32 are made in place. */
static void take_output(ob_layer *l, const moe_view *v, ob_buffer_id id) {
    if (v->data && v->dtype == MOE_F32)
        l->buffer[id].data = v->data;
}

static void give_output(const ob_layer *l, const moe_view *v, ob_buffer_id id) {
    const moe_tensor t = tensor_of(v, MOE_F32, l->buffer[id].data);
    if (v->data && v->data != t.data)
        moe_view_write(v, &t, 0);
}

/* A gradient that is fp32 and row-major is made, or added to, where it lies; one that has another
 * form gets room of its own and beta = 0 until give_gradients; an absent one is not made. */
static moe_status take_gradients(ob_layer *l, const moe_call *call) {
    bool direct = true;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_param_of((moe_tensor_id)id) != MOE_T_COUNT && v->data)
            direct = direct && v->dtype == MOE_F32 && is_row_major(v);
    }
    l->accumulates = direct && call->beta;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_param_of((moe_tensor_id)id) == MOE_T_COUNT || !v->data)
            continue;
        moe_tensor *g = &l->gradient.t[id];
        *g = tensor_of(v, MOE_F32, v->data);
        if (!direct)
            g->data = moe_int_allocate((size_t)moe_tensor_bytes(g));
        if (!g->data)
            return MOE_E_NOMEM;
    }
    return MOE_OK;
}

static void give_gradients(ob_layer *l, const moe_call *call, bool valid) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor *g = &l->gradient.t[id];
        if (!g->data || g->data == call->t[id].data)
            continue;
        if (valid)
            moe_view_write(&call->t[id], g, call->beta);
        free(g->data);
    }
}

static moe_status take_call(const ob_operator *op, const moe_call *call, bool backward,
                            ob_device *dev, ob_layer *l) {
    describe(op, call->tokens, call->columns, l);
    *dev = *op->dev;
    dev->log = call->log;
    l->dev = dev;
    l->seed = call->seed;
    if (op->use.pass & MOE_PASS_BWD)
        lay_out(l, CACHED, call->cached);
    lay_out(l, backward ? BACKWARD : FORWARD, call->workspace);
    l->use.pass = backward ? MOE_PASS_BOTH : MOE_PASS_FWD;
    take_parameters(call, false, l);
    l->X = take_input(l, &call->t[MOE_T_X], OB_BUF_X);
    l->dO = take_input(l, &call->t[MOE_T_DO], OB_BUF_DO);
    take_output(l, &call->t[MOE_T_O], OB_BUF_O);
    take_output(l, &call->t[MOE_T_DX], OB_BUF_DX);
    moe_status status = backward ? take_gradients(l, call) : MOE_OK;
    if (!status)
        status = take_float64(&call->t[MOE_T_W_R], &l->W_r);
    if (!status)
        status = take_float64(&call->t[MOE_T_B_SELECT], &l->b_select);
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
        const moe_tensor z = tensor_of(logits, MOE_F64, l->buffer[OB_BUF_LOGITS].data);
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
        give_output(&l, &call->t[MOE_T_O], OB_BUF_O);
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
        give_output(&l, &call->t[MOE_T_DX], OB_BUF_DX);
    give_gradients(&l, call, !status);
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
