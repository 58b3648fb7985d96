/* Preparing a layer: its router, shared expert and activations, each parameter and buffer in its
 * place. */
#include "prepare.h"

#include <new>

namespace {

/* The rows of "all tokens in order". */
moe_status prepare_dense(Layer *layer) {
    const int T = layer->T;
    RowGroups *r = &layer->dense;
    *r = RowGroups::empty(1, 1, T);
    Allocator get = {layer};
    get.get(&r->offsets, BUFFER_ALL_OFFSETS);
    get.get(&r->tile_offsets, BUFFER_ALL_TILE_OFFSETS);
    get.get(&r->tiles, BUFFER_ALL_TILES);
    get.get(&r->token, BUFFER_ALL_TOKENS);
    if (get.status || !r->offsets)
        return get.status;
    const Stream &stream = layer->dev->stream;
    cudaError_t err = fill_steps(r->offsets, 2, T, 1, stream);
    if (err == cudaSuccess)
        err = list_tiles(r, stream);
    if (err == cudaSuccess)
        err = fill_steps(r->token, T, 1, 1, stream);
    return device_check(layer->dev, err, "listing tokens and tiles");
}

/* Which row of W_r each column of dz meets: see router_gradients. */
moe_status list_dz_rows(Layer *layer) {
    return device_check(layer->dev,
                        fill_folded(layer->dz_rows, layer->dz_ld, layer->dz_ld / 2, layer->outputs,
                                    layer->dev->stream),
                        "listing the router's rows");
}

/* b_select in fp32; an operator's may be of that type already. */
moe_status take_select_bias(Layer *layer, const moe_tensors *params) {
    Allocator get = {layer};
    get.get(&layer->b_select, BUFFER_B_SELECT);
    if (get.status)
        return get.status;
    if (layer->arena) {
        const moe_view *v = &layer->arena->call->t[MOE_T_B_SELECT];
        if (v->dtype != MOE_F32)
            return device_check(
                layer->dev,
                widen(layer->dtype, v->data, layer->outputs, layer->b_select, layer->dev->stream),
                "b_select");
        layer->b_select = static_cast<float *>(v->data);
        return MOE_OK;
    }
    moe_tensor b = {};
    moe_status status = moe_tensor_cast(&params->t[MOE_T_B_SELECT], MOE_F32, &b);
    if (!status)
        status = layer_upload(layer, layer->b_select, b.data,
                              (size_t)layer->sizes.bytes[BUFFER_B_SELECT]);
    moe_tensor_destroy(&b);
    return status;
}

moe_status prepare_router(Layer *layer, const moe_tensors *params) {
    const moe_router_desc *r = &layer->desc.router;
    moe_status status = layer_take_parameter(layer, params, MOE_T_W_R, BUFFER_W_R, &layer->w_r);
    if (!status && r->bias)
        status = layer_take_parameter(layer, params, MOE_T_B_R, BUFFER_B_R, &layer->b_r);
    if (!status && r->select_bias)
        status = take_select_bias(layer, params);
    Allocator get = {layer, status};
    get.get(&layer->logits, BUFFER_LOGITS);
    get.get(&layer->choice, BUFFER_CHOICE);
    get.get(&layer->choice_weight, BUFFER_CHOICE_WEIGHT);
    get.get(&layer->counts, BUFFER_COUNTS);
    get.get(&layer->dz, BUFFER_DZ);
    get.get(&layer->dz_rows, BUFFER_DZ_ROWS);
    get.get(&layer->dx_router, BUFFER_DX_ROUTER);
    get.get(&layer->dw_r, BUFFER_DW_R);
    get.get(&layer->db_r, BUFFER_DB_R);
    return get.status || !layer->dz_rows ? get.status : list_dz_rows(layer);
}

moe_status prepare_shared(Layer *layer, const moe_tensors *params) {
    Experts *x = &layer->shared;
    experts_describe(layer, x, true);
    x->rows = layer->dense;
    moe_status status = experts_prepare(layer, x, params);
    if (!status && layer->desc.shared_gate) {
        status =
            layer_take_parameter(layer, params, MOE_T_W_GATE_SHARED, BUFFER_W_GATE, &layer->w_gate);
        Allocator get = {layer, status};
        get.get(&layer->gate, BUFFER_GATE);
        x->weight = layer->gate;
        get.get(&x->ds, BUFFER_DS_SHARED);
        get.get(&layer->gate_dz, BUFFER_GATE_DZ);
        get.get(&layer->dw_gate, BUFFER_DW_GATE);
        status = get.status;
    }
    return status ? status : experts_alloc_rows(layer, x, layer->T);
}

/* [T][d]; an operator's are its caller's. */
moe_status prepare_activations(Layer *layer) {
    Allocator get = {layer};
    if (layer->home) {
        layer->x = layer->home->x;
        layer->dout = layer->home->dout;
    }
    get.get(&layer->x, BUFFER_X);
    get.get(&layer->o, BUFFER_O);
    get.get(&layer->dout, BUFFER_DOUT);
    get.get(&layer->dx, BUFFER_DX);
    return get.status;
}

/* The caller's choices as the sort takes them: an operator's forward. */
moe_status prepare_slots(Layer *layer) {
    Allocator get = {layer};
    get.get(&layer->choice, BUFFER_CHOICE);
    get.get(&layer->choice_weight, BUFFER_CHOICE_WEIGHT);
    get.get(&layer->counts, BUFFER_COUNTS);
    return get.status;
}

} // namespace

