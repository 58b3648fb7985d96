/* Forward: router, then H = X_e W1^T + b1, Y = act(H) W2^T + b2, O_t = sum w Y. */
#include "clock.h"
#include "pack.h"

#include <math.h>
#include <string.h>

/* Every row of c starts as `bias`; the GEMM then adds to it. Returns its beta. */
static float start_with_bias(const float *bias, int64_t rows, int64_t cols, float *c, int64_t ldc) {
    for (int64_t i = 0; bias && i < rows; i++)
        memcpy(c + i * ldc, bias, (size_t)cols * sizeof *c);
    return bias ? 1.0f : 0.0f;
}

static void up_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    const bool packed = e->token || e->on_input;
    const int64_t d = e->d, ldx = packed ? ob_pitch(d) : d;
    const float *x = packed ? pack : job->layer->X + t->row * d;
    if (packed)
        ob_gather(e, job->layer->X, t->row, t->rows, 0, d, e->on_input, pack, ldx);
    float *h = e->H + t->row * e->width + t->col;
    int64_t first_out = t->expert * e->width + t->col;
    float beta = start_with_bias(e->b1 ? e->b1 + first_out : NULL, t->rows, t->cols, h, e->width);
    ob_multiply(job->layer, &(ob_product){.w = &e->W1,
                                          .expert = t->expert,
                                          .col = t->col,
                                          .rows = t->rows,
                                          .cols = t->cols,
                                          .x = x,
                                          .ldx = ldx,
                                          .scratch = pack,
                                          .beta = beta,
                                          .y = h,
                                          .ldy = e->width});
}

static void down_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    const int64_t d = e->d, ldx = ob_pitch(e->n);
    for (int64_t i = 0; i < t->rows; i++)
        ob_act_forward(&e->act, e->H + (t->row + i) * e->width, pack + i * ldx);
    float *y = job->out + t->row * d + t->col;
    int64_t first_out = t->expert * d + t->col;
    float beta = start_with_bias(e->b2 ? e->b2 + first_out : NULL, t->rows, t->cols, y, d);
    ob_multiply(job->layer, &(ob_product){.w = &e->W2,
                                          .expert = t->expert,
                                          .col = t->col,
                                          .rows = t->rows,
                                          .cols = t->cols,
                                          .x = pack,
                                          .ldx = ldx,
                                          .scratch = pack,
                                          .beta = beta,
                                          .y = y,
                                          .ldy = d});
}

/* Identity experts' pairs follow the real ones and add w x. */
static void combine_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    const ob_layer *l = job->layer;
    const ob_experts *e = job->experts;
    const float *Y = l->buffer[OB_BUF_WORK].data, *weight = l->buffer[OB_BUF_WEIGHT].data;
    for (int64_t token = t->row; token < t->row + t->rows; token++) {
        float *o = job->out + token * e->d;
        if (!job->accumulate)
            memset(o, 0, (size_t)e->d * sizeof *o);
        for (int64_t i = l->plan->token_offsets[token]; i < l->plan->token_offsets[token + 1];
             i++) {
            int64_t pair = l->plan->pair_of_token[i];
            if (pair >= e->rows)
                ob_add_scaled(o, weight[pair], l->X + token * e->d, e->d);
            else
                ob_add_scaled(o, e->on_input ? 1.0f : weight[pair], Y + pair * e->d, e->d);
        }
    }
}

/* g_t = sigmoid(x_t . w_gate) of the shared expert, then O_t = g_t Y_t in place. */
static void gate_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    ob_layer *l = job->layer;
    int64_t d = l->desc.d;
    const float *w = l->param.t[MOE_T_W_GATE_SHARED].data;
    double *logit = l->buffer[OB_BUF_GATE_LOGIT].data;
    float *gate = l->buffer[OB_BUF_GATE].data;
    for (int64_t token = t->row; token < t->row + t->rows; token++) {
        logit[token] = ob_dot(l->X + token * d, w, d);
        gate[token] = (float)(1 / (1 + exp(-logit[token])));
        ob_scale(job->out + token * d, gate[token], job->out + token * d, d);
    }
}

static moe_status run_up(ob_layer *layer, const ob_experts *experts) {
    ob_job job = {.layer = layer, .experts = experts};
    ob_cut cut = {.offsets = experts->offsets,
                  .groups = experts->E,
                  .row_block = OB_ROWS,
                  .columns = experts->width,
                  .depth = experts->d};
    return ob_run(&job, &cut, up_body);
}

static moe_status run_down(ob_layer *layer, const ob_experts *experts, float *Y) {
    ob_job job = {.layer = layer, .experts = experts, .out = Y};
    ob_cut cut = {.offsets = experts->offsets,
                  .groups = experts->E,
                  .row_block = OB_ROWS,
                  .columns = experts->d,
                  .depth = experts->n};
    return ob_run(&job, &cut, down_body);
}

moe_status ob_recompute_Y(ob_layer *layer, float *Y) {
    return run_down(layer, &layer->routed, Y);
}

/* The shared expert's Y is its part of O: row r is token r. */
static moe_status run_shared(ob_layer *layer, float *O) {
    ob_clock clock = ob_clock_start(layer, 1);
    moe_status status = run_up(layer, &layer->shared);
    ob_clock_stop(&clock, MOE_STAGE_A);
    if (!status)
        status = run_down(layer, &layer->shared, O);
    ob_clock_stop(&clock, MOE_STAGE_Y);
    if (!status && layer->shared.weight) {
        ob_job job = {.layer = layer, .out = O};
        status = ob_run_tokens(&job, 64, 2 * layer->desc.d, gate_body);
        ob_clock_stop(&clock, MOE_STAGE_O);
    }
    return status;
}

static moe_status run_routed(ob_layer *layer, float *O) {
    ob_clock clock = ob_clock_start(layer, 0);
    moe_status status = run_up(layer, &layer->routed);
    ob_clock_stop(&clock, MOE_STAGE_A);
    if (!status)
        status = run_down(layer, &layer->routed, layer->buffer[OB_BUF_WORK].data);
    ob_clock_stop(&clock, MOE_STAGE_Y);
    if (!status) {
        ob_job job = {.layer = layer,
                      .experts = &layer->routed,
                      .out = O,
                      .accumulate = layer->desc.n_shared > 0};
        status = ob_run_tokens(&job, 64, layer->desc.K * layer->desc.d, combine_body);
    }
    ob_clock_stop(&clock, MOE_STAGE_O);
    return status;
}

static moe_status run_router(ob_layer *layer) {
    ob_clock clock = ob_clock_start(layer, 0);
    moe_status status = ob_router_forward(layer);
    ob_clock_stop(&clock, MOE_STAGE_ROUTER);
    return status;
}

moe_status ob_layer_forward(void *self) {
    ob_layer *layer = self;
    int saved = ob_blas_enter(&layer->dev->blas);
    memset(layer->us, 0, sizeof layer->us);
    moe_status status = layer->use.plan_given ? MOE_OK : run_router(layer);
    if (!status && layer->desc.n_shared)
        status = run_shared(layer, layer->buffer[OB_BUF_O].data);
    if (!status)
        status = run_routed(layer, layer->buffer[OB_BUF_O].data);
    ob_blas_leave(&layer->dev->blas, saved);
    return status;
}
