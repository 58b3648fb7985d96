/* Predictions beside measured times: a roofline over the layer's stages, or the GPU cost model. */
#include "bench/predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pairs, and experts with at least one. */
static void count_rows(const moe_problem *p, const moe_plan *plan, int64_t *ret_pairs,
                       int64_t *ret_active) {
    *ret_pairs = p->T * p->layer.K;
    *ret_active = p->layer.E;
    if (!plan)
        return;
    *ret_pairs = plan->offsets[p->layer.E];
    *ret_active = 0;
    for (int64_t e = 0; e < p->layer.E; e++)
        *ret_active += plan->offsets[e + 1] > plan->offsets[e];
}

/* Leaves a stage whose work is not counted as it is. */
static void predict_stage(const moe_problem *p, const moe_plan *plan, size_t size,
                          const moe_bench_result *r, moe_stage stage, moe_bench_times *t) {
    moe_cost cost;
    int64_t pairs, active;
    count_rows(p, plan, &pairs, &active);
    if (moe_stage_cost(&p->layer, stage, p->T, pairs, active, size, &cost))
        return;
    t->flops = cost.flops;
    t->bytes = cost.hbm_bytes;
    if (!r->has_roofline)
        return;
    moe_roofline_time(&r->roofline, &cost);
    t->predicted_us = cost.us;
    memcpy(t->bound_by, cost.bound_by, sizeof t->bound_by);
}

/* A pass is predicted as the sum of its stages. */
static void predict_pass(const moe_problem *p, const moe_plan *plan, size_t size, int32_t pass,
                         moe_bench_result *r, moe_bench_times *ret) {
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        moe_bench_times t = {0};
        if (!moe_stage_exists(&p->layer, (moe_stage)i, pass, p->plan != NULL))
            continue;
        predict_stage(p, plan, size, r, (moe_stage)i, &t);
        ret->bytes += t.bytes;
        ret->predicted_us += t.predicted_us;
    }
}

void moe_int_predict_by_roofline(const moe_problem *p, const moe_plan *plan, size_t size,
                                 moe_bench_result *r) {
    moe_stage stage;
    predict_pass(p, plan, size, MOE_PASS_FWD, r, &r->pass[MOE_PASS_FORWARD]);
    predict_pass(p, plan, size, MOE_PASS_FWD | (p->pass & MOE_PASS_BWD), r,
                 &r->pass[MOE_PASS_TOTAL]);
    if (p->pass & MOE_PASS_BWD)
        predict_pass(p, plan, size, MOE_PASS_BWD, r, &r->pass[MOE_PASS_BACKWARD]);
    for (size_t k = 0; k < r->n_kernels; k++)
        if (moe_stage_parse(r->kernel[k].name, &stage) == MOE_OK)
            predict_stage(p, plan, size, r, stage, &r->kernel[k]);
}

static void take_stage(const moe_prediction *model, moe_bench_times *t) {
    moe_kernel k;
    if (moe_prediction_stage(model, t->name, &k))
        return;
    t->predicted_us = k.cost.us;
    t->floor_us = k.cost.floor_us;
    t->least_us = k.least_us;
    if (k.cost.flops > 0)
        t->flops = k.cost.flops;
    t->bytes = k.cost.hbm_bytes;
    memcpy(t->bound_by, k.cost.bound_by, sizeof t->bound_by);
}

/* Kernels by their stage; passes as the model sums them. */
static void take_prediction(const moe_prediction *model, moe_bench_result *r) {
    for (size_t k = 0; k < r->n_kernels; k++)
        take_stage(model, &r->kernel[k]);
    for (int i = 0; i < MOE_PASS_SUMS; i++) {
        r->pass[i].predicted_us = model->pass[i].us;
        r->pass[i].floor_us = model->pass[i].floor_us;
        r->pass[i].least_us = model->pass[i].least_us;
    }
}

moe_status moe_int_predict_by_model(const moe_problem *p, const moe_plan *plan,
                                    const moe_bench_params *params, const moe_log *log,
                                    moe_bench_result *r) {
    const char *method = params->method ? params->method : "moeref";
    const int settled = params->settle_ms >= MOE_BENCH_SETTLED_MS;
    moe_prediction *model = NULL;
    int64_t *counts = calloc((size_t)p->layer.E, sizeof *counts);
    if (!counts)
        return MOE_E_NOMEM;
    for (int64_t e = 0; plan && e < p->layer.E; e++)
        counts[e] = plan->offsets[e + 1] - plan->offsets[e];
    const moe_case c = {.layer = p->layer,
                        .T = p->T,
                        .dtype = p->dtype,
                        .pass = p->pass,
                        .route = p->plan ? MOE_ROUTE_COUNTS : MOE_ROUTE_ROUTER};
    const moe_workload state = {.clock = settled ? MOE_CLOCK_SETTLED : MOE_CLOCK_BURST,
                                .in_stream = 1},
                       work = moe_workload_of(&c, plan ? counts : NULL, &state);
    for (size_t k = 0; k < r->n_kernels; k++)
        r->kernel[k].predicted_us = r->kernel[k].floor_us = r->kernel[k].least_us = 0;
    moe_status status = moe_predict(params->gpu, method, &work, log, &model);
    if (!status) {
        take_prediction(model, r);
        r->model_mhz = model->clock_mhz;
        snprintf(r->model, sizeof r->model, "%s on %s, %s clock", method, moe_gpu_name(params->gpu),
                 settled ? "settled" : "burst");
    }
    moe_prediction_destroy(&model);
    free(counts);
    return status;
}
