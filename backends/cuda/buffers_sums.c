/* What the buffers of a layer add up to. */
#include "backends/cuda/buffers.h"

moe_memory moe_int_cuda_memory(const LayerBuffers *b) {
    int64_t sum[BUFFER_KINDS] = {0};
    for (int i = 0; i < BUFFER_COUNT; i++)
        sum[b->kind[i]] += b->bytes[i] > 0 ? b->bytes[i] : 0;
    const int64_t cached = sum[BUFFER_CACHED];
    return (moe_memory){sum[BUFFER_WEIGHTS], cached, cached + sum[BUFFER_WORK]};
}

int64_t moe_int_cuda_padded(int64_t bytes) {
    return (bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
}

bool moe_int_cuda_is_cached(BufferKind kind, bool keeps) {
    return kind == BUFFER_CACHED && keeps;
}

/* Of one call, `cached` or workspace, with room to align it. */
static int64_t part_bytes(const LayerShape *s, bool cached) {
    LayerBuffers b;
    int64_t sum = 0;
    moe_int_cuda_buffers(s, &b);
    for (int i = 0; i < BUFFER_COUNT; i++)
        if (b.bytes[i] > 0 && moe_int_cuda_is_cached(b.kind[i], s->keeps) == cached)
            sum += moe_int_cuda_padded(b.bytes[i]);
    return sum ? sum + BUFFER_ALIGN : 0;
}

moe_operator_sizes moe_int_cuda_operator_sizes(const LayerShape *shape, bool trains) {
    LayerShape s = *shape;
    moe_operator_sizes sizes = {.columns = s.columns};
    s.of_caller = true;
    s.keeps = trains;
    s.backward = false;
    s.rows = moe_int_cuda_most_rows(&s);
    sizes.cached = part_bytes(&s, true);
    sizes.forward = part_bytes(&s, false);
    s.backward = true;
    if (trains)
        sizes.backward = part_bytes(&s, false);
    return sizes;
}

/* ---- parameters in another order than the kernels' ---- */

const moe_tensor_id moe_int_cuda_convertible[BUFFERS_CONVERTIBLE] = {
    MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_W1_SHARED, MOE_T_W2_SHARED};

bool moe_int_cuda_is_interleaved(const moe_layer_desc *desc, moe_tensor_id id) {
    const bool first = id == MOE_T_W1 || id == MOE_T_B1 || id == MOE_T_DW1 || id == MOE_T_DB1;
    return first && desc->glu_layout == MOE_GLU_INTERLEAVED && moe_act_is_gated(desc->act);
}

bool moe_int_cuda_is_row_major(const moe_view *v) {
    const int last = v->ndim - 1;
    return last < 1 || ((v->shape[last] == 1 || v->stride[last] == 1) &&
                        (v->shape[last - 1] == 1 || v->stride[last - 1] == v->shape[last]));
}

/* 0: it is used where it is. */
static int64_t converted_bytes_of(const moe_layer_desc *desc, const moe_call *call,
                                  moe_tensor_id id) {
    const moe_view *v = &call->t[id];
    int64_t bytes = 2;
    if (v->ndim == 0 || (moe_int_cuda_is_row_major(v) && !moe_int_cuda_is_interleaved(desc, id)))
        return 0;
    for (int i = 0; i < v->ndim; i++)
        bytes *= v->shape[i];
    return moe_int_cuda_padded(bytes);
}

int64_t moe_int_cuda_converted_at(const moe_layer_desc *desc, const moe_call *call,
                                  moe_tensor_id id) {
    int64_t at = 0;
    for (int i = 0; i < BUFFERS_CONVERTIBLE; i++) {
        const int64_t bytes = converted_bytes_of(desc, call, moe_int_cuda_convertible[i]);
        if (moe_int_cuda_convertible[i] == id)
            return bytes ? at : -1;
        at += bytes;
    }
    return -1;
}

int64_t moe_int_cuda_converted_bytes(const moe_layer_desc *desc, const moe_call *call) {
    int64_t sum = 0;
    for (int i = 0; i < BUFFERS_CONVERTIBLE; i++)
        sum += converted_bytes_of(desc, call, moe_int_cuda_convertible[i]);
    return sum ? sum + BUFFER_ALIGN : 0; /* the base need not be aligned so far */
}
