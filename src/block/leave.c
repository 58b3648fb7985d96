/* A block from its experts on: its output, and every gradient. */
#include "block/block.h"
#include "core/elements.h"
#include "moeref/reference.h"

#include <stdlib.h>
#include <string.h>

/* What lies between the experts and the block's output, kept for the way back. */
typedef struct behind {
    moe_int_trace pair, after, out;
    moe_reference_result *shared; /* NULL: there is none */
    double *g;                    /* [T][d] gradient of after(u), and of the shared expert */
    double *du;                   /* [T][latent] of the sum */
    double *dpair;                /* [pairs][latent] of the experts' output; by pairs */
} behind;

static void behind_destroy(behind *k) {
    moe_int_trace_destroy(&k->pair);
    moe_int_trace_destroy(&k->after);
    moe_int_trace_destroy(&k->out);
    moe_reference_result_destroy(&k->shared);
    free(k->g);
    free(k->du);
    free(k->dpair);
}

static double *zeros(int64_t rows, int64_t columns) {
    return calloc((size_t)(rows * columns) + 1, sizeof(double));
}

static void add(double *to, const double *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] += x[i];
}

static moe_status copy(const double *rows, int64_t count, int64_t columns, moe_tensor *ret) {
    moe_status status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){count, columns}, ret);
    if (!status)
        memcpy(ret->data, rows, (size_t)(count * columns) * sizeof *rows);
    return status;
}

/* [a][b] as [1][a][b] */
static moe_tensor stacked(const moe_tensor *t) {
    return (moe_tensor){t->data, t->dtype, 3, {1, t->shape[0], t->shape[1]}};
}

/* The shared expert is a layer of one expert that every token has. dO NULL: forward alone. */
static moe_status run_shared(const moe_block *b, double *dO, const moe_log *log,
                             moe_reference_result **ret) {
    moe_layer_desc desc = moe_shared_desc(&b->layer);
    moe_tensors in = {.t = {[MOE_T_X] = b->X,
                            [MOE_T_W1] = stacked(&b->shared.t[MOE_T_W1_SHARED]),
                            [MOE_T_W2] = stacked(&b->shared.t[MOE_T_W2_SHARED])}};
    if (dO)
        in.t[MOE_T_DO] = (moe_tensor){dO, MOE_F64, 2, {b->T, b->layer.d}};
    desc.n = b->layer.n_shared;
    desc.E = desc.K = 1;
    desc.n_zero = desc.n_shared = 0;
    desc.act = b->shared_act;
    desc.glu_layout = MOE_GLU_CONCAT;
    desc.expert_bias = 0;
    moe_layer_desc plain;
    moe_layer_desc_init(&plain);
    desc.router = plain.router;
    moe_plan *all = NULL;
    int32_t *token = malloc((size_t)(b->T + 1) * sizeof *token);
    int32_t *expert = calloc((size_t)(b->T + 1), sizeof *expert);
    moe_status status = token && expert ? MOE_OK : MOE_E_NOMEM;
    for (int64_t t = 0; !status && t < b->T; t++)
        token[t] = (int32_t)t;
    if (!status)
        status = moe_plan_create(b->T, 1, b->T, token, expert, NULL, log, &all);
    moe_reference_params params = {
        .tokens = b->T, .precision = MOE_F64, .plan = all, .plan_given = 1};
    moe_reference_result_destroy(ret);
    if (!status)
        status = moe_reference_run(&desc, &in, &params, log, ret);
    moe_plan_destroy(&all);
    free(token);
    free(expert);
    return status;
}

/* sum[t] = sum over t's pairs of weight x their rows */
static void sum_pairs(const moe_block *b, const double *rows, double *sum) {
    for (int64_t p = 0; p < moe_int_block_pairs(b); p++)
        for (int64_t i = 0; i < b->latent; i++)
            sum[b->plan->token[p] * b->latent + i] += b->plan->weight[p] * rows[p * b->latent + i];
}

/* The experts' output, weighted and summed: [T][latent], which the caller frees. */
static moe_status sum_experts(const moe_block *b, const double *core, moe_int_trace *pair,
                              double **ret) {
    const moe_int_chain *chain = &b->chain[MOE_INT_PLACE_PAIR];
    const bool apart = moe_int_block_is_by_pairs(b);
    moe_status status =
        apart ? moe_int_chain_forward(chain, core, moe_int_block_pairs(b), b->latent, pair)
              : MOE_OK;
    double *sum = status ? NULL : zeros(b->T, b->latent);
    if (sum && apart)
        sum_pairs(b, moe_int_trace_end(chain, pair), sum);
    else if (sum)
        memcpy(sum, core, (size_t)(b->T * b->latent) * sizeof *core);
    *ret = sum;
    return sum ? MOE_OK : MOE_E_NOMEM;
}

