/* From a layer to a list of kernels to totals. */
#include "sim/predict.h"
#include "moeref/node.h"
#include "sim/gpus/held.h"
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"
#include "sim/passes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const *moe_methods(void) {
    return moe_int_system_names;
}

const char *moe_method_brief(const char *method) {
    const moe_int_system system = moe_int_system_find(method, strlen(method));
    return system == MOE_INT_SYS_COUNT ? NULL : moe_int_methods[system]->brief;
}

static moe_storage storage_of(moe_dtype dtype) {
    switch (dtype) {
    case MOE_BF16:
        return MOE_STORAGE_BF16;
    case MOE_F16:
        return MOE_STORAGE_F16;
    case MOE_F64:
    case MOE_F32:
    case MOE_I64:
    case MOE_I32:
    case MOE_U8:
    case MOE_DTYPE_COUNT:
        break;
    }
    return MOE_STORAGE_OTHER;
}

moe_workload moe_workload_of(const moe_case *c, const int64_t *counts, const moe_workload *state) {
    moe_workload w = *state;
    w.layer = &c->layer;
    w.tokens = c->T;
    w.counts = counts;
    w.pass = c->pass;
    if (w.storage < MOE_STORAGE_OTHER)
        w.storage = storage_of((moe_dtype)c->dtype);
    w.with_router = c->route == MOE_ROUTE_ROUTER;
    w.hidden = c->hidden;
    return w;
}

static moe_status unknown_method(const char *name, const moe_log *log) {
    char list[512] = "";
    if (moe_ep_method_brief(name))
        return moe_fail(log, MOE_E_NOTFOUND, "\"%s\" is a method of several GPUs: say --ep", name);
    for (const char *const *known = moe_methods(); *known; known++) {
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, *known, sizeof list - strlen(list) - 1);
    }
    return moe_fail(log, MOE_E_NOTFOUND, "no method \"%s\"; known:%s", name, list);
}

bool moe_prediction_at_peak(const moe_prediction *p, size_t i) {
    return i <= p->peak_at && (int64_t)p->peak_at < p->tensors[i].until;
}

static void add_times(const moe_kernel *k, moe_pass_cost *sum) {
    sum->us += k->cost.us;
    sum->floor_us += k->cost.floor_us;
    sum->least_us += k->least_us;
}

/* What no kernel of the passes accounts for. A backward pass that is queued while the forward pass
 * runs does not wait for the host. */
static void add_up(const moe_int_list *l, int pass, moe_prediction *p) {
    const double forward = pass & MOE_PASS_FWD ? l->r.fixed_us : 0;
    const double backward = pass & MOE_PASS_BWD && !l->host_first ? l->r.fixed_us : 0;
    double now = 0, done = 0, padded = 0, clocks = 0;
    moe_pass_cost *total = &p->pass[MOE_PASS_TOTAL];
    p->overhead_us = forward + backward;
    for (size_t i = 0; i < p->n_kernels; i++)
        now += p->kernels[i].cost.us;
    const double work = now + p->overhead_us;
    now = 0;
    for (size_t i = 0; i < p->n_kernels; i++) {
        moe_kernel *k = &p->kernels[i];
        const double mhz = l->r.clock / moe_int_throttle(&l->r, work, &l->times[i], k);
        clocks += mhz * k->cost.us;
        k->start_us = now;
        now += k->cost.us;
        moe_pass_cost *sum = &p->pass[k->backward ? MOE_PASS_BACKWARD : MOE_PASS_FORWARD];
        add_times(k, sum);
        add_times(k, total);
        sum->flops += k->again ? 0 : k->cost.flops;
        done += k->cost.flops;
        padded += k->padded_flops;
    }
    p->pass[MOE_PASS_FORWARD].us += forward;
    p->pass[MOE_PASS_BACKWARD].us += backward;
    total->us += p->overhead_us;
    total->flops = p->pass[MOE_PASS_FORWARD].flops + p->pass[MOE_PASS_BACKWARD].flops;
    p->clock_mhz = now > 0 ? clocks / now : 0;
    p->padding = padded > 0 ? fmax(0, 1 - done / padded) : 0;
}

static void set_interval(const moe_gpu *gpu, moe_int_system system, const moe_workload *w,
                         moe_prediction *p) {
    const double us = p->pass[MOE_PASS_TOTAL].us;
    const bool large = w->layer ? w->tokens >= MOE_INT_LARGE_TOKENS : us >= MOE_INT_LARGE_US;
    const moe_int_size size = large ? MOE_INT_LARGE : MOE_INT_SMALL;
    const moe_int_spread s = moe_int_spread_of(gpu, system, w->storage, size);
    p->low_us = us * s.low;
    p->high_us = us * s.high;
    p->storage = w->storage;
    p->held_to = moe_int_held_to(gpu, system, w->layer, w->storage, size);
}

