/* Preparing a layer: parameters to the device (gate rows before up rows), buffers of known size. */
#include "layer.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace {

/* Nothing is launched: only sizes are asked for. */
bool is_dry(const Layer *layer) {
    return layer->arena && layer->arena->dry;
}

/* Uploads a parameter in the layer's element type; an operator's lies where its caller has it. */
moe_status take_tensor(Layer *layer, const moe_tensors *params, moe_tensor_id id, void **ret) {
    if (layer->arena) {
        *ret = operator_parameter(layer, id);
        return MOE_OK;
    }
    const moe_tensor *t = &params->t[id];
    size_t bytes = (size_t)moe_tensor_bytes(t);
    moe_status status = layer_alloc(layer, bytes, BUFFER_WEIGHTS, ret);
    return status ? status : layer_upload(layer, *ret, t->data, bytes);
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
                   size_t row, void **ret) {
    if (!x->interleaved || layer->arena)
        return take_tensor(layer, params, id, ret);
    const moe_tensor *t = &params->t[id];
    size_t bytes = (size_t)moe_tensor_bytes(t);
    char *packed = static_cast<char *>(malloc(bytes));
    if (!packed)
        return moe_fail(layer->dev->log, MOE_E_NOMEM, "cuda: no memory to repack W1");
    separate_rows(static_cast<const char *>(t->data), packed, x->rows.E, x->n, row);
    moe_status status = layer_alloc(layer, bytes, BUFFER_WEIGHTS, ret);
    if (!status)
        status = layer_upload(layer, *ret, packed, bytes);
    free(packed);
    return status;
}

/* Several buffers in one call chain: stops at the first failure. */
struct Allocator {
    Layer *layer;
    moe_status status = MOE_OK;
    template <class P> void get(P **ret, size_t bytes, BufferKind kind) {
        void *data = nullptr;
        if (!status)
            status = layer_alloc(layer, bytes, kind, &data);
        *ret = static_cast<P *>(data);
    }
    template <class P> void drop(P **data) {
        layer_free(layer, (void *)*data);
        *data = nullptr;
    }
};

moe_status prepare_experts(Layer *layer, Experts *x, const moe_tensors *params) {
    const size_t d = (size_t)layer->desc.d, E = (size_t)x->rows.E, n = (size_t)x->n,
                 hw = (size_t)x->hw;
    const bool bias = layer->desc.expert_bias && !x->shared;
    moe_status status =
        take_up(layer, x, params, x->shared ? MOE_T_W1_SHARED : MOE_T_W1, d * 2, &x->w1);
    if (!status)
        status = take_tensor(layer, params, x->shared ? MOE_T_W2_SHARED : MOE_T_W2, &x->w2);
    if (!status && bias)
        status = take_up(layer, x, params, MOE_T_B1, 2, &x->b1);
    if (!status && bias)
        status = take_tensor(layer, params, MOE_T_B2, &x->b2);
    if (status || !(layer->use.pass & MOE_PASS_BWD))
        return status;
    Allocator get = {layer};
    if (!layer->arena) { /* an operator's are its caller's */
        get.get(&x->dw1, E * hw * d * 2, BUFFER_GRADIENTS);
        get.get(&x->dw2, E * d * n * 2, BUFFER_GRADIENTS);
    }
    if (bias) {
        get.get(&x->db1, E * hw * 4, BUFFER_GRADIENTS);
        get.get(&x->db2, E * d * 4, BUFFER_GRADIENTS);
    }
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
    get.get(&r->offsets, 2 * sizeof(int), BUFFER_WORK);
    get.get(&r->tile_offsets, 2 * sizeof(int), BUFFER_WORK);
    get.get(&r->tiles, (size_t)row_tiles_cap(T, 1) * sizeof *r->tiles, BUFFER_WORK);
    get.get(&r->token, (size_t)T * 4, BUFFER_WORK);
    if (get.status || is_dry(layer))
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
    if (is_dry(layer))
        return MOE_OK;
    return device_check(layer->dev,
                        fill_folded(layer->dz_rows, layer->dz_ld, layer->dz_ld / 2, layer->outputs,
                                    layer->dev->stream),
                        "listing the router's rows");
}

