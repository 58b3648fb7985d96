/* What is around the MoE layers of a model: products, bytes and attention, kernel by kernel. */
#include "sim/around.h"
#include "sim/methods/methods.h"
#include "sim/predict.h"
#include "sim/shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *moe_model_part_name(moe_model_part part) {
    static const char *const names[MOE_PART_COUNT] = {
        "attention projections", "attention", "dense FFN",     "router", "norms",
        "embedding and head",    "host",      "sums over GPUs"};
    return names[part];
}

static void use(moe_int_whole *w, const moe_int_whole_type *t) {
    w->l.r = t->r;
    w->l.tiled = t->tiled;
    w->l.operand = t->operand;
    w->l.weight = t->weight;
}

static void weigh(moe_int_whole *w, double values) {
    w->weights += values * w->l.weight;
    w->values += values;
}

void moe_int_whole_product(moe_int_whole *w, double rows, double n, double k, int64_t times) {
    for (int64_t i = 0; i < times && !w->l.out_of_memory; i++) {
        if (w->forward && w->l.operand != w->l.element)
            moe_int_list_stream(&w->l, MOE_STAGE_COUNT, rows * k * w->l.element,
                                rows * k * w->l.operand);
        if (w->forward)
            moe_int_list_product(&w->l, rows, n, k, 1);
        if (w->backward) {
            moe_int_list_product(&w->l, rows, k, n, 1);
            moe_int_list_product(&w->l, n, k, rows, 1);
        }
    }
    weigh(w, n * k * (double)times);
}

void moe_int_whole_stream(moe_int_whole *w, double read, double write) {
    if (w->forward)
        moe_int_list_stream(&w->l, MOE_STAGE_COUNT, read, write);
    if (w->backward)
        moe_int_list_stream(&w->l, MOE_STAGE_COUNT, read + write, read);
}

static void dense_ffn(moe_int_whole *w) {
    const moe_layer_desc *d = &w->m->layer;
    const double n = (double)w->m->dense_n, h = (double)moe_h_width(d, w->m->dense_n);
    const int64_t layers = n > 0 ? w->m->dense_layers : 0;
    moe_int_whole_product(w, w->T, h, (double)w->m->d, layers);
    for (int64_t i = 0; i < layers; i++)
        moe_int_whole_stream(w, w->T * h * w->l.element, w->T * n * w->l.element);
    moe_int_whole_product(w, w->T, (double)w->m->d, n, layers);
}

static void router(moe_int_whole *w, const char *method) {
    const moe_int_system system = moe_int_system_find(method, strlen(method));
    if (system < MOE_INT_SYS_COUNT && (moe_int_methods[system]->given_logits || !w->routed)) {
        const double outputs = (double)(w->m->layer.E + w->m->layer.n_zero);
        moe_int_whole_product(w, w->T, outputs, (double)w->m->d, w->m->moe_layers);
        /* The layer has counted them. */
        weigh(w, -outputs * (double)(w->m->d * w->m->moe_layers));
    }
}

/* A norm with its residual before each attention, or what mixes tokens in its place, and each
 * FFN. */
static void norms(moe_int_whole *w) {
    const moe_model_shape *m = w->m;
    const double row = w->T * (double)m->d * w->l.element;
    const int64_t mixers = moe_int_attending(m) + m->unknown,
                  ffns = m->moe_layers + m->dense_layers;
    for (int64_t i = 0; i < mixers + ffns - m->beside; i++)
        moe_int_whole_stream(w, 2 * row, 2 * row);
}

/* A prompt needs the logits of its last token alone. They go to fp32, from which a token is chosen
 * or a loss made. */
static void head(moe_int_whole *w) {
    const moe_model_shape *m = w->m;
    const double row = w->T * (double)m->d * w->l.element;
    const double rows = w->decoding || w->backward ? w->T : 1;
    moe_int_whole_stream(w, row, row);
    moe_int_whole_product(w, rows, (double)m->vocab, (double)m->d, 1);
    const double logits = rows * (double)m->vocab;
    moe_int_whole_stream(w, logits * w->l.element, logits * 4);
    moe_int_whole_stream(w, logits * 4, rows * 4);
    if (!m->tied)
        weigh(w, (double)(m->vocab * m->d));
}