moe_status layer_take_parameter(Layer *layer, const moe_tensors *params, moe_tensor_id id,
                                BufferId to, void **ret) {
    if (layer->arena) {
        *ret = operator_parameter(layer, id);
        return MOE_OK;
    }
    moe_status status = layer_take(layer, to, ret);
    return status ? status
                  : layer_upload(layer, *ret, params->t[id].data, (size_t)layer->sizes.bytes[to]);
}

LayerShape layer_shape(const Layer *layer, int64_t rows) {
    LayerShape s = {};
    s.desc = &layer->desc;
    s.tokens = layer->T;
    s.columns = layer->columns;
    s.rows = rows;
    s.sms = layer->dev->sms;
    s.hopper = layer->dev->hopper;
    s.plan_given = layer->use.plan_given;
    s.backward = layer->use.pass & MOE_PASS_BWD;
    s.of_caller = layer->arena;
    s.keeps = !layer->arena || layer->arena->keeps;
    s.away = layer->home;
    return s;
}

moe_status layer_prepare_all(Layer *layer, const moe_tensors *params) {
    const LayerShape shape = layer_shape(layer, 0);
    const int64_t rows = moe_int_cuda_most_rows(&shape);
    moe_int_cuda_buffers(&shape, &layer->sizes);
    Allocator get = {layer, prepare_activations(layer)};
    Experts *x = &layer->routed;
    experts_describe(layer, x, false);
    x->rows = RowGroups::empty((int)layer->desc.E, layer->outputs, 0);
    get.get(&x->rows.offsets, BUFFER_OFFSETS);
    get.get(&x->rows.tile_offsets, BUFFER_TILE_OFFSETS);
    get.get(&layer->token_offsets, BUFFER_TOKEN_OFFSETS);
    moe_status status = get.status;
    if (!status && !layer->home)
        status = experts_prepare(layer, x, params);
    if (!status)
        status = prepare_dense(layer);
    if (!status)
        status = prepare_token_sums(layer);
    if (!status && !layer->use.plan_given)
        status = prepare_router(layer, params);
    if (!status && layer->desc.n_shared)
        status = prepare_shared(layer, params);
    if (!status && layer->use.plan_given)
        status = prepare_slots(layer);
    if (!status && (layer->arena || !layer->use.plan_given))
        status = experts_alloc_rows(layer, x, (int)rows);
    return status;
}

void layer_describe(Layer *layer, Device *dev, const moe_layer_desc *desc, const moe_use *use) {
    layer->dev = dev;
    layer->desc = *desc;
    layer->use = *use;
    layer->dtype = use->dtype;
    layer->T = (int)use->tokens;
    layer->columns = (int)desc->K;
    layer->outputs = (int)(desc->E + desc->n_zero);
    layer->dz_ld = moe_int_cuda_dz_ld(desc);
    layer->act = {desc->act, (float)desc->act_alpha, (float)desc->act_limit};
}

moe_status layer_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params, void **ret) {
    Device *dev = static_cast<Device *>(device);
    Layer *layer = new (std::nothrow) Layer();
    if (!layer)
        return moe_fail(dev->log, MOE_E_NOMEM, "cuda: no memory for a layer");
    layer_describe(layer, dev, desc, use);
    const OnDevice current(dev);
    moe_status status = current.status;
    if (!status)
        status = layer_prepare_all(layer, params);
    if (status)
        layer_release(layer);
    else
        *ret = layer;
    return status;
}

void layer_release(void *self) {
    Layer *layer = static_cast<Layer *>(self);
    if (!layer)
        return;
    for (const Buffer &b : layer->buffers)
        cudaFree(b.data);
    timer_destroy(&layer->forward_timer);
    timer_destroy(&layer->backward_timer);
    moe_plan_destroy(&layer->plan);
    delete layer;
}
