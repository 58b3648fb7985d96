/* Handing results out: what is kept, and A and Y made again from H. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>

static const void *buffer_of(const ob_layer *layer, ob_buffer_id id) {
    return layer->buffer[id].data;
}

/* Where a result lies, or NULL. */
static const void *kept(const ob_layer *layer, moe_tensor_id id, moe_dtype *dtype) {
    *dtype = MOE_F32;
    switch ((int)id) {
    case MOE_T_LOGITS:
        *dtype = MOE_F64;
        return buffer_of(layer, OB_BUF_LOGITS);
    case MOE_T_S:
        *dtype = MOE_F64;
        return layer->plan->weight;
    case MOE_T_DS:
        *dtype = MOE_F64;
        return buffer_of(layer, OB_BUF_DS);
    case MOE_T_H:
        return buffer_of(layer, OB_BUF_H);
    case MOE_T_O:
        return buffer_of(layer, OB_BUF_O);
    case MOE_T_DH:
        return buffer_of(layer, OB_BUF_DH);
    case MOE_T_DXP: /* the last use of the work buffer in backward */
        return buffer_of(layer, OB_BUF_WORK);
    case MOE_T_DX:
        return buffer_of(layer, OB_BUF_DX);
    default:
        return layer->gradient.t[id].data;
    }
}

static moe_status recompute(ob_layer *layer, moe_tensor_id id, float *ret) {
    const ob_experts *experts = &layer->routed;
    if (id == MOE_T_Y)
        return ob_recompute_Y(layer, ret);
    for (int64_t r = 0; r < experts->rows; r++)
        ob_act_forward(&experts->act, experts->H + r * experts->width, ret + r * experts->n);
    return MOE_OK;
}

moe_status ob_layer_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    ob_layer *layer = self;
    size_t count = (size_t)moe_tensor_count(dst);
    if (id != MOE_T_A && id != MOE_T_Y) {
        moe_dtype dtype;
        const void *src = kept(layer, id, &dtype);
        if (!src)
            return moe_fail(layer->dev->log, MOE_E_UNSUPPORTED, "openblas does not keep %s",
                            moe_tensor_name(id));
        moe_convert(dst->data, dst->dtype, src, dtype, count);
        return MOE_OK;
    }
    float *fresh = malloc((count ? count : 1) * sizeof *fresh);
    moe_status status = fresh
                            ? recompute(layer, id, fresh)
                            : moe_fail(layer->dev->log, MOE_E_NOMEM,
                                       "openblas: no memory to recompute %s", moe_tensor_name(id));
    if (!status)
        moe_convert(dst->data, dst->dtype, fresh, MOE_F32, count);
    free(fresh);
    return status;
}

moe_status ob_layer_routing(void *self, const moe_plan **ret) {
    *ret = ((ob_layer *)self)->plan;
    return MOE_OK;
}

size_t ob_layer_timings(void *self, moe_cost *ret, size_t capacity) {
    const ob_layer *layer = self;
    const int64_t pairs = layer->routed.rows;
    size_t count = 0;
    for (int s = 0; s < MOE_STAGE_COUNT; s++) {
        double elements;
        if (layer->us[s] <= 0)
            continue;
        if (count < capacity) {
            moe_cost cost = {.us = layer->us[s]};
            snprintf(cost.name, sizeof cost.name, "%s", moe_stage_name((moe_stage)s));
            moe_stage_work(&layer->desc, (moe_stage)s, layer->T, pairs, layer->desc.E, &cost.flops,
                           &elements);
            ret[count] = cost;
        }
        count++;
    }
    return count;
}
