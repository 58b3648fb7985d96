/* Predictions beside measured times: a roofline over the layer's stages, or the GPU cost model. */
#include "bench/predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void predict_kernel(const moe_problem *p, const moe_plan *plan, size_t size,
                           const moe_bench_result *r, moe_bench_times *k) {
    moe_cost cost;
    int64_t pairs = p->T * p->layer.K, active = p->layer.E;
    if (plan) {
        pairs = plan->offsets[p->layer.E];
        active = 0;
        for (int64_t e = 0; e < p->layer.E; e++)
            active += plan->offsets[e + 1] > plan->offsets[e];
    }
    if (moe_stage_cost(&p->layer, k->name, p->T, pairs, active, size, &cost))
        return;
    k->flops = cost.flops;
    k->bytes = cost.hbm_bytes;
    if (!r->has_roofline)
        return;
    moe_roofline_time(&r->roofline, &cost);
    k->predicted_us = cost.us;
    memcpy(k->bound_by, cost.bound_by, sizeof k->bound_by);
}

/* Adds one stage's work and prediction to its pass and to the total. */
static void add_stage(const moe_problem *p, const moe_plan *plan, size_t size, const char *name,
                      const char *suffix, int is_backward, moe_bench_result *r) {
    moe_bench_times stage = {0};
    snprintf(stage.name, sizeof stage.name, "%s%s", name, suffix);
    predict_kernel(p, plan, size, r, &stage);
    moe_bench_times *sums[] = {&r->pass[is_backward ? BACKWARD : FORWARD], &r->pass[TOTAL]};
    for (int j = 0; j < 2; j++) {
        sums[j]->bytes += stage.bytes;
        sums[j]->predicted_us += stage.predicted_us;
    }
}

/* A pass is predicted as the sum of its stages. */
void moe_int_predict_by_roofline(const moe_problem *p, const moe_plan *plan, size_t size,
                                 moe_bench_result *r) {
    int is_backward;
    const char *name;
    for (size_t i = 0; (name = moe_stage_name(i, &is_backward)); i++) {
        int is_router = strncmp(name, "router", 6) == 0;
        if (is_backward && !(p->pass & MOE_PASS_BWD))
            continue;
        if (!is_router || !p->plan)
            add_stage(p, plan, size, name, "", is_backward, r);
        if (!is_router && p->layer.n_shared)
            add_stage(p, plan, size, name, "_shared", is_backward, r);
    }
    for (size_t k = 0; k < r->n_kernels; k++)
        predict_kernel(p, plan, size, r, &r->kernel[k]);
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
    r->pass[FORWARD].predicted_us = model->forward_us;
    r->pass[BACKWARD].predicted_us = model->backward_us;
    r->pass[TOTAL].predicted_us = model->total_us;
    r->pass[FORWARD].floor_us = model->forward_floor_us;
    r->pass[BACKWARD].floor_us = model->backward_floor_us;
    r->pass[TOTAL].floor_us = model->floor_us;
    r->pass[FORWARD].least_us = model->forward_least_us;
    r->pass[BACKWARD].least_us = model->backward_least_us;
    r->pass[TOTAL].least_us = model->least_us;
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
