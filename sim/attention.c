/* A model's attention, from its projections to the keys and values that it keeps. */
#include "sim/around.h"
#include "sim/shared.h"

#include <math.h>

/* Share of a main loop's tensor rate that attention reaches: between FlashAttention-2's on an A100
 * (50 to 73 % of the peak, arXiv 2307.08691) and FlashAttention-3's on an H100 (75 %, arXiv
 * 2407.08608). */
#define ATTENTION_RATE     0.65
#define ATTENTION_BACKWARD 2.5 /* products: five for two (arXiv 2307.08691, section 2.3) */
#define WIDE_ROWS          64  /* of wgmma; mma.sync has 16: PTX ISA */
#define SYNC_ROWS          16

static void latent_projections(moe_int_whole *w) {
    const moe_model_shape *m = w->m;
    const double heads = (double)m->heads, d = (double)m->d, rank = (double)m->kv_rank;
    const double nope = (double)(m->qk_dim - m->rope_dim);
    const int64_t n = moe_int_attending(m);
    const double from = m->q_rank > 0 ? (double)m->q_rank : d;
    if (m->q_rank > 0)
        moe_int_whole_product(w, w->T, (double)m->q_rank, d, n);
    moe_int_whole_product(w, w->T, heads * (double)m->qk_dim, from, n);
    moe_int_whole_product(w, w->T, rank + (double)m->rope_dim, d, n);
    /* Keys and values of each head; decoding turns queries and results instead. */
    moe_int_whole_product(w, w->T, heads * (nope + (double)m->v_dim), rank, n);
    moe_int_whole_product(w, w->T, d, heads * (double)m->v_dim, n);
}

static void projections(moe_int_whole *w) {
    const moe_model_shape *m = w->m;
    const double q = (double)(m->heads * m->qk_dim), v = (double)(m->heads * m->v_dim);
    const double kv = (double)(m->kv_heads * (m->qk_dim + m->v_dim));
    if (m->kv_rank > 0) {
        latent_projections(w);
        return;
    }
    const double gate = (double)(m->heads * m->gate_dim);
    moe_int_whole_product(w, w->T, q + kv + gate, (double)m->d, moe_int_attending(m));
    for (int64_t i = 0; i < moe_int_attending(m) && gate > 0; i++)
        moe_int_whole_stream(w, w->T * (v + gate) * w->l.element, w->T * v * w->l.element);
    moe_int_whole_product(w, w->T, (double)m->d, v, moe_int_attending(m));
}

/* Tokens that decode one at a time have too few heads for all SMs: keys are cut into `parts`, and a
 * second kernel adds up what each part left in fp32 (Flash-Decoding,
 * crfm.stanford.edu/2023/10/12/flashdecoding.html). 1: they are not cut. */
static double parts_of_keys(const moe_int_whole *w, double blocks) {
    return w->decoding ? fmax(1, floor(w->l.r.sms / (w->T * blocks))) : 1;
}

/* A token that decodes has the heads that share keys and values for rows of its products, which the
 * tensor cores fill up to those of an instruction (FlashAttention-3 packs them so). *ret_blocks:
 * of such rows, for one token. */
static double rows_of_token(const moe_int_whole *w, double *ret_blocks) {
    const double heads = (double)w->m->heads, least = w->l.r.warps > 1 ? SYNC_ROWS : WIDE_ROWS;
    const double shared = w->m->kv_rank > 0 ? 1 : (double)w->m->kv_heads;
    *ret_blocks = shared * ceil(heads / shared / WIDE_ROWS);
    return w->decoding ? shared * ceil(heads / shared / least) * least : heads;
}

static void attend(moe_int_whole *w, double keys, int64_t layers) {
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

static void attention(moe_int_whole *w) {
    attend(w, w->context, w->m->full);
    attend(w, fmin(w->context, (double)w->m->window), w->m->windowed);
}

/* Queries and keys are turned by their positions and, in some families, normalised before, in a
 * kernel each (vLLM's and SGLang's qwen3_moe.py). */
static void turns(moe_int_whole *w) {
    const moe_model_shape *m = w->m;
    const double head = w->T * (double)m->qk_dim * w->l.element;
    const double turned = (double)(m->heads + m->kv_heads) * head;
    for (int64_t i = 0; i < moe_int_attending(m); i++) {
        for (int side = 0; side < 2 && m->head_norms; side++) {
            const double bytes = (double)(side ? m->kv_heads : m->heads) * head;
            moe_int_whole_stream(w, bytes, bytes);
        }
        moe_int_whole_stream(w, turned, turned);
    }
}

static void keep_keys(moe_int_whole *w) {
    const double value = moe_int_kv_values(w->m) * w->l.element, T = w->T;
    const double full = w->decoding ? w->context + 1 : 1;
    const double windowed = fmin(full, (double)w->m->window);
    w->kept += value * T * (full * (double)w->m->full + windowed * (double)w->m->windowed);
}

/* A part of layers that attend, first of those that attend to all, then of the windowed ones, whose
 * heads may be others. */
static void by_heads(moe_int_whole *w, void (*part)(moe_int_whole *)) {
    const moe_model_shape *all = w->m;
    moe_model_shape full = *all, windowed = *all;
    full.windowed = 0;
    windowed.full = 0;
    if (all->near.kv_heads > 0) {
        windowed.kv_heads = all->near.kv_heads;
        windowed.qk_dim = all->near.qk_dim;
        windowed.v_dim = all->near.v_dim;
    }
    w->m = &full;
    part(w);
    w->m = &windowed;
    part(w);
    w->m = all;
}

void moe_int_whole_projections(moe_int_whole *w) {
    by_heads(w, projections);
}

void moe_int_whole_attention(moe_int_whole *w) {
    by_heads(w, attention);
}

void moe_int_whole_turns(moe_int_whole *w) {
    by_heads(w, turns);
}

void moe_int_whole_keep(moe_int_whole *w) {
    by_heads(w, keep_keys);
}
