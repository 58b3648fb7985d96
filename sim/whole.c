/* What is around the MoE layers of a model: products, bytes and attention, kernel by kernel. */
#include "moeref/whole.h"
#include "sim/methods/methods.h"
#include "sim/predict.h"
#include "sim/shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Share of a main loop's tensor rate that attention reaches: between FlashAttention-2's on an A100
 * (50 to 73 % of the peak, arXiv 2307.08691) and FlashAttention-3's on an H100 (75 %, arXiv
 * 2407.08608). */
#define ATTENTION_RATE     0.65
#define ATTENTION_BACKWARD 2.5 /* products: five for two (arXiv 2307.08691, section 2.3) */
#define WIDE_ROWS          64  /* of wgmma; mma.sync has 16: PTX ISA */
#define SYNC_ROWS          16

/* What products cost in a type. Attention, router and head stay in 16 bits, whatever the operands
 * of the other products. */
typedef struct type {
    moe_int_rates r;
    double tiled, operand, weight;
} type;

typedef struct whole {
    const moe_model_shape *m;
    double T, context; /* context: keys that a token attends to, on average */
    bool decoding, forward, backward;
    bool routed; /* the MoE layers count their router */
    moe_int_list l;
    size_t end[MOE_PART_COUNT]; /* kernels of the list up to and with this part */
    type own, plain;
    double weights; /* bytes */
    double values;  /* of the weights, for their gradients */
    double flops;   /* of attention */
} whole;

const char *moe_model_part_name(moe_model_part part) {
    static const char *const names[MOE_PART_COUNT] = {
        "attention projections", "attention", "dense FFN",     "router", "norms",
        "embedding and head",    "host",      "sums over GPUs"};
    return names[part];
}

static void use(whole *w, const type *t) {
    w->l.r = t->r;
    w->l.tiled = t->tiled;
    w->l.operand = t->operand;
    w->l.weight = t->weight;
}

static void weigh(whole *w, double values) {
    w->weights += values * w->l.weight;
    w->values += values;
}

/* [rows][k] times weights [k][n], `times` times: and, backward, the gradients of both. Operands
 * with scales of their own are made before. */
