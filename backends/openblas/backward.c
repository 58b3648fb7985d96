/* Backward, in SonicMoE's order (arXiv 2512.14080): dA' = dO W2 with dO gathered; from it and the
 * cached H, row by row, dS = <dA', A>, A' = w A and dH; dW2; dX~ = dH W1; dX_t = sum dX~; dW1. */
#include "clock.h"
#include "pack.h"

#include <math.h>
#include <string.h>

/* dA' [rows][n] goes to where dH will be, in rows of dH's width. */
static void d_act_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    const int64_t ldx = e->token ? ob_pitch(e->d) : e->d;
    const float *dO = e->token ? pack : job->layer->dO + t->row * e->d;
    if (e->token)
        ob_gather(e, job->layer->dO, t->row, t->rows, 0, e->d, false, pack, ldx);
    ob_multiply(job->layer, &(ob_product){.w = &e->W2,
                                          .across = true,
                                          .expert = t->expert,
                                          .col = t->col,
                                          .rows = t->rows,
                                          .cols = t->cols,
                                          .x = dO,
                                          .ldx = ldx,
                                          .scratch = pack,
                                          .y = job->out + t->row * e->width + t->col,
                                          .ldy = e->width});
}

/* dA' -> dS, A' (into the work buffer) and dH. With the weight on the input, the expert's output
 * counts once and dS comes later, from dX~. */
static void d_pre_act_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    float *scaled = job->layer->buffer[OB_BUF_WORK].data;
    for (int64_t r = t->row; r < t->row + t->rows; r++) {
        float *dh = job->out + r * e->width;
        memcpy(pack, dh, (size_t)e->n * sizeof *pack);
        double dS = ob_act_backward(&e->act, e->H + r * e->width, pack,
                                    e->on_input ? 1.0f : ob_weight_of(e, r), scaled + r * e->n, dh);
        if (e->b2)
            dS += ob_dot(job->layer->dO + ob_token_of(e, r) * e->d, e->b2 + t->expert * e->d, e->d);
        e->dS[r] = dS;
    }
}

static void d_input_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_experts *e = job->experts;
    const float *dH = job->layer->buffer[OB_BUF_DH].data;
    ob_multiply(job->layer, &(ob_product){.w = &e->W1,
                                          .across = true,
                                          .expert = t->expert,
                                          .col = t->col,
                                          .rows = t->rows,
                                          .cols = t->cols,
                                          .x = dH + t->row * e->width,
                                          .ldx = e->width,
                                          .scratch = pack,
                                          .y = job->out + t->row * e->d + t->col,
                                          .ldy = e->d});
}

/* Weight on the input: it multiplied x, so its gradient is <dX~, x>. */
static void d_weight_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    const ob_experts *e = job->experts;
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        e->dS[r] = ob_dot(job->out + r * e->d, job->layer->X + ob_token_of(e, r) * e->d, e->d);
}

/* dX_t = sum over its pairs; an identity expert's pair has dX = w dO and dS = <dO, x>. */
static void d_combine_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    const ob_layer *l = job->layer;
    const ob_experts *e = job->experts;
    const float *dXp = l->buffer[OB_BUF_WORK].data, *weight = l->buffer[OB_BUF_WEIGHT].data;
    double *dS = l->buffer[OB_BUF_DS].data;
    for (int64_t token = t->row; token < t->row + t->rows; token++) {
        float *dx = job->out + token * e->d;
        const float *dO = l->dO + token * e->d;
        if (!job->accumulate)
            memset(dx, 0, (size_t)e->d * sizeof *dx);
        for (int64_t i = l->plan->token_offsets[token]; i < l->plan->token_offsets[token + 1];
             i++) {
            int64_t pair = l->plan->pair_of_token[i];
            if (pair >= e->rows) {
                ob_add_scaled(dx, weight[pair], dO, e->d);
                dS[pair] = ob_dot(dO, l->X + token * e->d, e->d);
            } else {
                ob_add_scaled(dx, e->on_input ? weight[pair] : 1.0f, dXp + pair * e->d, e->d);
            }
        }
    }
}

static moe_status run_rows(ob_layer *layer, const ob_experts *experts, int64_t columns,
                           int64_t depth, float *out, ob_body body) {
    ob_job job = {.layer = layer, .experts = experts, .out = out};
    ob_cut cut = {.offsets = experts->offsets,
                  .groups = experts->E,
                  .row_block = OB_ROWS,
                  .columns = columns,
                  .depth = depth};
    return ob_run(&job, &cut, body);
}

/* All stages of one group of experts; dX~ [rows][d] goes to dXp, which may be the work buffer: A'
 * is dead by then. A body that treats whole rows gets one column, so that rows alone are cut. */
