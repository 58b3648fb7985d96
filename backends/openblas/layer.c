/* Making a layer (parameters to fp32, gradient buffers) and feeding it (inputs, plan). */
#include "layer.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

bool ob_is_matrix(moe_tensor_id id) {
    return id == MOE_T_W1 || id == MOE_T_W2 || id == MOE_T_W1_SHARED || id == MOE_T_W2_SHARED;
}

/* A view where the tensor can stay as it is, else a copy in fp32 that the layer owns. */
static moe_status take_parameter(ob_layer *layer, moe_tensor_id id, const moe_tensor *src) {
    if (!src->data)
        return MOE_OK;
    if (src->dtype == MOE_F32 || (ob_is_matrix(id) && ob_weights_readable(src->dtype))) {
        layer->param.t[id] = *src;
        return MOE_OK;
    }
    moe_status status = moe_tensor_cast(src, MOE_F32, &layer->converted.t[id]);
    layer->param.t[id] = layer->converted.t[id];
    return status;
}

static moe_status take_float64(const moe_tensor *src, double **ret) {
    if (!src->data)
        return MOE_OK;
    size_t count = (size_t)moe_tensor_count(src);
    *ret = malloc(count * sizeof **ret);
    if (!*ret)
        return MOE_E_NOMEM;
    moe_convert(*ret, MOE_F64, src->data, src->dtype, count);
    return MOE_OK;
}

static moe_status take_parameters(ob_layer *layer, const moe_tensors *params) {
    moe_status status = take_float64(&params->t[MOE_T_W_R], &layer->W_r);
    if (!status)
        status = take_float64(&params->t[MOE_T_B_SELECT], &layer->b_select);
    for (int i = 0; !status && i < MOE_T_COUNT; i++)
        if (moe_tensor_role_of((moe_tensor_id)i) == MOE_ROLE_PARAM)
            status = take_parameter(layer, (moe_tensor_id)i, &params->t[i]);
    return status;
}

static moe_status take_codes(ob_layer *layer) {
    const ob_device *dev = layer->dev;
    moe_status status = ob_codes_make(&dev->codes, &layer->param.t[MOE_T_W1], dev->threads,
                                      dev->log, &layer->W1_codes);
    return status ? status
                  : ob_codes_make(&dev->codes, &layer->param.t[MOE_T_W2], dev->threads, dev->log,
                                  &layer->W2_codes);
}

/* Not zeroed: backward overwrites all of them. */
static moe_status make_gradients(ob_layer *layer) {
    for (int i = 0; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i, param = moe_tensor_param_of(id);
        if (param == MOE_T_COUNT || !layer->param.t[param].data)
            continue;
        moe_tensor *g = &layer->gradient.t[id];
        *g = layer->param.t[param];
        g->dtype = MOE_F32;
        g->data = moe_int_allocate((size_t)moe_tensor_bytes(g));
        if (!g->data)
            return MOE_E_NOMEM;
    }
    return MOE_OK;
}

static ob_weights weights_of(const ob_layer *layer, moe_tensor_id id, int64_t rows, int64_t cols) {
    const moe_tensor *t = &layer->param.t[id];
    return (ob_weights){
        .data = t->data, .type = t->dtype, .turned = layer->turned[id], .rows = rows, .cols = cols};
}

/* What routed and shared experts take from the description; n is set already. */
static void make_experts(const ob_layer *layer, moe_tensor_id W1, moe_tensor_id W2,
                         ob_experts *experts) {
    const moe_layer_desc *desc = &layer->desc;
    experts->d = desc->d;
    experts->width = moe_h_width(desc, experts->n);
    experts->act.kind = desc->act;
    experts->act.n = experts->n;
    experts->act.alpha = (float)desc->act_alpha;
    experts->act.limit = (float)desc->act_limit;
    experts->W1 = weights_of(layer, W1, experts->width, desc->d);
    experts->W2 = weights_of(layer, W2, desc->d, experts->n);
}

