/* What a stage takes in a prediction, and the names of passes. */
#include "moeref/model.h"

#include <string.h>

const char *moe_pass_sum_name(moe_pass_sum sum) {
    static const char *const names[MOE_PASS_SUMS] = {"forward", "backward", "total"};
    return names[sum];
}

static void add(const moe_kernel *k, moe_kernel *all) {
    moe_cost *sum = &all->cost;
    const moe_cost *cost = &k->cost;
    all->least_us += k->least_us;
    sum->us += cost->us;
    sum->floor_us += cost->floor_us;
    sum->flops += cost->flops;
    sum->hbm_bytes += cost->hbm_bytes;
    sum->l2_bytes += cost->l2_bytes;
    sum->tiles += cost->tiles;
    sum->waves += cost->waves;
}

static bool is_itself(const moe_kernel *k, moe_stage stage) {
    return k->stage == (int32_t)stage;
}

/* Other systems' kernels may run in another pass than the stage that they are part of. */
static bool is_part(const moe_kernel *k, moe_stage stage) {
    const int32_t pass = k->backward ? MOE_PASS_BWD : MOE_PASS_FWD;
    return k->stage != MOE_STAGE_COUNT && (moe_stage_info_of(stage).pass & pass) &&
           moe_stage_info_of((moe_stage)k->stage).part_of == stage;
}

/* Adds up the kernels that belong; false: none does. */
static bool sum_kernels(const moe_prediction *p, moe_stage stage,
                        bool (*belongs)(const moe_kernel *, moe_stage), moe_kernel *ret) {
    double longest = -1;
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_kernel *k = &p->kernels[i];
        if (!belongs(k, stage))
            continue;
        add(k, ret);
        if (k->cost.us > longest) {
            longest = k->cost.us;
            memcpy(ret->cost.bound_by, k->cost.bound_by, sizeof ret->cost.bound_by);
        }
    }
    return longest >= 0;
}

moe_status moe_prediction_stage(const moe_prediction *p, const char *name, moe_kernel *ret) {
    moe_kernel all = {0};
    moe_stage stage;
    if (moe_stage_parse(name, &stage) ||
        (!sum_kernels(p, stage, is_itself, &all) && !sum_kernels(p, stage, is_part, &all)))
        return MOE_E_NOTFOUND;
    all.stage = (int32_t)stage;
    strncpy(all.cost.name, name, sizeof all.cost.name - 1);
    *ret = all;
    return MOE_OK;
}
