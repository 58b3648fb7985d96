/* The experts of a rank, and its copy of the shared expert, as layers of an ordinary backend: their
 * plans are given, and nothing of routing is theirs. */
#include "ep/rank.h"

#include <stdio.h>
#include <stdlib.h>

const moe_tensor_id moe_int_ep_expert_gradients[4] = {MOE_T_DW1, MOE_T_DB1, MOE_T_DW2, MOE_T_DB2};
const moe_tensor_id moe_int_ep_shared_gradients[2] = {MOE_T_DW1_SHARED, MOE_T_DW2_SHARED};

static moe_layer_desc without_routing(const moe_layer_desc *desc, int64_t experts) {
    moe_layer_desc own = *desc, plain;
    moe_layer_desc_init(&plain);
    own.router = plain.router;
    own.router.weight_on = desc->router.weight_on;
    own.E = experts;
    own.K = desc->K < experts ? desc->K : experts;
    own.n_zero = own.n_shared = own.shared_gate = 0;
    return own;
}

/* The shared expert is one expert that every token of the rank chooses, by its gate. */
static moe_layer_desc shared_alone(const moe_layer_desc *desc) {
    moe_layer_desc own = moe_shared_desc(desc);
    own.expert_bias = 0;
    own.n = desc->n_shared;
    own = without_routing(&own, 1);
    own.glu_layout = MOE_GLU_CONCAT;
    own.router.weight_on = MOE_WEIGHT_ON_OUTPUT;
    return own;
}

/* Experts [first, first + count) of a parameter. */
static moe_tensor slice(const moe_tensor *all, int64_t first, int64_t count) {
    moe_tensor part = *all;
    if (!all->data)
        return part;
    const int64_t bytes = moe_tensor_bytes(all) / all->shape[0];
    part.data = (char *)all->data + first * bytes;
    part.shape[0] = count;
    return part;
}

static moe_tensor one_expert(const moe_tensor *matrix) {
    return (moe_tensor){.data = matrix->data,
                        .dtype = matrix->dtype,
                        .ndim = 3,
                        .shape = {1, matrix->shape[0], matrix->shape[1]}};
}