/* From the experts' output to the block's. */
static moe_status go_on(const moe_block *b, const double *core, const moe_log *log, behind *k) {
    const moe_int_chain *after = &b->chain[MOE_INT_PLACE_AFTER];
    const int64_t count = b->T * b->layer.d;
    double *sum;
    moe_status status = sum_experts(b, core, &k->pair, &sum);
    if (!status)
        status = moe_int_chain_forward(after, sum, b->T, b->latent, &k->after);
    free(sum);
    if (!status && b->layer.n_shared)
        status = run_shared(b, NULL, log, &k->shared);
    if (status)
        return status;
    double *whole = malloc((size_t)(count + 1) * sizeof *whole);
    if (!whole)
        return MOE_E_NOMEM;
    memcpy(whole, moe_int_trace_end(after, &k->after), (size_t)count * sizeof *whole);
    if (k->shared)
        add(whole, k->shared->out.t[MOE_T_O].data, count);
    status = moe_int_chain_forward(&b->chain[MOE_INT_PLACE_OUT], whole, b->T, b->layer.d, &k->out);
    free(whole);
    return status;
}

/* From the block's dO to the gradient of the experts' sum, and of their pairs' rows. */
static moe_status come_back(const moe_block *b, behind *k, moe_int_block_result *r) {
    const int64_t P = moe_int_block_pairs(b), width = b->latent;
    moe_status status = moe_int_chain_backward(&b->chain[MOE_INT_PLACE_OUT], &k->out, b->dO.data,
                                               b->layer.d, &k->g, &r->chain[MOE_INT_PLACE_OUT]);
    if (!status)
        status = moe_int_chain_backward(&b->chain[MOE_INT_PLACE_AFTER], &k->after, k->g, width,
                                        &k->du, &r->chain[MOE_INT_PLACE_AFTER]);
    if (status || !moe_int_block_is_by_pairs(b))
        return status;
    double *dy = zeros(P, width);
    if (!dy)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < P * width; i++)
        dy[i] = b->plan->weight[i / width] * k->du[b->plan->token[i / width] * width + i % width];
    status = moe_int_chain_backward(&b->chain[MOE_INT_PLACE_PAIR], &k->pair, dy, width, &k->dpair,
                                    &r->chain[MOE_INT_PLACE_PAIR]);
    free(dy);
    return status;
}

moe_status moe_int_block_back(const moe_block *b, const moe_tensors *core, const moe_log *log,
                              moe_tensor *ret) {
    behind k = {0};
    moe_int_block_result r = {0};
    if (!core->t[MOE_T_O].data)
        return MOE_E_INVALID;
    moe_status status = go_on(b, core->t[MOE_T_O].data, log, &k);
    if (!status)
        status = come_back(b, &k, &r);
    if (!status && moe_int_block_is_by_pairs(b))
        status = copy(k.dpair, moe_int_block_pairs(b), b->latent, ret);
    else if (!status)
        status = copy(k.du, b->T, b->latent, ret);
    behind_destroy(&k);
    moe_int_block_result_destroy(&r);
    return status;
}

/* dS of all pairs, those without an expert 0: the experts' own, or by pairs <dsum, pair(Y)>. */
static moe_status weight_gradients(const moe_block *b, const behind *k, const double *dS,
                                   moe_tensor *ret) {
    const int64_t P = moe_int_block_pairs(b), width = b->latent;
    moe_status status = moe_tensor_alloc(MOE_F64, 1, (int64_t[]){b->plan->n_pairs}, ret);
    double *sum = ret->data;
    if (!status && !moe_int_block_is_by_pairs(b))
        memcpy(sum, dS, (size_t)P * sizeof *sum);
    if (status || !moe_int_block_is_by_pairs(b))
        return status;
    const double *y = moe_int_trace_end(&b->chain[MOE_INT_PLACE_PAIR], &k->pair);
    for (int64_t i = 0; i < P * width; i++)
        sum[i / width] += k->du[b->plan->token[i / width] * width + i % width] * y[i];
    return MOE_OK;
}