/* b_select in fp32; an operator's may be of that type already. */
moe_status take_select_bias(Layer *layer, const moe_tensors *params) {
    const size_t outputs = (size_t)layer->outputs;
    Allocator get = {layer};
    get.get(&layer->b_select, outputs * 4, layer->arena ? BUFFER_WORK : BUFFER_WEIGHTS);
    if (get.status || is_dry(layer))
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
        status = layer_upload(layer, layer->b_select, b.data, outputs * 4);
    moe_tensor_destroy(&b);
    return status;
}

/* How often each expert is chosen in each chunk of the tokens. */
size_t counts_bytes(const Layer *layer) {
    const int chunk = sort_chunk(layer->T, layer->dev->sms);
    return (size_t)((layer->T + chunk - 1) / chunk) * (size_t)layer->outputs * 4;
}

moe_status prepare_router(Layer *layer, const moe_tensors *params) {
    const size_t T = (size_t)layer->T, outputs = (size_t)layer->outputs, K = (size_t)layer->desc.K;
    const moe_router_desc *r = &layer->desc.router;
    moe_status status = take_tensor(layer, params, MOE_T_W_R, &layer->w_r);
    if (!status && r->bias)
        status = take_tensor(layer, params, MOE_T_B_R, &layer->b_r);
    if (!status && r->select_bias)
        status = take_select_bias(layer, params);
    Allocator get = {layer, status};
    get.get(&layer->logits, T * outputs * 4, BUFFER_CACHED);
    get.get(&layer->choice, T * K * 4, BUFFER_CACHED);
    get.get(&layer->choice_weight, T * K * 4, BUFFER_WORK);
    get.get(&layer->counts, counts_bytes(layer), BUFFER_WORK);
    if (!(layer->use.pass & MOE_PASS_BWD))
        return get.status;
    get.get(&layer->dz, T * (size_t)layer->dz_ld * 2, BUFFER_WORK);
    get.get(&layer->dz_rows, (size_t)layer->dz_ld * 4, BUFFER_WORK);
    get.get(&layer->dx_router, T * (size_t)layer->desc.d * 4, BUFFER_WORK);
    get.get(&layer->dw_r, outputs * (size_t)layer->desc.d * 4, BUFFER_GRADIENTS);
    if (r->bias)
        get.get(&layer->db_r, outputs * 4, BUFFER_GRADIENTS);
    return get.status ? get.status : list_dz_rows(layer);
}

moe_status prepare_shared(Layer *layer, const moe_tensors *params) {
    const size_t T = (size_t)layer->T;
    Experts *x = &layer->shared;
    describe_experts(layer, x, true);
    x->rows = layer->dense;
    moe_status status = prepare_experts(layer, x, params);
    if (!status && layer->desc.shared_gate) {
        status = take_tensor(layer, params, MOE_T_W_GATE_SHARED, &layer->w_gate);
        Allocator get = {layer, status};
        get.get(&layer->gate, T * 4, BUFFER_CACHED);
        x->weight = layer->gate;
        if (layer->use.pass & MOE_PASS_BWD) {
            get.get(&x->ds, T * 4, BUFFER_WORK);
            get.get(&layer->gate_dz, T * 4, BUFFER_WORK);
            get.get(&layer->dw_gate, (size_t)layer->desc.d * 4, BUFFER_GRADIENTS);
        }
        status = get.status;
    }
    return status ? status : experts_alloc_rows(layer, x, layer->T);
}

/* [T][d]; an operator's are its caller's. */
moe_status prepare_activations(Layer *layer) {
    const size_t bytes = (size_t)layer->T * (size_t)layer->desc.d * 2;
    Allocator get = {layer};
    if (layer->arena)
        return MOE_OK;
    if (layer->home) {
        layer->x = layer->home->x;
        layer->dout = layer->home->dout;
    } else {
        get.get(&layer->x, bytes, BUFFER_CACHED);
    }
    get.get(&layer->o, bytes, BUFFER_WORK);
    if (layer->use.pass & MOE_PASS_BWD) {
        if (!layer->home)
            get.get(&layer->dout, bytes, BUFFER_WORK);
        get.get(&layer->dx, bytes, BUFFER_WORK);
    }
    return get.status;
}

