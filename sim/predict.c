/* From a layer to a list of kernels. */
#include "sim/predict.h"
#include "moeref/node.h"
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"
#include "sim/passes.h"

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
        return moe_fail(log, MOE_E_NOTFOUND,
                        "\"%s\" is a method of several GPUs, which predict, sweep and trace take: "
                        "say --ep",
                        name);
    for (const char *const *known = moe_methods(); *known; known++) {
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, *known, sizeof list - strlen(list) - 1);
    }
    return moe_fail(log, MOE_E_NOTFOUND, "no method \"%s\"; known:%s", name, list);
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
    return moe_int_list_total(gpu, system, l, w, log, ret);
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
    status = moe_int_list_total(gpu, MOE_INT_SYS_CUBLAS, &l, &w, log, ret);
    moe_int_list_destroy(&l);
    return status;
}