static void product(whole *w, double rows, double n, double k, int64_t times) {
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

static void stream(whole *w, double read, double write) {
    if (w->forward)
        moe_int_list_stream(&w->l, MOE_STAGE_COUNT, read, write);
    if (w->backward)
        moe_int_list_stream(&w->l, MOE_STAGE_COUNT, read + write, read);
}

static int64_t attending(const moe_model_shape *m) {
    return m->full + m->windowed;
}

static void latent_projections(whole *w) {
    const moe_model_shape *m = w->m;
    const double heads = (double)m->heads, d = (double)m->d, rank = (double)m->kv_rank;
    const double nope = (double)(m->qk_dim - m->rope_dim);
    const int64_t n = attending(m);
    const double from = m->q_rank > 0 ? (double)m->q_rank : d;
    if (m->q_rank > 0)
        product(w, w->T, (double)m->q_rank, d, n);
    product(w, w->T, heads * (double)m->qk_dim, from, n);
    product(w, w->T, rank + (double)m->rope_dim, d, n);
    /* Keys and values of each head; decoding turns queries and results instead. */
    product(w, w->T, heads * (nope + (double)m->v_dim), rank, n);
    product(w, w->T, d, heads * (double)m->v_dim, n);
}

static void projections(whole *w) {
    const moe_model_shape *m = w->m;
    const double q = (double)(m->heads * m->qk_dim), v = (double)(m->heads * m->v_dim);
    const double kv = (double)(m->kv_heads * (m->qk_dim + m->v_dim));
    if (m->kv_rank > 0) {
        latent_projections(w);
        return;
    }
    product(w, w->T, q + kv, (double)m->d, attending(m));
    product(w, w->T, (double)m->d, v, attending(m));
}

/* Tokens that decode one at a time have too few heads for all SMs: keys are cut into `parts`, and a
 * second kernel adds up what each part left in fp32 (Flash-Decoding,
 * crfm.stanford.edu/2023/10/12/flashdecoding.html). 1: they are not cut. */
static double parts_of_keys(const whole *w, double blocks) {
    return w->decoding ? fmax(1, floor(w->l.r.sms / (w->T * blocks))) : 1;
}

/* A token that decodes has the heads that share keys and values for rows of its products, which the
 * tensor cores fill up to those of an instruction (FlashAttention-3 packs them so). *ret_blocks:
 * of such rows, for one token. */
static double rows_of_token(const whole *w, double *ret_blocks) {
    const double heads = (double)w->m->heads, least = w->l.r.warps > 1 ? SYNC_ROWS : WIDE_ROWS;
    const double shared = w->m->kv_rank > 0 ? 1 : (double)w->m->kv_heads;
    *ret_blocks = shared * ceil(heads / shared / WIDE_ROWS);
    return w->decoding ? shared * ceil(heads / shared / least) * least : heads;
}

static void attend(whole *w, double keys, int64_t layers) {
    const moe_model_shape *m = w->m;
    const moe_int_rates *r = &w->l.r;
    /* Decoding multiplies the latent vectors themselves. */
    const bool latent = m->kv_rank > 0 && w->decoding;
    const double qk = latent ? (double)(m->kv_rank + m->rope_dim) : (double)m->qk_dim;
    const double v = latent ? (double)m->kv_rank : (double)m->v_dim, heads = (double)m->heads;
    double blocks;
    const double rows = rows_of_token(w, &blocks), parts = parts_of_keys(w, blocks);
    const double flops = 2 * w->T * keys * heads * (qk + v), e = w->l.element;
    const double done = flops * rows / heads;
    const double cached = moe_int_kv_values(m) * e * (w->decoding ? w->T * keys : w->T);
    const double own = w->T * heads * (qk + v) * e, kept = moe_int_kv_values(m) * w->T * e;
    w->flops += (double)layers * flops * (w->forward + ATTENTION_BACKWARD * w->backward);
    for (int64_t i = 0; i < layers; i++) {
        if (!w->backward) /* keys and values go where later tokens find them */
            moe_int_list_stream(&w->l, MOE_STAGE_COUNT, kept, kept);
        if (w->forward)
            moe_int_list_slow(&w->l, MOE_STAGE_COUNT, cached + own, own, done,
                              ATTENTION_RATE * r->tensor);
        if (parts > 1)
            moe_int_list_stream(&w->l, MOE_STAGE_COUNT, parts * w->T * heads * v * 4,
                                w->T * heads * v * e);
        if (w->backward)
            moe_int_list_slow(&w->l, MOE_STAGE_COUNT, 2 * (cached + own), cached + own,
                              ATTENTION_BACKWARD * flops, ATTENTION_RATE * r->tensor);
    }
}

static void attention(whole *w) {
    attend(w, w->context, w->m->full);
    attend(w, fmin(w->context, (double)w->m->window), w->m->windowed);
}

static void dense_ffn(whole *w) {
    const moe_layer_desc *d = &w->m->layer;
    const double n = (double)w->m->dense_n, h = (double)moe_h_width(d, w->m->dense_n);
    const int64_t layers = n > 0 ? w->m->dense_layers : 0;
    product(w, w->T, h, (double)w->m->d, layers);
    for (int64_t i = 0; i < layers; i++)
        stream(w, w->T * h * w->l.element, w->T * n * w->l.element);
    product(w, w->T, (double)w->m->d, n, layers);
}

static void router(whole *w, const char *method) {
    const moe_int_system system = moe_int_system_find(method, strlen(method));
    if (system < MOE_INT_SYS_COUNT && (moe_int_methods[system]->given_logits || !w->routed)) {
        const double outputs = (double)(w->m->layer.E + w->m->layer.n_zero);
        product(w, w->T, outputs, (double)w->m->d, w->m->moe_layers);
        /* The layer has counted them. */
        weigh(w, -outputs * (double)(w->m->d * w->m->moe_layers));
    }
}

/* Two norms with their residuals a layer; queries and keys are turned by their positions and, in
 * some families, normalised before, in a kernel each (vLLM's and SGLang's qwen3_moe.py). */
static void norms(whole *w) {
    const moe_model_shape *m = w->m;
    const double e = w->l.element, row = w->T * (double)m->d * e;
    const double turned = w->T * (double)(m->heads + m->kv_heads) * (double)m->qk_dim * e;
    for (int64_t i = 0; i < m->layers; i++) {
        stream(w, 2 * row, 2 * row);
        stream(w, 2 * row, 2 * row);
    }
    for (int64_t i = 0; i < attending(m); i++) {
        for (int side = 0; side < 2 && m->head_norms; side++) {
            const double heads = (double)(side ? m->kv_heads : m->heads);
            const double bytes = w->T * heads * (double)m->qk_dim * e;
            stream(w, bytes, bytes);
        }
        stream(w, turned, turned);
    }
}

/* A prompt needs the logits of its last token alone. They go to fp32, from which a token is chosen
 * or a loss made. */
static void head(whole *w) {
    const moe_model_shape *m = w->m;
    const double row = w->T * (double)m->d * w->l.element;
    const double rows = w->decoding || w->backward ? w->T : 1;
    stream(w, row, row);
    product(w, rows, (double)m->vocab, (double)m->d, 1);
    const double logits = rows * (double)m->vocab;
    stream(w, logits * w->l.element, logits * 4);
    stream(w, logits * 4, rows * 4);
    if (!m->tied)
        weigh(w, (double)(m->vocab * m->d));
}

static void add_up(const whole *w, moe_model_rest *ret) {
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

static void list_parts(whole *w, const char *method) {
    use(w, &w->own);
    projections(w);
    w->end[MOE_PART_PROJECTIONS] = w->l.count;
    use(w, &w->plain);
    attention(w);
    w->end[MOE_PART_ATTENTION] = w->l.count;
    use(w, &w->own);
    dense_ffn(w);
    w->end[MOE_PART_FFN] = w->l.count;
    use(w, &w->plain);
    router(w, method);
    w->end[MOE_PART_ROUTER] = w->l.count;
    norms(w);
    w->end[MOE_PART_NORMS] = w->l.count;
    head(w);
    w->end[MOE_PART_HEAD] = w->end[MOE_PART_HOST] = w->end[MOE_PART_SHARING] = w->l.count;
}

static double kv_bytes(const whole *w) {
    const double value = moe_int_kv_values(w->m) * w->l.element, T = w->T;
    const double full = w->decoding ? w->context + 1 : 1;
    const double windowed = fmin(full, (double)w->m->window);
    return value * T * (full * (double)w->m->full + windowed * (double)w->m->windowed);
}

static moe_status set_type(const moe_gpu *gpu, const moe_workload *work, const moe_log *log,
                           moe_int_list *l, type *ret) {
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
    whole w = {.m = &own,
               .T = (double)run->tokens,
               .context = run->context > 0 ? (double)run->context : (double)(run->tokens + 1) / 2,
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
        rest.kv_bytes = kv_bytes(&w);
        *ret = rest;
    }
    free(w.l.kernels);
    moe_int_list_destroy(&w.l);
    return status;
}
