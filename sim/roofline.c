/* A roofline over the layer's stages. */
#include "moeref/roofline.h"

#include <stdio.h>

moe_status moe_stage_cost(const moe_layer_desc *desc, moe_stage stage, int64_t tokens,
                          int64_t pairs, int64_t active, size_t size, moe_cost *ret) {
    moe_cost cost = {0};
    double elements;
    const moe_status status =
        moe_stage_work(desc, stage, tokens, pairs, active, &cost.flops, &elements);
    if (status)
        return status;
    snprintf(cost.name, sizeof cost.name, "%s", moe_stage_name(stage));
    cost.hbm_bytes = elements * (double)size;
    *ret = cost;
    return MOE_OK;
}

void moe_roofline_time(const moe_roofline *roofline, moe_cost *cost) {
    double gemm = 1e6 * cost->flops / roofline->gemm_flops;
    double memory = 1e6 * cost->hbm_bytes / roofline->memory_rate;
    cost->us = cost->floor_us = gemm > memory ? gemm : memory;
    snprintf(cost->bound_by, sizeof cost->bound_by, "%s", gemm > memory ? "gemm" : "memory");
}