/* Whole experts that follow one another are a slice of the caller's. */
static moe_status describe_experts(const moe_int_ep_layer *l, int32_t rank,
                                   moe_int_ep_experts *ret) {
    static const moe_tensor_id of_experts[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
    const int64_t first = l->slots.first[rank], count = l->slots.first[rank + 1] - first;
    ret->desc = without_routing(&l->desc, count);
    ret->desc.n = moe_int_ep_units(l, rank);
    ret->parts = !moe_int_ep_is_plain(&l->slots);
    if (ret->parts)
        return moe_int_ep_cut(l, rank, &ret->params);
    for (size_t i = 0; i < sizeof of_experts / sizeof *of_experts; i++)
        ret->params.t[of_experts[i]] = slice(&l->params.t[of_experts[i]], first, count);
    return MOE_OK;
}

moe_status moe_int_ep_describe(const moe_int_ep_layer *l, int32_t rank, moe_int_ep_rank *ret) {
    moe_status status = describe_experts(l, rank, &ret->experts);
    if (status || !l->desc.n_shared)
        return status;
    ret->shared.desc = shared_alone(&l->desc);
    ret->shared.params.t[MOE_T_W1] = one_expert(&l->params.t[MOE_T_W1_SHARED]);
    ret->shared.params.t[MOE_T_W2] = one_expert(&l->params.t[MOE_T_W2_SHARED]);
    return MOE_OK;
}

static int64_t most_slots(const moe_ep_slots *s) {
    int64_t most = 0;
    for (int32_t r = 0; r < s->ranks; r++)
        most = s->first[r + 1] - s->first[r] > most ? s->first[r + 1] - s->first[r] : most;
    return most;
}

/* The most slots that a rank has, and its widest part, stand for all. */
moe_status moe_int_ep_supports(const moe_int_ep_device *dev, const moe_layer_desc *desc,
                               const moe_use *use, moe_support *ret) {
    const moe_ep_params *p = &dev->params;
    moe_ep_slots slots;
    moe_status status =
        moe_ep_slots_make(desc->E, p->ranks, p->tp, p->replicas, p->n_replicas, NULL, &slots);
    if (!status && (slots.tp > desc->n || p->n_replicas > desc->E)) {
        moe_ep_slots_destroy(&slots);
        status = MOE_E_INVALID;
    }
    if (status) {
        snprintf(ret->reason, sizeof ret->reason,
                 "its %lld experts of width %lld do not lie so on %d ranks", (long long)desc->E,
                 (long long)desc->n, (int)p->ranks);
        return status == MOE_E_INVALID ? MOE_E_UNSUPPORTED : status;
    }
    moe_layer_desc own = without_routing(desc, most_slots(&slots)), shared = shared_alone(desc);
    own.n = (desc->n + slots.tp - 1) / slots.tp;
    moe_ep_slots_destroy(&slots);
    moe_use given = *use;
    given.plan_given = 1;
    moe_backend *backend = dev->inner[0].backend;
    status = moe_backend_supports(backend, &own, &given, ret);
    if (!status && desc->n_shared)
        status = moe_backend_supports(backend, &shared, &given, ret);
    return status;
}

/* ---- layers ---- */

moe_status moe_int_ep_room(moe_int_ep_experts *e, int64_t tokens, moe_dtype dtype, bool backward) {
    const int64_t shape[2] = {tokens, e->desc.d};
    moe_tensor_destroy(&e->X);
    moe_tensor_destroy(&e->dO);
    moe_status status = moe_tensor_alloc(dtype, 2, shape, &e->X);
    return status || !backward ? status : moe_tensor_alloc(dtype, 2, shape, &e->dO);
}

static moe_status prepare(moe_int_ep_rank *r, moe_int_ep_experts *e, int64_t tokens) {
    const moe_use use = {tokens, r->layer->use.dtype, r->layer->use.pass, 1};
    if (e->layer && e->tokens == tokens)
        return MOE_OK;
    moe_layer_destroy(&e->layer);
    e->tokens = tokens;
    return moe_layer_prepare(r->inner->backend, &e->desc, &use, &e->params, &e->layer);
}

static moe_status set_input(const moe_int_ep_experts *e, const moe_plan *plan) {
    const moe_input input = {.tokens = e->tokens, .X = e->X, .dO = e->dO, .plan = plan};
    return moe_layer_set_input(e->layer, &input);
}

/* What the backend says of a call that failed, before another rank's call on it. */
static void end_call(moe_int_ep_rank *r, moe_status status) {
    const char *fault = moe_backend_fault(r->inner->backend);
    if (status == MOE_E_CONTRACT && fault[0])
        snprintf(r->why, sizeof r->why, "%s", fault);
    pthread_mutex_unlock(&r->inner->lock);
}

moe_status moe_int_ep_run_forward(moe_int_ep_rank *r, moe_int_ep_experts *e, const moe_plan *plan) {
    pthread_mutex_lock(&r->inner->lock);
    moe_status status = prepare(r, e, plan->n_tokens);
    if (!status)
        status = set_input(e, plan);
    if (!status)
        status = moe_layer_forward(e->layer);
    end_call(r, status);
    return status;
}

/* dO has come since: a backend takes it with its input, and so runs forward again. */
moe_status moe_int_ep_run_backward(moe_int_ep_rank *r, moe_int_ep_experts *e,
                                   const moe_plan *plan) {
    moe_status status = moe_int_ep_run_forward(r, e, plan);
    if (status)
        return status;
    pthread_mutex_lock(&r->inner->lock);
    status = moe_layer_backward(e->layer);
    end_call(r, status);
    return status;
}

moe_status moe_int_ep_fetch(moe_int_ep_rank *r, const moe_int_ep_experts *e, const moe_plan *plan,
                            moe_tensor_id id, moe_dtype dtype, moe_tensor *ret) {
    moe_tensor t = {0}, shape = {0};
    moe_tensor_shape(&e->desc, id, e->tokens, plan->n_pairs, plan->n_pairs, &shape);
    moe_status status = moe_tensor_alloc(dtype, shape.ndim, shape.shape, &t);
    if (status)
        return status;
    pthread_mutex_lock(&r->inner->lock);
    status = moe_layer_fetch(e->layer, id, &t);
    end_call(r, status);
    if (status == MOE_E_UNSUPPORTED)
        snprintf(r->why, sizeof r->why, "%s does not give %s, which goes home in pairs",
                 moe_backend_name(r->inner->backend), moe_tensor_name(id));
    if (status)
        moe_tensor_destroy(&t);
    else
        *ret = t;
    return status;
}

void moe_int_ep_experts_destroy(moe_int_ep_experts *e) {
    moe_layer_destroy(&e->layer);
    moe_tensor_destroy(&e->X);
    moe_tensor_destroy(&e->dO);
    if (e->parts)
        moe_tensors_destroy(&e->params);
}