/* The prediction takes over l's kernels; l's GEMMs stay with the caller. */
static moe_status finish(const moe_gpu *gpu, moe_int_system system, moe_int_list *l,
                         const moe_workload *w, const moe_log *log, moe_prediction **ret) {
    const int pass = w->pass ? w->pass : MOE_PASS_BOTH;
    const double param_bytes = w->layer ? moe_int_passes_params(l, pass) : 0;
    moe_prediction *p = l->out_of_memory ? NULL : calloc(1, sizeof *p);
    if (!p) {
        free(l->kernels);
        return moe_fail(log, MOE_E_NOMEM, "prediction: out of memory");
    }
    p->kernels = l->kernels;
    p->n_kernels = l->count;
    add_up(l, pass, p);
    set_interval(gpu, system, w, p);
    p->peak_bytes = l->peak;
    p->cached_bytes = l->cached;
    p->param_bytes = param_bytes;
    memcpy(p->tensors, l->tensors, sizeof p->tensors);
    p->n_tensors = l->n_tensors;
    p->peak_at = l->peak_at;
    *ret = p;
    return MOE_OK;
}

static moe_status set_storage(const moe_gpu *gpu, int32_t storage, unsigned known,
                              const char *method, const moe_log *log, moe_int_list *l) {
    const moe_int_storage *s = moe_int_storage_of(storage);
    if (!s)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "the cost model knows cases of bf16 and fp16 alone; --operands tells it of "
                        "other types");
    if (!(known & MOE_INT_STORAGE_BIT(storage)))
        return moe_fail(log, MOE_E_UNSUPPORTED, "method %s has no kernels for %s that are modelled",
                        method, s->name);
    if (!(moe_int_storage_rate(s, gpu->p) > 0))
        return moe_fail(log, MOE_E_UNSUPPORTED, "%s does not multiply %s", gpu->name, s->name);
    l->element = s->between;
    l->tiled = s->element;
    l->operand = s->element + s->scales;
    l->weight = s->element + s->weight_scales;
    return MOE_OK;
}

static moe_status sum_counts(const moe_workload *w, const moe_log *log, moe_int_list *l) {
    const int64_t *counts = w->counts;
    for (int64_t e = 0; e < w->layer->E; e++) {
        if (counts[e] < 0 || counts[e] > w->tokens)
            return moe_fail(log, MOE_E_INVALID, "expert %lld cannot have %lld of %lld tokens",
                            (long long)e, (long long)counts[e], (long long)w->tokens);
        l->P += (double)counts[e];
        l->active += counts[e] > 0;
    }
    return MOE_OK;
}

/* The methods that a GPU runs, for a message. */
static void list_runnable(const moe_gpu *gpu, char *buf, size_t size) {
    const double arch = gpu->p[MOE_INT_GP_ARCH];
    buf[0] = '\0';
    for (int s = 0; s < MOE_INT_SYS_COUNT; s++) {
        const moe_int_method *m = moe_int_methods[s];
        if (moe_int_method_runs(m, arch)) {
            strncat(buf, " ", size - strlen(buf) - 1);
            strncat(buf, moe_int_system_names[s], size - strlen(buf) - 1);
        }
    }
}

static moe_status check_arch(const moe_gpu *gpu, moe_int_system system, const moe_log *log) {
    char list[512];
    const moe_int_method *m = moe_int_methods[system];
    if (moe_int_method_runs(m, gpu->p[MOE_INT_GP_ARCH]))
        return MOE_OK;
    list_runnable(gpu, list, sizeof list);
    if (m->arch.least == m->arch.most)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "method %s: the kernels that are modelled run on architecture %d, %s has "
                        "%.0f; there:%s",
                        moe_int_system_names[system], m->arch.least, gpu->name,
                        gpu->p[MOE_INT_GP_ARCH], list);
    return moe_fail(log, MOE_E_UNSUPPORTED,
                    "method %s: the kernels that are modelled run on architectures %d to %d, %s "
                    "has %.0f; there:%s",
                    moe_int_system_names[system], m->arch.least, m->arch.most, gpu->name,
                    gpu->p[MOE_INT_GP_ARCH], list);
}

static moe_status check(const moe_gpu *gpu, moe_int_system system, const moe_workload *w,
                        const moe_log *log) {
    const int pass = w->pass ? w->pass : MOE_PASS_BOTH;
    moe_status status = moe_layer_desc_check(w->layer, w->tokens, log);
    if (!status && (pass & MOE_PASS_BWD) && !moe_int_methods[system]->backward)
        status =
            moe_fail(log, MOE_E_UNSUPPORTED, "method %s has no backward pass; ask for pass=fwd",
                     moe_int_system_names[system]);
    return status ? status : check_arch(gpu, system, log);
}

