/* Preparing a layer: parameters to the device (gate rows before up rows), buffers of known size. */
#include "layer.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace {

/* Uploads a parameter in the layer's element type; an operator's lies where its caller has it. */
moe_status take_tensor(Layer *layer, const moe_tensors *params, moe_tensor_id id, BufferId to,
                       void **ret) {
    if (layer->arena) {
        *ret = operator_parameter(layer, id);
        return MOE_OK;
    }
    moe_status status = layer_take(layer, to, ret);
    return status ? status
                  : layer_upload(layer, *ret, params->t[id].data, (size_t)layer->sizes.bytes[to]);
}

/* Interleaved rows (gate, up, gate ...) of each of `experts` blocks, `row` bytes each, become gate
 * rows followed by up rows. */
void separate_rows(const char *src, char *dst, int64_t experts, int64_t n, size_t row) {
    for (int64_t e = 0; e < experts; e++)
        for (int64_t j = 0; j < n; j++)
            for (int up = 0; up < 2; up++)
                memcpy(dst + (size_t)(e * 2 * n + up * n + j) * row,
                       src + (size_t)(e * 2 * n + 2 * j + up) * row, row);
}

moe_status take_up(Layer *layer, const Experts *x, const moe_tensors *params, moe_tensor_id id,
                   size_t row, BufferId to, void **ret) {
    if (!x->interleaved || layer->arena)
        return take_tensor(layer, params, id, to, ret);
    const size_t bytes = (size_t)layer->sizes.bytes[to];
    char *packed = static_cast<char *>(malloc(bytes));
    if (!packed)
        return moe_fail(layer->dev->log, MOE_E_NOMEM, "cuda: no memory to repack W1");
    separate_rows(static_cast<const char *>(params->t[id].data), packed, x->rows.E, x->n, row);
    moe_status status = layer_take(layer, to, ret);
    if (!status)
        status = layer_upload(layer, *ret, packed, bytes);
    free(packed);
    return status;
}

/* Several buffers in one call chain: stops at the first failure. One that the layer does not have
 * is passed over. */
struct Allocator {
    Layer *layer;
    moe_status status = MOE_OK;
    template <class P> void get(P **ret, BufferId id) {
        void *data = *ret;
        if (!status)
            status = layer_take(layer, id, &data);
        *ret = static_cast<P *>(data);
    }
    template <class P> void drop(P **data) {
        layer_free(layer, (void *)*data);
        *data = nullptr;
    }
};

moe_status prepare_experts(Layer *layer, Experts *x, const moe_tensors *params) {
    const size_t row = (size_t)layer->desc.d * 2;
    const bool bias = layer->desc.expert_bias && !x->shared;
    const BufferId w1 = buffer_of_experts(BUFFER_W1, x->shared),
                   w2 = buffer_of_experts(BUFFER_W2, x->shared);
    moe_status status =
        take_up(layer, x, params, x->shared ? MOE_T_W1_SHARED : MOE_T_W1, row, w1, &x->w1);
    if (!status)
        status = take_tensor(layer, params, x->shared ? MOE_T_W2_SHARED : MOE_T_W2, w2, &x->w2);
    if (!status && bias)
        status = take_up(layer, x, params, MOE_T_B1, 2, BUFFER_B1, &x->b1);
    if (!status && bias)
        status = take_tensor(layer, params, MOE_T_B2, BUFFER_B2, &x->b2);
    Allocator get = {layer, status};
    get.get(&x->dw1, buffer_of_experts(BUFFER_DW1, x->shared));
    get.get(&x->dw2, buffer_of_experts(BUFFER_DW2, x->shared));
    get.get(&x->db1, buffer_of_experts(BUFFER_DB1, x->shared));
    get.get(&x->db2, buffer_of_experts(BUFFER_DB2, x->shared));
    return get.status;
}

