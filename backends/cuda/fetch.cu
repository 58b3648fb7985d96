/* Handing results out: copy, put gated rows and columns back into the layer's layout, convert. A
 * and A', Y and dX~ share a buffer: what was overwritten is computed again, with the same bits. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

namespace {

/* Where a tensor lies on the device and how. */
struct Source {
    const void *data;
    moe_dtype dtype;
    int64_t blocks, n,
        run; /* interleaved: [blocks][2][n][run] on the device, [blocks][n][2][run] outside */
};

moe_status recompute(Layer *layer, moe_tensor_id id) {
    Experts *x = &layer->routed;
    moe_status status = MOE_OK;
    if ((id == MOE_T_A && x->a_is_gradient) ||
        (id == MOE_T_Y && x->y_is_gradient && x->a_is_gradient))
        status = experts_up(layer, x, nullptr);
    if (!status && id == MOE_T_Y && x->y_is_gradient)
        status = experts_down(layer, x, nullptr);
    if (!status && id == MOE_T_DXP && !x->y_is_gradient)
        status = experts_dxp(layer, x, nullptr);
    return status ? status
                  : device_check(layer->dev, cudaStreamSynchronize(layer->dev->stream),
                                 "recomputing a stage");
}

Source source_of(const Layer *layer, moe_tensor_id id) {
    const Experts *x = &layer->routed, *shared = &layer->shared;
    const moe_dtype t = (moe_dtype)layer->dtype;
    const int64_t E = x->rows.E, n = x->interleaved ? x->n : 0, d = layer->desc.d;
    switch ((int)id) {
    case MOE_T_LOGITS:
        return {layer->logits, MOE_F32, 0, 0, 0};
    case MOE_T_S:
        return {x->rows.weight, MOE_F32, 0, 0, 0};
    case MOE_T_H:
        return {x->h, t, -1, n, 1};
    case MOE_T_A:
        return {x->a, t, 0, 0, 0};
    case MOE_T_Y:
        return {x->y, t, 0, 0, 0};
    case MOE_T_O:
        return {layer->o, t, 0, 0, 0};
    case MOE_T_DS:
        return {x->ds, MOE_F32, 0, 0, 0};
    case MOE_T_DH:
        return {x->dh, t, -1, n, 1};
    case MOE_T_DXP:
        return {x->y, t, 0, 0, 0};
    case MOE_T_DX:
        return {layer->dx, t, 0, 0, 0};
    case MOE_T_DW_R:
        return {layer->dw_r, MOE_F32, 0, 0, 0};
    case MOE_T_DB_R:
        return {layer->db_r, MOE_F32, 0, 0, 0};
    case MOE_T_DW1:
        return {x->dw1, t, E, n, d};
    case MOE_T_DB1:
        return {x->db1, MOE_F32, E, n, 1};
    case MOE_T_DW2:
        return {x->dw2, t, 0, 0, 0};
    case MOE_T_DB2:
        return {x->db2, MOE_F32, 0, 0, 0};
    case MOE_T_DW1_SHARED:
        return {shared->dw1, t, 0, 0, 0};
    case MOE_T_DW2_SHARED:
        return {shared->dw2, t, 0, 0, 0};
    case MOE_T_DW_GATE_SHARED:
        return {layer->dw_gate, MOE_F32, 0, 0, 0};
    default:
        return {nullptr, t, 0, 0, 0};
    }
}

/* Gate and up apart -> gate, up, gate, up. */
void interleave(const char *src, char *dst, int64_t blocks, int64_t n, size_t run) {
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t j = 0; j < n; j++)
            for (int up = 0; up < 2; up++)
                memcpy(dst + (size_t)(b * 2 * n + 2 * j + up) * run,
                       src + (size_t)(b * 2 * n + up * n + j) * run, run);
}

} // namespace

moe_status layer_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    Layer *layer = static_cast<Layer *>(self);
    const OnDevice current(layer->dev);
    moe_status status = current.status ? current.status : recompute(layer, id);
    if (status)
        return status;
    Source from = source_of(layer, id);
    if (!from.data)
        return moe_fail(layer->dev->log, MOE_E_UNSUPPORTED, "cuda does not keep %s",
                        moe_tensor_name(id));
    const size_t count = (size_t)moe_tensor_count(dst), size = moe_dtype_size(from.dtype);
    char *raw = static_cast<char *>(malloc(count * size + 1)), *ordered = nullptr;
    if (raw && from.n)
        ordered = static_cast<char *>(malloc(count * size + 1));
    status = raw && (ordered || !from.n)
                 ? layer_download(layer, raw, from.data, count * size)
                 : moe_fail(layer->dev->log, MOE_E_NOMEM, "cuda: no memory to fetch %s",
                            moe_tensor_name(id));
    if (!status && ordered) {
        const int64_t per_block = 2 * from.n * from.run;
        interleave(raw, ordered, from.blocks < 0 ? (int64_t)count / per_block : from.blocks, from.n,
                   (size_t)from.run * size);
    }
    if (!status)
        moe_convert(dst->data, dst->dtype, ordered ? ordered : raw, from.dtype, count);
    free(raw);
    free(ordered);
    return status;
}