static void add_up(const moe_int_whole *w, moe_model_rest *ret) {
    double work = 0;
    size_t i = 0;
    ret->flops = w->flops;
    for (size_t k = 0; k < w->l.count; k++)
        work += w->l.kernels[k].cost.us;
    for (int part = 0; part < MOE_PART_COUNT; part++) {
        for (; i < w->end[part]; i++) {
            moe_kernel *k = &w->l.kernels[i];
            moe_int_throttle(&w->l.r, work, &w->l.times[i], k);
            ret->us[part] += k->cost.us;
            ret->flops += k->cost.flops;
        }
    }
}

static void list_parts(moe_int_whole *w, const char *method) {
    use(w, &w->own);
    moe_int_whole_projections(w);
    w->end[MOE_PART_PROJECTIONS] = w->l.count;
    use(w, &w->plain);
    moe_int_whole_attention(w);
    w->end[MOE_PART_ATTENTION] = w->l.count;
    use(w, &w->own);
    dense_ffn(w);
    w->end[MOE_PART_FFN] = w->l.count;
    use(w, &w->plain);
    router(w, method);
    w->end[MOE_PART_ROUTER] = w->l.count;
    norms(w);
    moe_int_whole_turns(w);
    w->end[MOE_PART_NORMS] = w->l.count;
    head(w);
    w->end[MOE_PART_HEAD] = w->end[MOE_PART_HOST] = w->end[MOE_PART_SHARING] = w->l.count;
}

static moe_status set_type(const moe_gpu *gpu, const moe_workload *work, const moe_log *log,
                           moe_int_list *l, moe_int_whole_type *ret) {
    const moe_status status = moe_int_list_storage(gpu, work->storage, log, l);
    if (!status) {
        moe_int_rates_of(gpu, MOE_INT_SYS_CUBLAS, work, &ret->r);
        ret->tiled = l->tiled;
        ret->operand = l->operand;
        ret->weight = l->weight;
    }
    return status;
}

moe_status moe_predict_rest(const moe_gpu *gpu, const char *method, const moe_model_shape *shape,
                            const moe_model_run *run, const moe_workload *state, const moe_log *log,
                            moe_model_rest *ret) {
    moe_model_rest rest = {{0}};
    const int pass = run->pass ? run->pass : MOE_PASS_BOTH;
    moe_workload work = *state;
    moe_model_shape own;
    moe_int_whole w = {.m = &own,
                       .T = (double)run->tokens,
                       .context =
                           run->context > 0 ? (double)run->context : (double)(run->tokens + 1) / 2,
                       .decoding = run->context > 0,
                       .routed = state->with_router,
                       .forward = pass & MOE_PASS_FWD,
                       .backward = pass & MOE_PASS_BWD};
    if (run->tokens < 1 || run->context < 0 || shape->layers < 1)
        return moe_fail(log, MOE_E_INVALID, "a model needs tokens and layers");
    if (w.decoding && w.backward)
        return moe_fail(log, MOE_E_INVALID, "decoding has no backward pass; ask for pass=fwd");
    w.l.work = &work;
    work.layer = NULL;
    moe_status status = moe_int_share_model(shape, run->node ? run->attention_tp : 1, log, &own);
    if (!status)
        status = set_type(gpu, &work, log, &w.l, &w.own);
    if (work.storage != MOE_STORAGE_TF32 && work.storage != MOE_STORAGE_F16)
        work.storage = MOE_STORAGE_BF16;
    if (!status)
        status = set_type(gpu, &work, log, &w.l, &w.plain);
    if (status)
        return status;
    list_parts(&w, method);
    if (w.l.out_of_memory) {
        status = moe_fail(log, MOE_E_NOMEM, "prediction: out of memory");
    } else {
        add_up(&w, &rest);
        rest.us[MOE_PART_HOST] =
            run->step_us + (w.decoding ? run->sequence_us * (double)run->tokens : 0);
        const double gradients = w.backward ? w.values * w.l.element : 0;
        if (run->node)
            rest.us[MOE_PART_SHARING] = moe_int_share_us(shape, run, w.l.element, gradients);
        rest.param_bytes = w.weights + gradients;
        moe_int_whole_keep(&w);
        rest.kv_bytes = w.kept;
        *ret = rest;
    }
    free(w.l.kernels);
    moe_int_list_destroy(&w.l);
    return status;
}
