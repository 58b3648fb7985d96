/* Timing: prepare once, run many times, keep medians and spread. */
#include "backend/front.h"
#include "bench/predict.h"
#include "bench/watch.h"
#include "core/clock.h"
#include "core/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The passes' samples come first. */
#define FIRST_KERNEL MOE_PASS_SUMS

#define FLUSH_BYTES ((size_t)256 << 20)

/* Samples of every timed thing, [series][repeat]. */
typedef struct samples {
    double *us;
    int32_t repeats;
    moe_cost kernel[MOE_BENCH_MAX_KERNELS];
    size_t n_kernels;
    volatile char *flush; /* NULL: warm caches */
    moe_int_watch *watch; /* NULL: the backend tells nothing of its board */
} samples;

static void flush_cache(const samples *s) {
    char sum = 0;
    for (size_t i = 0; s->flush && i < FLUSH_BYTES; i += 64)
        sum = (char)(sum + s->flush[i]);
    if (s->flush)
        s->flush[0] = sum;
}

/* The i-th timed run; an untimed one where i is negative. */
static moe_status run_once(moe_layer *layer, int32_t pass, int32_t i, samples *s) {
    flush_cache(s);
    moe_int_watch_run(s->watch, i >= 0);
    double backward = 0;
    moe_status status = moe_layer_forward(layer);
    const double forward = moe_int_layer_us(layer);
    if (!status && (pass & MOE_PASS_BWD)) {
        status = moe_layer_backward(layer);
        backward = moe_int_layer_us(layer);
    }
    moe_int_watch_run(s->watch, false);
    if (status || i < 0)
        return status;
    s->us[MOE_PASS_FORWARD * s->repeats + i] = forward;
    s->us[MOE_PASS_BACKWARD * s->repeats + i] = backward;
    s->us[MOE_PASS_TOTAL * s->repeats + i] = forward + backward;
    s->n_kernels = moe_layer_timings(layer, s->kernel, MOE_BENCH_MAX_KERNELS);
    if (s->n_kernels > MOE_BENCH_MAX_KERNELS)
        s->n_kernels = MOE_BENCH_MAX_KERNELS;
    for (size_t k = 0; k < s->n_kernels; k++)
        s->us[(FIRST_KERNEL + (int32_t)k) * s->repeats + i] = s->kernel[k].us;
    return MOE_OK;
}

static void summarise(const char *name, double *us, int32_t n, moe_bench_times *ret) {
    snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->median_us = moe_int_median(us, (size_t)n);
    ret->min_us = us[0];
    ret->max_us = us[n - 1];
    ret->spread = ret->median_us > 0 ? (us[(3 * n) / 4] - us[n / 4]) / ret->median_us : 0;
}

static void warn_unknown(const char *kernel, const moe_log *log) {
    moe_stage stage;
    if (moe_stage_parse(kernel, &stage))
        moe_log_send(log, MOE_LOG_WARN,
                     "the backend times \"%s\", which is no stage (moeref list): its FLOPs, bytes "
                     "and prediction are unknown",
                     kernel);
}

static moe_status fill_result(const moe_problem *p, moe_layer *layer,
                              const moe_bench_params *params, size_t size, samples *s,
                              const moe_log *log, moe_bench_result *r) {
    const moe_plan *plan = NULL;
    if (moe_layer_routing(layer, &plan))
        plan = NULL;
    int64_t pairs = plan ? plan->offsets[p->layer.E] : p->T * p->layer.K;
    int has_backward = (p->pass & MOE_PASS_BWD) != 0;
    moe_bench_times *forward = &r->pass[MOE_PASS_FORWARD], *backward = &r->pass[MOE_PASS_BACKWARD];
    for (int i = MOE_PASS_FORWARD; i < MOE_PASS_SUMS; i++)
        if (i == MOE_PASS_FORWARD || has_backward)
            summarise(moe_pass_sum_name((moe_pass_sum)i), s->us + (size_t)i * (size_t)s->repeats,
                      s->repeats, &r->pass[i]);
    forward->flops = moe_layer_flops(&p->layer, p->T, pairs, 0);
    if (has_backward) {
        backward->flops = moe_layer_flops(&p->layer, p->T, pairs, 1);
        r->pass[MOE_PASS_TOTAL].flops = forward->flops + backward->flops;
    }
    r->n_kernels = s->n_kernels;
    for (size_t k = 0; k < s->n_kernels; k++) {
        summarise(s->kernel[k].name, s->us + (FIRST_KERNEL + k) * (size_t)s->repeats, s->repeats,
                  &r->kernel[k]);
        warn_unknown(r->kernel[k].name, log);
    }
    r->has_memory = moe_layer_memory(layer, &r->memory) == MOE_OK;
    moe_int_predict_by_roofline(p, plan, size, r);
    return params->gpu ? moe_int_predict_by_model(p, plan, params, log, r) : MOE_OK;
}

