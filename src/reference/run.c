/* The whole layer: prepare, run every expert forward and backward, combine. */
#include "reference/run.h"
#include "core/progress.h"
#include "reference/combine.h"
#include "reference/ffn.h"
#include "reference/prepare.h"

#include <stdlib.h>

#define RUN REAL(moe_int_run)

/* Expert e's parameters; biases are allocated. */
static moe_status load_expert(run_state *r, int64_t e, ffn *f) {
    const moe_layer_desc *desc = r->desc;
    int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    real *b1 = NULL, *b2 = NULL;
    moe_status status = load_into(r, MOE_T_W1, e * hw * d, hw * d, &r->weights[0], &f->W1);
    if (!status)
        status = load_into(r, MOE_T_W2, e * d * n, d * n, &r->weights[1], &f->W2);
    if (!status && desc->expert_bias)
        status = load(r, MOE_T_B1, e * hw, hw, &b1);
    if (!status && desc->expert_bias)
        status = load(r, MOE_T_B2, e * d, d, &b2);
    f->b1 = b1;
    f->b2 = b2;
    return status;
}

static void free_biases(const ffn *f) {
    free((void *)f->b1);
    free((void *)f->b2);
}

/* Element `index` of a result, or NULL where it is not wanted. */
static real *at(void *data, int64_t index) {
    return data ? (real *)data + index : NULL;
}

static void point_at_results(const run_state *r, int64_t e, ffn *f) {
    int64_t d = r->desc->d, n = f->n, hw = f->hw, row = r->res->plan->offsets[e];
    f->H = at(out_of(r, MOE_T_H), row * hw);
    f->A = at(out_of(r, MOE_T_A), row * n);
    f->Y = at(out_of(r, MOE_T_Y), row * d);
    f->dS = at(out_of(r, MOE_T_DS), row);
    f->dH = at(out_of(r, MOE_T_DH), row * hw);
    f->dXp = at(out_of(r, MOE_T_DXP), row * d);
    f->dW1 = at(out_of(r, MOE_T_DW1), e * hw * d);
    f->db1 = at(out_of(r, MOE_T_DB1), e * hw);
    f->dW2 = at(out_of(r, MOE_T_DW2), e * d * n);
    f->db2 = at(out_of(r, MOE_T_DB2), e * d);
}

static moe_status run_experts(run_state *r) {
    const moe_plan *plan = r->res->plan;
    moe_status status = MOE_OK;
    for (int64_t e = 0; !status && e < r->desc->E; e++) {
        ffn f = {.desc = r->desc,
                 .n = r->desc->n,
                 .hw = moe_h_width(r->desc, r->desc->n),
                 .layout = r->desc->glu_layout,
                 .threads = r->threads,
                 .storage = r->storage,
                 .points = r->points,
                 .rows = plan->offsets[e + 1] - plan->offsets[e],
                 .token = plan->token + plan->offsets[e],
                 .weight = out_of(r, MOE_T_S) + plan->offsets[e],
                 .on_input = r->desc->router.weight_on == MOE_WEIGHT_ON_INPUT,
                 .chain = r->chain.unit ? &r->chain : NULL,
                 .gates_first = r->gates_first,
                 .X = r->X,
                 .dO = r->dO};
        moe_int_progress(r->params->progress, "oracle", e, r->desc->E);
        if (f.rows == 0) /* what it has is 0, as results are */
            continue;
        point_at_results(r, e, &f);
        status = load_expert(r, e, &f);
        if (!status)
            status = ffn_forward(&f);
        if (!status && r->dO)
            status = ffn_backward(&f);
        free_biases(&f);
    }
    return status;
}

/* The shared expert is an expert that sees every token, with sigmoid(x . w_gate) as its weight. */
static moe_status run_shared(run_state *r) {
    const moe_layer_desc own = moe_shared_desc(r->desc), *desc = &own;
    int64_t T = r->T, d = desc->d, n = desc->n_shared, hw = moe_h_width(desc, n);
    shared_state *sh = &r->shared;
    real *w1 = NULL, *w2 = NULL, *h = NULL, *a = NULL, *dh = NULL;
    moe_status status = load(r, MOE_T_W1_SHARED, 0, hw * d, &w1);
    if (!status)
        status = load(r, MOE_T_W2_SHARED, 0, d * n, &w2);
    if (!status && desc->shared_gate)
        status = load(r, MOE_T_W_GATE_SHARED, 0, d, &sh->w_gate);
    real **buffers[] = {&h, &a, &sh->Y, &sh->gate, &dh, &sh->dX, &sh->d_gate};
    int64_t counts[] = {T * hw, T * n, T * d, T, T * hw, T * d, T};
    for (int i = 0; !status && i < 7; i++)
        status = alloc_real(counts[i], buffers[i]);
    if (!status) {
        fill_shared_gate(r);
        ffn f = {.desc = desc,
                 .n = n,
                 .hw = hw,
                 .threads = r->threads,
                 .storage = r->storage,
                 .points = r->points,
                 .rows = T,
                 .weight = sh->gate,
                 .chain = r->chain.unit ? &r->chain : NULL,
                 .X = r->X,
                 .dO = r->dO,
                 .W1 = w1,
                 .W2 = w2,
                 .H = h,
                 .A = a,
                 .Y = sh->Y,
                 .dS = sh->d_gate,
                 .dH = dh,
                 .dXp = sh->dX,
                 .dW1 = out_of(r, MOE_T_DW1_SHARED),
                 .dW2 = out_of(r, MOE_T_DW2_SHARED)};
        status = ffn_forward(&f);
        if (!status && r->dO)
            status = ffn_backward(&f);
    }
    free(w1);
    free(w2);
    free(h);
    free(a);
    free(dh);
    return status;
}

static void run_destroy(run_state *r) {
    for (int i = 0; i < 2; i++)
        moe_int_room_destroy(&r->weights[i]);
    free(r->X);
    free(r->dO);
    free(r->gates_first);
    free(r->logits);
    free(r->d_logits);
    free(r->shared.w_gate);
    free(r->shared.gate);
    free(r->shared.d_gate);
    free(r->shared.Y);
    free(r->shared.dX);
}

moe_status RUN(const moe_layer_desc *desc, const moe_tensors *in,
               const moe_reference_params *params, int threads, const moe_log *log,
               moe_reference_result *res) {
    run_state r = {.desc = desc,
                   .in = in,
                   .params = params,
                   .threads = threads,
                   .log = log,
                   .res = res,
                   .T = params->tokens,
                   .storage = (moe_dtype)params->precision,
                   .points =
                       params->recipe ? params->recipe->points : moe_recipe_find("moeref")->points,
                   .plan_given = params->plan && params->plan_given};
    moe_status status = prepare(&r);
    if (!status)
        status = run_experts(&r);
    if (!status && desc->n_shared)
        status = run_shared(&r);
    if (!status)
        combine_forward(&r);
    if (!status && r.dO)
        status = combine_backward(&r);
    run_destroy(&r);
    return status;
}
