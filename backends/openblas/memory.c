/* The layer's buffers: growing, and counted. */
#include "core/memory.h"
#include "layer.h"

#include <stdlib.h>

moe_status ob_reserve(ob_layer *layer, ob_buffer_id id, size_t bytes) {
    ob_buffer *buffer = &layer->buffer[id];
    if (buffer->data && buffer->bytes >= bytes)
        return MOE_OK;
    free(buffer->data);
    buffer->bytes = 0;
    buffer->data = moe_int_allocate(bytes);
    if (!buffer->data)
        return moe_fail(layer->dev->log, MOE_E_NOMEM,
                        "openblas: no memory for a buffer of %zu bytes", bytes);
    buffer->bytes = bytes;
    return MOE_OK;
}

void ob_buffers_destroy(ob_layer *layer) {
    for (int i = 0; i < OB_BUF_COUNT; i++)
        free(layer->buffer[i].data);
}

static int64_t plan_bytes(const moe_plan *plan) {
    return (plan->n_experts + plan->n_tokens + 2) * (int64_t)sizeof(int64_t) +
           plan->n_pairs *
               (int64_t)(sizeof *plan->token + sizeof *plan->weight + sizeof *plan->pair_of_token);
}

static int64_t tensor_bytes(const moe_tensor *t) {
    return t->data ? moe_tensor_bytes(t) : 0;
}

/* Nothing is given back between passes, so all buffers together are the peak. */
moe_status ob_layer_memory(void *self, moe_memory *ret) {
    const ob_layer *layer = self;
    moe_memory m = {0};
    for (int i = 0; i < MOE_T_COUNT; i++)
        m.weights += tensor_bytes(&layer->converted.t[i]);
    m.weights += ob_codes_bytes(&layer->W1_codes) + ob_codes_bytes(&layer->W2_codes);
    if (layer->W_r)
        m.weights += layer->R * layer->desc.d * (int64_t)sizeof *layer->W_r;
    if (layer->b_select)
        m.weights += layer->R * (int64_t)sizeof *layer->b_select;
    if (layer->own_plan)
        m.cached += plan_bytes(layer->own_plan);
    for (int i = 0; i <= OB_BUF_LAST_CACHED; i++)
        m.cached += (int64_t)layer->buffer[i].bytes;
    m.peak = m.cached;
    for (int i = OB_BUF_LAST_CACHED + 1; i < OB_BUF_COUNT; i++)
        m.peak += (int64_t)layer->buffer[i].bytes;
    *ret = m;
    return MOE_OK;
}