static moe_status experts_backward(ob_layer *layer, const ob_experts *experts, float *dXp) {
    ob_clock clock = ob_clock_start(layer, experts == &layer->shared);
    float *dH = layer->buffer[OB_BUF_DH].data;
    moe_status status = run_rows(layer, experts, experts->n, experts->d, dH, d_act_body);
    if (!status)
        status = run_rows(layer, experts, 1, 4 * experts->n, dH, d_pre_act_body);
    ob_clock_stop(&clock, MOE_STAGE_DH);
    if (!status)
        status = ob_experts_dW2(layer, experts);
    ob_clock_stop(&clock, MOE_STAGE_DW2);
    if (!status)
        status = run_rows(layer, experts, experts->d, experts->width, dXp, d_input_body);
    if (!status && experts->on_input)
        status = run_rows(layer, experts, 1, experts->d, dXp, d_weight_body);
    ob_clock_stop(&clock, MOE_STAGE_DXP);
    if (!status)
        status = ob_experts_dW1(layer, experts);
    ob_clock_stop(&clock, MOE_STAGE_DW1);
    return status;
}

/* dz = dS g (1 - g) of the shared expert's gate, kept in its dS; its part of dX. */
static void d_gate_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    ob_layer *l = job->layer;
    const float *w = l->param.t[MOE_T_W_GATE_SHARED].data;
    const double *logit = l->buffer[OB_BUF_GATE_LOGIT].data;
    for (int64_t token = t->row; token < t->row + t->rows; token++) {
        double z = logit[token], *dS = &job->experts->dS[token];
        *dS *= 1 / (1 + exp(-z)) * (1 / (1 + exp(z)));
        ob_add_scaled(job->out + token * l->desc.d, (float)*dS, w, l->desc.d);
    }
}

static void d_gate_weight_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_layer *l = job->layer;
    double *sums = (double *)pack;
    ob_sum_start(l, job->out + t->col, t->cols, sums);
    for (int64_t token = 0; token < l->T; token++)
        ob_sum_row(sums, job->experts->dS[token], l->X + token * l->desc.d + t->col, t->cols);
    ob_narrow(sums, job->out + t->col, t->cols);
}

/* The shared expert's dX~ is its part of dX: row r is token r. */
static moe_status run_shared(ob_layer *layer, float *dX) {
    moe_status status = experts_backward(layer, &layer->shared, dX);
    if (status || !layer->shared.weight)
        return status;
    ob_clock clock = ob_clock_start(layer, 1);
    ob_job job = {.layer = layer, .experts = &layer->shared, .out = dX};
    status = ob_run_tokens(&job, 64, layer->desc.d, d_gate_body);
    if (!status && layer->gradient.t[MOE_T_DW_GATE_SHARED].data) {
        job.out = layer->gradient.t[MOE_T_DW_GATE_SHARED].data;
        ob_cut cut = {.offsets = layer->shared.offsets,
                      .groups = 1,
                      .columns = layer->desc.d,
                      .col_block = OB_SUM_COLS,
                      .depth = 1};
        status = ob_run(&job, &cut, d_gate_weight_body);
    }
    ob_clock_stop(&clock, MOE_STAGE_DX);
    return status;
}

static moe_status run_routed(ob_layer *layer, float *dX) {
    moe_status status = experts_backward(layer, &layer->routed, layer->buffer[OB_BUF_WORK].data);
    if (status)
        return status;
    ob_clock clock = ob_clock_start(layer, 0);
    ob_job job = {.layer = layer,
                  .experts = &layer->routed,
                  .out = dX,
                  .accumulate = layer->desc.n_shared > 0};
    status = ob_run_tokens(&job, 64, layer->desc.K * layer->desc.d, d_combine_body);
    ob_clock_stop(&clock, MOE_STAGE_DX);
    if (!status && !layer->use.plan_given) {
        status = ob_router_backward(layer);
        ob_clock_stop(&clock, MOE_STAGE_ROUTER_BACKWARD);
    }
    return status;
}

moe_status ob_layer_backward(void *self) {
    ob_layer *layer = self;
    int saved = ob_blas_enter(&layer->dev->blas);
    for (int stage = 0; stage < MOE_STAGE_COUNT; stage++)
        if (moe_stage_info_of((moe_stage)stage).pass == MOE_PASS_BWD)
            layer->us[stage] = 0;
    float *dX = layer->buffer[OB_BUF_DX].data;
    moe_status status = layer->desc.n_shared ? run_shared(layer, dX) : MOE_OK;
    if (!status)
        status = run_routed(layer, dX);
    ob_blas_leave(&layer->dev->blas, saved);
    return status;
}