static void make_routed(ob_layer *layer) {
    ob_experts *e = &layer->routed;
    *e = (ob_experts){.E = layer->desc.E, .n = layer->desc.n};
    make_experts(layer, MOE_T_W1, MOE_T_W2, e);
    e->act.layout = layer->desc.glu_layout;
    e->W1.codes = layer->W1_codes.code ? &layer->W1_codes : NULL;
    e->W2.codes = layer->W2_codes.code ? &layer->W2_codes : NULL;
    _Static_assert(MOE_WEIGHT_ON_COUNT == 2, "not on the input is on the output");
    e->on_input = layer->desc.router.weight_on == MOE_WEIGHT_ON_INPUT;
    e->b1 = layer->param.t[MOE_T_B1].data;
    e->b2 = layer->param.t[MOE_T_B2].data;
    e->dW1 = layer->gradient.t[MOE_T_DW1].data;
    e->db1 = layer->gradient.t[MOE_T_DB1].data;
    e->dW2 = layer->gradient.t[MOE_T_DW2].data;
    e->db2 = layer->gradient.t[MOE_T_DB2].data;
}

/* One expert that sees every token; its weight, if any, is the gate. */
static void make_shared(ob_layer *layer) {
    ob_experts *e = &layer->shared;
    *e = (ob_experts){.E = 1, .n = layer->desc.n_shared, .rows = layer->T};
    make_experts(layer, MOE_T_W1_SHARED, MOE_T_W2_SHARED, e);
    e->act.layout = MOE_GLU_CONCAT;
    e->act.limit = (float)moe_shared_desc(&layer->desc).act_limit;
    layer->shared_offsets[1] = layer->T;
    e->offsets = layer->shared_offsets;
    e->H = layer->buffer[OB_BUF_H_SHARED].data;
    e->dS = layer->buffer[OB_BUF_DS_SHARED].data;
    e->dW1 = layer->gradient.t[MOE_T_DW1_SHARED].data;
    e->dW2 = layer->gradient.t[MOE_T_DW2_SHARED].data;
    if (layer->desc.shared_gate)
        e->weight = layer->buffer[OB_BUF_GATE].data;
}

void ob_layer_describe(ob_layer *layer) {
    make_routed(layer);
    make_shared(layer);
}

/* Buffers whose size the routing does not change. */
static moe_status reserve_fixed(ob_layer *layer) {
    const moe_layer_desc *desc = &layer->desc;
    int64_t T = layer->T, d = desc->d, wide = moe_h_width(desc, desc->n_shared);
    bool back = layer->use.pass & MOE_PASS_BWD, routes = !layer->use.plan_given;
    bool convert = layer->use.dtype != MOE_F32;
    bool shared = desc->n_shared > 0, gate = shared && desc->shared_gate;
    struct {
        ob_buffer_id id;
        bool wanted;
        int64_t count;
        size_t size;
    } rows[] = {
        {OB_BUF_X, convert, T * d, sizeof(float)},
        {OB_BUF_DO, convert && back, T * d, sizeof(float)},
        {OB_BUF_O, true, T * d, sizeof(float)},
        {OB_BUF_DX, back, T * d, sizeof(float)},
        {OB_BUF_LOGITS, routes, T * layer->R, sizeof(double)},
        {OB_BUF_DLOGITS, routes && back, T * layer->R, sizeof(double)},
        {OB_BUF_DZ, routes && back, T * layer->R, sizeof(float)},
        {OB_BUF_GATE, gate, T, sizeof(float)},
        {OB_BUF_GATE_LOGIT, gate, T, sizeof(double)},
        {OB_BUF_H_SHARED, shared, T * wide, sizeof(float)},
        {OB_BUF_DS_SHARED, shared && back, T, sizeof(double)},
    };
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < sizeof rows / sizeof *rows; i++)
        if (rows[i].wanted)
            status = ob_reserve(layer, rows[i].id, (size_t)rows[i].count * rows[i].size);
    return status;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