/* The caller's choices as the sort takes them: an operator's forward. */
moe_status prepare_slots(Layer *layer) {
    const size_t slots = (size_t)layer->T * (size_t)layer->columns;
    Allocator get = {layer};
    if (!layer->arena || layer->arena->backward)
        return MOE_OK;
    get.get(&layer->choice, slots * 4, BUFFER_WORK);
    get.get(&layer->choice_weight, slots * 4, BUFFER_WORK);
    get.get(&layer->counts, counts_bytes(layer), BUFFER_WORK);
    return get.status;
}

int64_t most_rows(const Layer *layer) {
    return layer->use.plan_given ? (int64_t)layer->T * layer->columns : layer_most_pairs(layer);
}

} // namespace

moe_status layer_prepare_all(Layer *layer, const moe_tensors *params) {
    const size_t T = (size_t)layer->T, bins = (size_t)layer->outputs;
    Allocator get = {layer, prepare_activations(layer)};
    Experts *x = &layer->routed;
    describe_experts(layer, x, false);
    x->rows = RowGroups::empty((int)layer->desc.E, layer->outputs, 0);
    get.get(&x->rows.offsets, (bins + 1) * 4, BUFFER_CACHED);
    get.get(&x->rows.tile_offsets, ((size_t)layer->desc.E + 1) * 4, BUFFER_CACHED);
    get.get(&layer->token_offsets, (T + 1) * 4, BUFFER_CACHED);
    moe_status status = get.status;
    if (!status && !layer->home)
        status = prepare_experts(layer, x, params);
    if (!status && (!layer->use.plan_given || layer->desc.n_shared))
        status = prepare_dense(layer);
    if (!status && layer->use.pass & MOE_PASS_BWD &&
        (!layer->use.plan_given || layer->desc.shared_gate))
        status = prepare_token_sums(layer, layer->use.plan_given ? 1 : layer->dz_ld);
    if (!status && !layer->use.plan_given)
        status = prepare_router(layer, params);
    if (!status && layer->desc.n_shared)
        status = prepare_shared(layer, params);
    if (!status && layer->use.plan_given)
        status = prepare_slots(layer);
    if (!status && (layer->arena || !layer->use.plan_given))
        status = experts_alloc_rows(layer, x, (int)most_rows(layer));
    return status;
}

moe_status experts_alloc_rows(Layer *layer, Experts *x, int rows) {
    const size_t d = (size_t)layer->desc.d, n = (size_t)x->n, hw = (size_t)x->hw;
    const bool backward = layer->use.pass & MOE_PASS_BWD;
    const int cap = rows > 0 ? rows : 1;
    if (x->h && cap == x->rows.cap)
        return MOE_OK;
    const size_t R = (size_t)cap, parts = (n + HOPPER_BN - 1) / HOPPER_BN;
    Allocator get = {layer};
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
        get.get(&x->rows.tiles, (size_t)row_tiles_cap(cap, x->rows.E) * sizeof(RowTile),
                BUFFER_CACHED);
        get.get(&x->rows.token, R * 4, BUFFER_CACHED);
        get.get(&x->rows.weight, R * 4, BUFFER_CACHED);
        get.get(&layer->pair_of_token, R * 4, BUFFER_CACHED);
        x->weight = x->on_input ? nullptr : x->rows.weight;
        if (backward)
            get.get(&x->ds, R * 4, BUFFER_WORK);
    }
    if (layer->home && !x->shared)
        return get.status;
    const bool keeps = !layer->arena || layer->arena->keeps;
    if (keeps || !x->hopper || hw == n) /* else A alone is stored */
        get.get(&x->h, R * hw * 2, BUFFER_CACHED);
    get.get(&x->a, R * n * 2, BUFFER_WORK);
    get.get(&x->y, R * d * 2, BUFFER_WORK);
    if (backward) {
        get.get(&x->dh, R * hw * 2, BUFFER_WORK);
        get.get(&x->ds_part, R * parts * 4, BUFFER_WORK);
        if (!x->hopper || hw == n)
            get.get(&x->da, R * n * 4, BUFFER_WORK);
        if (x->on_input)
            get.get(&x->dh_scaled, R * hw * 2, BUFFER_WORK);
    }
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
    layer->dz_ld = 2 * ((layer->outputs + 7) / 8 * 8);
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
