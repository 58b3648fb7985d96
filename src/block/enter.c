/* A block up to its experts: routing, their input, and the gradient of their output. */
#include "block/block.h"
#include "moeref/reference.h"

#include <stdlib.h>
#include <string.h>

static moe_status route(moe_block *b, const moe_log *log) {
    const moe_int_chain *router = &b->chain[MOE_INT_PLACE_ROUTER];
    moe_status status = moe_int_chain_forward(router, b->X.data, b->T, b->layer.d, &b->router);
    return status ? status : moe_int_block_choose(b, moe_int_trace_end(router, &b->router), log);
}

/* Every pair as a token of its own, with one expert and weight 1; or the plan without the pairs of
 * the class that has no expert, which come last. */
static moe_status give_plan(const moe_block *b, const moe_log *log, moe_problem *p) {
    const int64_t pairs = moe_int_block_pairs(b), E = b->layer.E;
    int32_t *expert = malloc((size_t)(pairs + 1) * sizeof *expert);
    int32_t *token = malloc((size_t)(pairs + 1) * sizeof *token);
    const bool apart = moe_int_block_is_by_pairs(b);
    moe_status status = expert && token ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < E; e++) {
        for (int64_t row = b->plan->offsets[e]; row < b->plan->offsets[e + 1]; row++) {
            expert[row] = (int32_t)e;
            token[row] = apart ? (int32_t)row : b->plan->token[row];
        }
    }
    p->T = apart ? pairs : b->T;
    if (!status)
        status = moe_plan_create(p->T, E, pairs, token, expert, apart ? NULL : b->plan->weight, log,
                                 &p->plan);
    free(expert);
    free(token);
    return status;
}

/* [T][latent] rows to those of the problem's tokens. */
static moe_status gather(const moe_block *b, const double *rows, moe_tensor *ret) {
    const int64_t n = moe_int_block_is_by_pairs(b) ? moe_int_block_pairs(b) : b->T;
    moe_status status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){n, b->latent}, ret);
    double *to = ret->data;
    for (int64_t i = 0; !status && i < n; i++) {
        const int64_t t = moe_int_block_is_by_pairs(b) ? b->plan->token[i] : i;
        memcpy(to + i * b->latent, rows + t * b->latent, (size_t)b->latent * sizeof *to);
    }
    return status;
}

static moe_status give_input(moe_block *b, moe_problem *p) {
    const moe_int_chain *before = &b->chain[MOE_INT_PLACE_BEFORE];
    moe_status status = moe_int_chain_forward(before, b->X.data, b->T, b->layer.d, &b->before);
    moe_tensor rows = {0};
    if (!status)
        status = gather(b, moe_int_trace_end(before, &b->before), &rows);
    if (!status)
        status = moe_tensor_cast(&rows, (moe_dtype)p->dtype, &p->in.t[MOE_T_X]);
    moe_tensor_destroy(&rows);
    return status;
}

moe_layer_desc moe_int_block_experts(const moe_block *b) {
    moe_layer_desc plain, experts = b->layer;
    moe_layer_desc_init(&plain);
    experts.d = b->latent;
    experts.K = moe_int_block_is_by_pairs(b) ? 1 : b->layer.K;
    experts.n_zero = experts.n_shared = experts.shared_gate = 0;
    experts.router = plain.router;
    return experts;
}

/* Is the gradient of the experts' output that of the block's, whatever that output is? */
static bool keeps_gradient(const moe_block *b) {
    const moe_int_chain *out = &b->chain[MOE_INT_PLACE_OUT];
    return !b->chain[MOE_INT_PLACE_PAIR].n && !b->chain[MOE_INT_PLACE_AFTER].n &&
           (!out->n || (out->n == 1 && out->op[0].kind == MOE_INT_OP_SHIFT));
}

bool moe_int_block_keeps_inputs(const moe_block *b) {
    return !b->chain[MOE_INT_PLACE_BEFORE].n && keeps_gradient(b);
}

/* dO' of the experts: what the maps behind them make of dO at the output that the oracle has. */
static moe_status give_gradient(const moe_block *b, const moe_log *log, moe_problem *p) {
    moe_reference_result *oracle = NULL;
    if (keeps_gradient(b))
        return moe_tensor_cast(&b->dO, (moe_dtype)p->dtype, &p->in.t[MOE_T_DO]);
    p->pass = MOE_PASS_FWD;
    moe_status status = moe_reference_problem(p, 0, log, &oracle);
    p->pass = MOE_PASS_BOTH;
    if (!status)
        status = moe_int_block_back(b, &oracle->out, log, &p->in.t[MOE_T_DO]);
    moe_reference_result_destroy(&oracle);
    return status;
}

static void destroy(struct moe_block *block) {
    moe_int_block_destroy(block);
}

moe_status moe_int_block_enter(moe_block *b, const moe_log *log, moe_problem *p) {
    p->block = b;
    p->block_destroy = destroy;
    moe_status status = route(b, log);
    if (!status)
        status = give_plan(b, log, p);
    if (!status)
        status = give_input(b, p);
    if (!status && (p->pass & MOE_PASS_BWD))
        status = give_gradient(b, log, p);
    return status == MOE_E_NOMEM ? moe_fail(log, status, "no memory for what is around the experts")
                                 : status;
}

void moe_int_block_destroy(moe_block *b) {
    if (!b)
        return;
    for (int i = 0; i < MOE_INT_PLACE_COUNT; i++)
        moe_int_chain_destroy(&b->chain[i]);
    moe_tensor *tensors[] = {&b->scale, &b->b_select, &b->X, &b->dO};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        moe_tensor_destroy(tensors[i]);
    moe_tensors_destroy(&b->shared);
    free(b->expert_of_id);
    free(b->token_id);
    moe_int_block_result_destroy(&b->want);
    moe_int_trace_destroy(&b->router);
    moe_int_trace_destroy(&b->before);
    free(b->pair_weight);
    moe_plan_destroy(&b->plan);
    free(b);
}