/* The way back through the router, onto dx. */
static moe_status leave_router(const moe_block *b, double *dx, moe_int_block_result *r) {
    const moe_int_chain *router = &b->chain[MOE_INT_PLACE_ROUTER];
    double *dz = NULL, *d_router = NULL;
    moe_status status = moe_int_block_unchoose(b, r->dS.data, &r->dscale, &dz);
    if (!status)
        status = moe_int_chain_backward(router, &b->router, dz, b->layer.d, &d_router,
                                        &r->chain[MOE_INT_PLACE_ROUTER]);
    if (!status)
        add(dx, d_router, b->T * b->layer.d);
    free(dz);
    free(d_router);
    return status;
}

/* The way back through what is before the experts: *ret is [T][d]. */
static moe_status leave_before(const moe_block *b, const double *dX, double **ret,
                               moe_int_block_result *r) {
    const int64_t width = b->latent;
    double *dh = zeros(b->T, width);
    if (!dh)
        return MOE_E_NOMEM;
    const int64_t rows = moe_int_block_is_by_pairs(b) ? moe_int_block_pairs(b) : b->T;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = moe_int_block_is_by_pairs(b) ? b->plan->token[i] : i;
        add(dh + t * width, dX + i * width, width);
    }
    moe_status status = moe_int_chain_backward(&b->chain[MOE_INT_PLACE_BEFORE], &b->before, dh,
                                               width, ret, &r->chain[MOE_INT_PLACE_BEFORE]);
    free(dh);
    return status;
}

static moe_status leave_shared(const moe_block *b, behind *k, const moe_log *log, double *dx,
                               moe_int_block_result *r) {
    static const moe_tensor_id ids[][2] = {{MOE_T_DW1, MOE_T_DW1_SHARED},
                                           {MOE_T_DW2, MOE_T_DW2_SHARED}};
    if (!b->layer.n_shared)
        return MOE_OK;
    moe_status status = run_shared(b, k->g, log, &k->shared);
    for (int i = 0; !status && i < 2; i++) {
        const moe_tensor *from = &k->shared->out.t[ids[i][0]];
        status = copy(from->data, from->shape[1], from->shape[2], &r->shared.t[ids[i][1]]);
    }
    if (!status)
        add(dx, k->shared->out.t[MOE_T_DX].data, b->T * b->layer.d);
    return status;
}

static moe_status backward(const moe_block *b, const moe_tensors *core, const moe_log *log,
                           behind *k, moe_int_block_result *r) {
    double *dx = NULL;
    moe_status status = come_back(b, k, r);
    if (!status)
        status = leave_before(b, core->t[MOE_T_DX].data, &dx, r);
    if (!status)
        status = leave_shared(b, k, log, dx, r);
    if (!status)
        status = weight_gradients(b, k, core->t[MOE_T_DS].data, &r->dS);
    if (!status)
        status = leave_router(b, dx, r);
    if (!status)
        status = copy(dx, b->T, b->layer.d, &r->dX);
    free(dx);
    return status;
}

/* The problem's results in float64; those that a forward pass lacks stay absent. */
static moe_status widen(const moe_tensors *core, moe_tensors *ret) {
    static const moe_tensor_id ids[] = {MOE_T_O, MOE_T_DX, MOE_T_DS};
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < sizeof ids / sizeof *ids; i++)
        if (core->t[ids[i]].data)
            status = moe_tensor_cast(&core->t[ids[i]], MOE_F64, &ret->t[ids[i]]);
    return status;
}

moe_status moe_int_block_leave(const moe_block *b, const moe_problem *p, const moe_tensors *core,
                               const moe_log *log, moe_int_block_result *ret) {
    behind k = {0};
    moe_tensors wide = {0};
    moe_status status = core->t[MOE_T_O].data ? widen(core, &wide) : MOE_E_INVALID;
    if (!status)
        status = go_on(b, wide.t[MOE_T_O].data, log, &k);
    if (!status)
        status = copy(moe_int_trace_end(&b->chain[MOE_INT_PLACE_OUT], &k.out), b->T, b->layer.d,
                      &ret->O);
    if (!status)
        status = moe_int_block_report(b, ret);
    if (!status && (p->pass & MOE_PASS_BWD))
        status = backward(b, &wide, log, &k, ret);
    behind_destroy(&k);
    moe_tensors_destroy(&wide);
    return status;
}

void moe_int_block_result_destroy(moe_int_block_result *r) {
    moe_tensor *tensors[] = {&r->O, &r->dX, &r->logits, &r->weight, &r->state, &r->dscale, &r->dS};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        moe_tensor_destroy(tensors[i]);
    moe_tensors_destroy(&r->shared);
    for (int i = 0; i < MOE_INT_PLACE_COUNT; i++)
        moe_int_chain_gradients_destroy(&r->chain[i]);
}