void describe_experts(const Layer *layer, Experts *x, bool shared) {
    const moe_layer_desc *desc = &layer->desc;
    x->shared = shared;
    x->n = (int)(shared ? desc->n_shared : desc->n);
    x->hw = (int)moe_h_width(desc, x->n);
    static_assert(MOE_GLU_COUNT == 2 && MOE_WEIGHT_ON_COUNT == 2, "one flag each");
    x->interleaved = !shared && x->hw != x->n && desc->glu_layout == MOE_GLU_INTERLEAVED;
    x->on_input = !shared && desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    x->hopper = layer->dev->hopper && desc->d % 64 == 0 && x->n % 64 == 0;
}

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
    moe_status status = take_tensor(layer, params, MOE_T_W_R, BUFFER_W_R, &layer->w_r);
    if (!status && r->bias)
        status = take_tensor(layer, params, MOE_T_B_R, BUFFER_B_R, &layer->b_r);
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
    describe_experts(layer, x, true);
    x->rows = layer->dense;
    moe_status status = prepare_experts(layer, x, params);
    if (!status && layer->desc.shared_gate) {
        status = take_tensor(layer, params, MOE_T_W_GATE_SHARED, BUFFER_W_GATE, &layer->w_gate);
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

LayerShape shape_of(const Layer *layer, int64_t rows) {
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

} // namespace

moe_status layer_prepare_all(Layer *layer, const moe_tensors *params) {
    const LayerShape shape = shape_of(layer, 0);
    const int64_t rows = moe_int_cuda_most_rows(&shape);
    moe_int_cuda_buffers(&shape, &layer->sizes);
    Allocator get = {layer, prepare_activations(layer)};
    Experts *x = &layer->routed;
    describe_experts(layer, x, false);
    x->rows = RowGroups::empty((int)layer->desc.E, layer->outputs, 0);
    get.get(&x->rows.offsets, BUFFER_OFFSETS);
    get.get(&x->rows.tile_offsets, BUFFER_TILE_OFFSETS);
    get.get(&layer->token_offsets, BUFFER_TOKEN_OFFSETS);
    moe_status status = get.status;
    if (!status && !layer->home)
        status = prepare_experts(layer, x, params);
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

moe_status experts_alloc_rows(Layer *layer, Experts *x, int rows) {
    const int cap = rows > 0 ? rows : 1;
    if (x->h && cap == x->rows.cap)
        return MOE_OK;
    const LayerShape shape = shape_of(layer, cap);
    const auto of = [&](BufferId id) { return buffer_of_experts(id, x->shared); };
    Allocator get = {layer};
    if (!x->shared)
        moe_int_cuda_buffers(&shape, &layer->sizes);
    for (void **old : {&x->h, &x->a, &x->y, &x->dh, &x->dh_scaled})
        get.drop(old);
    get.drop(&x->ds_part);
    get.drop(&x->da);
    x->rows.cap = cap;
    if (!x->shared) {
        get.drop(&x->rows.tiles);
        get.drop(&x->rows.token);
        get.drop(&x->rows.weight);
        get.drop(&layer->pair_of_token);
        get.drop(&x->ds);
        get.get(&x->rows.tiles, BUFFER_TILES);
        get.get(&x->rows.token, BUFFER_TOKEN);
        get.get(&x->rows.weight, BUFFER_WEIGHT);
        get.get(&layer->pair_of_token, BUFFER_PAIR_OF_TOKEN);
        x->weight = x->on_input ? nullptr : x->rows.weight;
        get.get(&x->ds, BUFFER_DS);
    }
    if (layer->home && !x->shared)
        return get.status;
    get.get(&x->h, of(BUFFER_H));
    get.get(&x->a, of(BUFFER_A));
    get.get(&x->y, of(BUFFER_Y));
    get.get(&x->dh, of(BUFFER_DH));
    get.get(&x->ds_part, of(BUFFER_DS_PART));
    get.get(&x->da, of(BUFFER_DA));
    get.get(&x->dh_scaled, of(BUFFER_DH_SCALED));
    return get.status ? get.status : experts_make_maps(layer, x);
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
