/* A group of experts in device memory: weights, gate rows before up rows, and buffers for as many
 * rows as a plan has. */
#include "prepare.h"

#include <stdlib.h>
#include <string.h>

namespace {

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
        return layer_take_parameter(layer, params, id, to, ret);
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

} // namespace

void experts_describe(const Layer *layer, Experts *x, bool shared) {
    const moe_layer_desc *desc = &layer->desc;
    x->shared = shared;
    x->n = (int)(shared ? desc->n_shared : desc->n);
    x->hw = (int)moe_h_width(desc, x->n);
    static_assert(MOE_GLU_COUNT == 2 && MOE_WEIGHT_ON_COUNT == 2, "one flag each");
    x->interleaved = !shared && x->hw != x->n && desc->glu_layout == MOE_GLU_INTERLEAVED;
    x->on_input = !shared && desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    x->hopper = layer->dev->hopper && desc->d % 64 == 0 && x->n % 64 == 0;
}

moe_status experts_prepare(Layer *layer, Experts *x, const moe_tensors *params) {
    const size_t row = (size_t)layer->desc.d * 2;
    const bool bias = layer->desc.expert_bias && !x->shared;
    const BufferId w1 = buffer_of_experts(BUFFER_W1, x->shared),
                   w2 = buffer_of_experts(BUFFER_W2, x->shared);
    moe_status status =
        take_up(layer, x, params, x->shared ? MOE_T_W1_SHARED : MOE_T_W1, row, w1, &x->w1);
    if (!status)
        status =
            layer_take_parameter(layer, params, x->shared ? MOE_T_W2_SHARED : MOE_T_W2, w2, &x->w2);
    if (!status && bias)
        status = take_up(layer, x, params, MOE_T_B1, 2, BUFFER_B1, &x->b1);
    if (!status && bias)
        status = layer_take_parameter(layer, params, MOE_T_B2, BUFFER_B2, &x->b2);
    Allocator get = {layer, status};
    get.get(&x->dw1, buffer_of_experts(BUFFER_DW1, x->shared));
    get.get(&x->dw2, buffer_of_experts(BUFFER_DW2, x->shared));
    get.get(&x->db1, buffer_of_experts(BUFFER_DB1, x->shared));
    get.get(&x->db2, buffer_of_experts(BUFFER_DB2, x->shared));
    return get.status;
}

moe_status experts_alloc_rows(Layer *layer, Experts *x, int rows) {
    const int cap = rows > 0 ? rows : 1;
    if (x->h && cap == x->rows.cap)
        return MOE_OK;
    const LayerShape shape = layer_shape(layer, cap);
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