moe_status moe_int_list_build(const moe_gpu *gpu, const char *method, const moe_workload *w,
                              const moe_log *log, moe_int_list *l, moe_prediction **ret) {
    const moe_layer_desc *d = w->layer;
    const moe_int_system system = moe_int_system_find(method, strlen(method));
    if (system == MOE_INT_SYS_COUNT)
        return unknown_method(method, log);
    const moe_int_method *m = moe_int_methods[system];
    moe_status status = check(gpu, system, w, log);
    *l = (moe_int_list){.gpu = gpu,
                        .work = w,
                        .counts = w->counts,
                        .T = (double)w->tokens,
                        .d = (double)d->d,
                        .n = (double)d->n,
                        .h = (double)moe_h_width(d, d->n),
                        .E = (double)d->E,
                        .K = (double)d->K,
                        .hidden = (double)(w->hidden > 0 ? w->hidden : d->d),
                        .projected = w->hidden > 0,
                        .host_first = m->host_first};
    if (!status)
        status = set_storage(gpu, w->storage, MOE_INT_STORAGE_16 | m->storages, method, log, l);
    if (!status)
        status = sum_counts(w, log, l);
    if (status)
        return status;
    moe_workload state = *w;
    if (state.entropy == MOE_ENTROPY_DEFAULT && m->constant_data)
        state.entropy = MOE_ENTROPY_CONSTANT;
    moe_int_rates_of(gpu, system, &state, &l->r);
    moe_int_passes_list(m, w, l);
    return finish(gpu, system, l, w, log, ret);
}

moe_status moe_predict(const moe_gpu *gpu, const char *method, const moe_workload *work,
                       const moe_log *log, moe_prediction **ret) {
    moe_workload w = *work;
    moe_int_list l = {0};
    int64_t *drawn = NULL;
    moe_status status = moe_layer_desc_check(w.layer, w.tokens, log);
    if (status)
        return status;
    if (!w.counts) {
        drawn = malloc((size_t)w.layer->E * sizeof *drawn);
        if (!drawn)
            return moe_fail(log, MOE_E_NOMEM, "prediction: out of memory");
        const moe_case c = {.layer = *w.layer, .T = w.tokens, .route = MOE_ROUTE_ROUTER};
        status = moe_counts_draw(&c, log, drawn);
        w.counts = drawn;
    }
    if (!status)
        status = moe_int_list_build(gpu, method, &w, log, &l, ret);
    moe_int_list_destroy(&l);
    free(drawn);
    return status;
}

moe_status moe_int_list_storage(const moe_gpu *gpu, int32_t storage, const moe_log *log,
                                moe_int_list *l) {
    return set_storage(gpu, storage, MOE_INT_STORAGE_ALL, "cublas", log, l);
}

static void convert(moe_int_list *l, double values) {
    moe_int_list_stream(l, MOE_STAGE_COUNT, values * l->element, values * l->operand);
    if (l->count > 0)
        strcpy(l->kernels[0].cost.name, "convert A");
}

moe_status moe_predict_gemm(const moe_gpu *gpu, int64_t m, int64_t n, int64_t k, int64_t batch,
                            const moe_workload *state, const moe_log *log, moe_prediction **ret) {
    moe_workload w = state ? *state : (moe_workload){0};
    moe_int_list l = {.work = &w};
    const int64_t most = INT64_C(1) << 31;
    if (m < 1 || n < 1 || k < 1 || batch < 1 || m > most || n > most || k > most || batch > most)
        return moe_fail(log, MOE_E_INVALID,
                        "gemm m=%lld n=%lld k=%lld batch=%lld: sizes are 1 to 2^31", (long long)m,
                        (long long)n, (long long)k, (long long)batch);
    moe_status status = moe_int_list_storage(gpu, w.storage, log, &l);
    if (status)
        return status;
    w.layer = NULL;
    w.pass = MOE_PASS_FWD;
    moe_int_rates_of(gpu, MOE_INT_SYS_CUBLAS, &w, &l.r);
    if (w.converts && l.operand != l.element)
        convert(&l, (double)m * (double)k * (double)batch);
    moe_int_list_product(&l, (double)m, (double)n, (double)k, (double)batch);
    status = finish(gpu, MOE_INT_SYS_CUBLAS, &l, &w, log, ret);
    moe_int_list_destroy(&l);
    return status;
}

void moe_prediction_destroy(moe_prediction **prediction) {
    if (!prediction || !*prediction)
        return;
    free((*prediction)->kernels);
    free(*prediction);
    *prediction = NULL;
}