moe_status ob_layer_take_plan(ob_layer *layer, const moe_plan *plan) {
    ob_experts *e = &layer->routed;
    int64_t rows = plan->offsets[e->E], T = layer->T;
    bool back = layer->use.pass & MOE_PASS_BWD;
    int64_t work = back ? larger(rows * larger(e->d, e->n), T * layer->shared.n) : rows * e->d;
    moe_status status = ob_reserve(layer, OB_BUF_WEIGHT, (size_t)plan->n_pairs * sizeof(float));
    if (!status)
        status = ob_reserve(layer, OB_BUF_H, (size_t)(rows * e->width) * sizeof(float));
    if (!status)
        status = ob_reserve(layer, OB_BUF_WORK, (size_t)work * sizeof(float));
    if (!status && back)
        status = ob_reserve(layer, OB_BUF_DS, (size_t)plan->n_pairs * sizeof(double));
    if (!status && back)
        status =
            ob_reserve(layer, OB_BUF_DH,
                       (size_t)larger(rows * e->width, T * layer->shared.width) * sizeof(float));
    if (status)
        return status;
    float *weight = layer->buffer[OB_BUF_WEIGHT].data;
    moe_convert(weight, MOE_F32, plan->weight, MOE_F64, (size_t)plan->n_pairs);
    e->rows = rows;
    e->offsets = plan->offsets;
    e->token = plan->token;
    e->weight = weight;
    e->H = layer->buffer[OB_BUF_H].data;
    e->dS = layer->buffer[OB_BUF_DS].data;
    layer->plan = plan;
    return MOE_OK;
}

moe_status ob_layer_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                            const moe_tensors *params, void **ret_layer) {
    const ob_device *dev = device;
    ob_layer *layer = calloc(1, sizeof *layer);
    if (!layer)
        return moe_fail(dev->log, MOE_E_NOMEM, "openblas: no memory for a layer");
    layer->dev = dev;
    layer->desc = *desc;
    layer->use = *use;
    layer->T = use->tokens;
    layer->R = desc->E + desc->n_zero;
    moe_status status = take_parameters(layer, params);
    if (!status && (use->pass & MOE_PASS_BWD))
        status = make_gradients(layer);
    if (status)
        moe_fail(dev->log, status, "openblas: no memory for the layer's parameters or gradients");
    else
        status = reserve_fixed(layer);
    if (!status && dev->coded)
        status = take_codes(layer);
    if (status) {
        ob_layer_release(layer);
        return status;
    }
    ob_layer_describe(layer);
    *ret_layer = layer;
    return MOE_OK;
}

void ob_layer_release(void *self) {
    ob_layer *layer = self;
    moe_tensors_destroy(&layer->converted);
    for (int i = 0; i < MOE_T_COUNT; i++)
        free(layer->gradient.t[i].data);
    ob_codes_destroy(&layer->W1_codes);
    ob_codes_destroy(&layer->W2_codes);
    free(layer->W_r);
    free(layer->b_select);
    moe_plan_destroy(&layer->own_plan);
    ob_buffers_destroy(layer);
    free(layer);
}

static const float *take_input(ob_layer *layer, const moe_tensor *src, ob_buffer_id id) {
    if (src->dtype == MOE_F32 || !src->data)
        return src->data;
    moe_convert(layer->buffer[id].data, MOE_F32, src->data, src->dtype,
                (size_t)(layer->T * layer->desc.d));
    return layer->buffer[id].data;
}

moe_status ob_layer_set_input(void *self, const moe_input *input) {
    ob_layer *layer = self;
    layer->X = take_input(layer, &input->X, OB_BUF_X);
    layer->dO = take_input(layer, &input->dO, OB_BUF_DO);
    layer->seed = input->seed;
    return input->plan ? ob_layer_take_plan(layer, input->plan) : MOE_OK;
}