static moe_status time_layer(moe_backend *backend, moe_layer *layer, const moe_problem *p,
                             const moe_bench_params *params, size_t size, const moe_log *log,
                             moe_bench_result *ret) {
    samples s = {.repeats = params->repeats > 0 ? params->repeats : 7};
    int32_t warmup = params->warmup ? params->warmup : 1;
    if (warmup < 0)
        warmup = 0;
    s.us = calloc((size_t)(FIRST_KERNEL + MOE_BENCH_MAX_KERNELS) * (size_t)s.repeats, sizeof *s.us);
    if (params->cold_cache)
        s.flush = calloc(1, FLUSH_BYTES);
    moe_status status = s.us && (s.flush || !params->cold_cache) ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        moe_int_watch_start(backend, &s.watch);
    const double settled = moe_int_now_us() + 1e3 * params->settle_ms;
    while (!status && moe_int_now_us() < settled)
        status = run_once(layer, p->pass, -1, &s);
    for (int32_t i = -warmup; !status && i < s.repeats; i++) {
        if (params->progress)
            params->progress(params->user, i + warmup, s.repeats + warmup);
        status = run_once(layer, p->pass, i, &s);
    }
    moe_int_watch_finish(&s.watch, &ret->board);
    ret->repeats = s.repeats;
    if (!status)
        status = fill_result(p, layer, params, size, &s, log, ret);
    free(s.us);
    free((void *)s.flush);
    return status;
}

moe_status moe_bench_run(moe_backend *backend, const moe_problem *problem,
                         const moe_bench_params *params, const moe_log *log,
                         moe_bench_result *ret) {
    static const moe_bench_params defaults = {0};
    moe_use use = {problem->T, problem->dtype, problem->pass, problem->plan != NULL};
    moe_input input = {problem->T, problem->in.t[MOE_T_X], problem->in.t[MOE_T_DO], problem->plan,
                       problem->seed};
    moe_support support = {0};
    moe_layer *layer = NULL;
    moe_bench_result result = {0};
    params = params ? params : &defaults;
    if (!(problem->pass & MOE_PASS_BWD))
        input.dO.data = NULL;
    if (problem->masked && !problem->plan)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "%s cannot run this case: a backend that routes cannot be told of masked "
                        "tokens",
                        moe_backend_name(backend));
    moe_status status = moe_backend_supports(backend, &problem->layer, &use, &support);
    if (status)
        return moe_fail(log, status, "%s cannot run this case: %s", moe_backend_name(backend),
                        support.reason);
    if (!params->no_roofline)
        status = moe_backend_roofline(backend, &result.roofline);
    result.has_roofline = !params->no_roofline && status == MOE_OK;
    if (status != MOE_E_CONTRACT)
        status = moe_layer_prepare(backend, &problem->layer, &use, &problem->in, &layer);
    if (!status)
        status = moe_layer_set_input(layer, &input);
    if (!status)
        status = time_layer(backend, layer, problem, params,
                            moe_dtype_size((moe_dtype)support.arithmetic), log, &result);
    moe_layer_destroy(&layer);
    if (moe_backend_fault(backend)[0]) /* also of a slot without a status */
        status = MOE_E_CONTRACT;
    if (status)
        moe_fail(log, status, "timing %s on %s: %s", problem->name, moe_backend_name(backend),
                 moe_status_str(status));
    else
        *ret = result;
    return status;
}
