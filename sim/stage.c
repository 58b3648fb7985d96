/* Backends time some kernels of the model as one stage: what they take together. */
#include "sim/kernels/list.h"

#include <string.h>

/* The stage that a kernel of the model is part of; NULL: it is timed by itself. */
static const char *stage_of(const char *kernel) {
    static const struct {
        const char *kernel, *stage;
    } parts[] = {{"sort count", "metadata"},       {"sort scan", "metadata"},
                 {"sort place", "metadata"},       {"d_logits", "router_backward"},
                 {"dX router", "router_backward"}, {"dW_r", "router_backward"},
                 {"dW_r sum", "router_backward"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(kernel, parts[i].kernel) == 0)
            return parts[i].stage;
    }
    return NULL;
}

static int belongs(const char *kernel, const char *name) {
    const char *stage = stage_of(kernel);
    return strcmp(kernel, name) == 0 || (stage && strcmp(stage, name) == 0);
}

moe_status moe_prediction_stage(const moe_prediction *p, const char *name, moe_kernel *ret) {
    moe_kernel all = {0};
    moe_cost *sum = &all.cost;
    double longest = -1;
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_cost *cost = &p->kernels[i].cost;
        if (!belongs(cost->name, name))
            continue;
        all.least_us += p->kernels[i].least_us;
        sum->us += cost->us;
        sum->floor_us += cost->floor_us;
        sum->flops += cost->flops;
        sum->hbm_bytes += cost->hbm_bytes;
        sum->l2_bytes += cost->l2_bytes;
        sum->tiles += cost->tiles;
        sum->waves += cost->waves;
        if (cost->us > longest) {
            longest = cost->us;
            memcpy(sum->bound_by, cost->bound_by, sizeof sum->bound_by);
        }
    }
    if (longest < 0)
        return MOE_E_NOTFOUND;
    strncpy(sum->name, name, sizeof sum->name - 1);
    *ret = all;
    return MOE_OK;
}
