#include "backend/isolate/layers.h"
#include "backend/plugin/bound.h"
#include "core/bytes.h"
#include "core/canary.h"

#include <stdlib.h>
#include <string.h>

/* FLOP/s that even the slowest backend is expected to reach, and bytes/s of parameters where they,
 * or gradients of their size, are moved some ten times in a call; see moe_isolation. */
static const double slowest_rate = 1e9, slowest_moves = 1e8;

moe_status moe_int_guest_layer_request(moe_int_guest_layer *l, moe_int_request *request,
                                       const moe_int_shared *memory, moe_int_reply *ret) {
    moe_int_guest *g = l->guest;
    if (l->generation != g->generation)
        return moe_int_caller_fault(g->caller, "%s: the process that held the layer has ended",
                                    moe_int_slot_name((moe_int_slot)request->slot));
    request->layer = l->number;
    return moe_int_guest_call(g, request, memory, ret);
}

moe_status moe_int_guest_layer_call(moe_int_guest_layer *l, moe_int_slot slot, moe_int_reply *ret) {
    moe_int_request request = {.slot = slot, .capacity = MOE_INT_WIRE_COSTS};
    return moe_int_guest_layer_request(l, &request, NULL, ret);
}

static moe_status no_memory(const moe_int_guest *g, size_t bytes) {
    return moe_fail(g->log, MOE_E_NOMEM, "no %zu bytes of memory to share with the process of %s",
                    bytes, g->name);
}

/* Copies a tensor to its place, and returns what lies there. */
static moe_tensor put(const moe_int_wire_tensor *wire, const moe_tensor *tensor,
                      const moe_int_shared *memory) {
    moe_tensor view = moe_int_wire_tensor_view(wire, memory->base);
    if (view.data)
        moe_int_copy(view.data, tensor->data, (size_t)moe_tensor_bytes(tensor));
    return view;
}

/* ---- prepare and release ---- */

static int32_t free_number(const moe_int_guest *g) {
    for (int32_t i = 0; i < MOE_INT_WIRE_LAYERS; i++)
        if (!g->layers[i])
            return i;
    return -1;
}

/* Every parameter into shared memory. */
static moe_status share_params(moe_int_guest_layer *l, const moe_tensors *params,
                               moe_int_request *request) {
    size_t end = 0;
    bool fresh;
    for (int id = 0; id < MOE_T_COUNT; id++)
        request->prepare.param[id] = moe_int_wire_place(&params->t[id], &end);
    if (moe_int_shared_reserve(&l->params, end, &fresh))
        return no_memory(l->guest, end);
    for (int id = 0; id < MOE_T_COUNT; id++)
        l->seen.t[id] = put(&request->prepare.param[id], &params->t[id], &l->params);
    return MOE_OK;
}

/* Gigabytes, of a large layer, that nobody reads again. */
static void drop_params(moe_int_guest_layer *l) {
    moe_int_shared_drop(&l->params);
    l->seen = (moe_tensors){0};
}

static double seconds_of(const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params) {
    const int64_t pairs = use->tokens * desc->K;
    const double work = moe_layer_flops(desc, use->tokens, pairs, 0) +
                        moe_layer_flops(desc, use->tokens, pairs, 1) +
                        6.0 * (double)use->tokens * (double)desc->d * (double)desc->E;
    double bytes = 0;
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (params->t[id].data)
            bytes += (double)moe_tensor_bytes(&params->t[id]);
    return work / slowest_rate + bytes / slowest_moves;
}

moe_status moe_int_guest_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                                 const moe_tensors *params, void **ret) {
    moe_int_guest *g = device;
    moe_int_reply reply;
    moe_int_request request = {.slot = MOE_INT_SLOT_PREPARE,
                               .prepare = {.desc = *desc, .use = *use}};
    moe_status status = moe_int_guest_revive(g);
    if (status)
        return status;
    moe_int_guest_layer *l = calloc(1, sizeof *l);
    if (!l)
        return no_memory(g, sizeof *l);
    *l = (moe_int_guest_layer){.guest = g,
                               .number = free_number(g),
                               .generation = g->generation,
                               .tokens = use->tokens,
                               .experts = desc->E + desc->n_zero};
    g->limit_s = seconds_of(desc, use, params);
    status = l->number < 0 ? MOE_E_NOMEM : share_params(l, params, &request);
    if (!status)
        status = moe_int_guest_layer_request(l, &request, &l->params, &reply);
    if (status) {
        moe_int_shared_drop(&l->params);
        free(l);
        return status;
    }
    if (moe_int_is_bound(g->open.open.variant))
        drop_params(l);
    g->layers[l->number] = true;
    *ret = l;
    return MOE_OK;
}

void moe_int_guest_release(void *self) {
    moe_int_guest_layer *l = self;
    moe_int_reply reply;
    if (l->generation == l->guest->generation) {
        moe_int_guest_layer_call(l, MOE_INT_SLOT_RELEASE, &reply);
        l->guest->layers[l->number] = false;
    }
    moe_plan_destroy(&l->chosen);
    moe_int_shared_forget(&l->guest->scratch);
    moe_int_shared_drop(&l->params);
    moe_int_shared_drop(&l->input);
    free(l);
}

/* ---- a step ---- */

static void put_plan(moe_int_guest_layer *l, const moe_plan *plan, const moe_int_wire_plan *wire) {
    l->given = (moe_plan){0};
    if (!plan)
        return;
    l->given = moe_int_wire_plan_view(wire, l->input.base);
    moe_int_plan_copy_arrays(plan, &l->given);
}

moe_status moe_int_guest_set_input(void *self, const moe_input *input) {
    moe_int_guest_layer *l = self;
    const moe_plan *plan = input->plan;
    moe_int_reply reply;
    moe_int_request request = {.slot = MOE_INT_SLOT_SET_INPUT,
                               .input = {.tokens = input->tokens, .seed = input->seed}};
    size_t end = 0;
    bool fresh;
    request.input.X = moe_int_wire_place(&input->X, &end);
    request.input.dO = moe_int_wire_place(&input->dO, &end);
    if (plan)
        request.input.plan =
            moe_int_wire_place_plan(plan->n_tokens, plan->n_experts, plan->n_pairs, &end);
    if (moe_int_shared_reserve(&l->input, end, &fresh))
        return no_memory(l->guest, end);
    l->seen.t[MOE_T_X] = put(&request.input.X, &input->X, &l->input);
    l->seen.t[MOE_T_DO] = put(&request.input.dO, &input->dO, &l->input);
    put_plan(l, plan, &request.input.plan);
    moe_plan_destroy(&l->chosen);
    return moe_int_guest_layer_request(l, &request, fresh ? &l->input : NULL, &reply);
}

moe_status moe_int_guest_forward(void *self) {
    moe_int_guest_layer *l = self;
    moe_int_reply reply;
    moe_plan_destroy(&l->chosen);
    return moe_int_guest_layer_call(l, MOE_INT_SLOT_FORWARD, &reply);
}

moe_status moe_int_guest_backward(void *self) {
    moe_int_reply reply;
    return moe_int_guest_layer_call(self, MOE_INT_SLOT_BACKWARD, &reply);
}

/* ---- results ---- */

moe_status moe_int_guest_copy_out(moe_int_guest *g, moe_tensor_id id, int64_t at, moe_tensor *dst) {
    const size_t bytes = (size_t)moe_tensor_bytes(dst);
    const unsigned char *data = g->scratch.base + at;
    const bool before = moe_int_canary_is_whole(data - MOE_INT_CANARY_BYTES);
    if (!before || !moe_int_canary_is_whole(data + bytes))
        return moe_int_caller_fault(g->caller, "fetch of %s wrote %s the buffer",
                                    moe_tensor_name(id), before ? "after" : "before");
    g->same = g->as && moe_int_same_bytes(data, g->as, bytes);
    if (!g->same)
        moe_int_copy(dst->data, data, bytes);
    return MOE_OK;
}

/* The worker writes between canaries, into what the caller had there: its poison stays where
 * nothing was written. The pages stay too, as the next result is likely to be as large: clearing
 * them anew would take longer than the copies. */
moe_status moe_int_guest_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    moe_int_guest_layer *l = self;
    moe_int_guest *g = l->guest;
    const size_t bytes = (size_t)moe_tensor_bytes(dst);
    const size_t total = bytes + 2 * (size_t)MOE_INT_CANARY_BYTES;
    moe_int_request request = {
        .slot = MOE_INT_SLOT_FETCH,
        .fetch = {.id = (int32_t)id, .dst = {.at = MOE_INT_CANARY_BYTES, .form = *dst}}};
    moe_int_reply reply;
    moe_status status;
    bool fresh;
    if (moe_int_guest_take_ahead(l, id, dst, &status))
        return status;
    request.fetch.dst.form.data = NULL;
    if (moe_int_shared_reserve(&g->scratch, total, &fresh))
        return no_memory(g, total);
    unsigned char *before = g->scratch.base, *data = before + MOE_INT_CANARY_BYTES;
    moe_int_canary_set(before);
    if (g->is_fresh)
        moe_int_fill(data, MOE_INT_POISON, bytes);
    else
        moe_int_copy(data, dst->data, bytes);
    moe_int_canary_set(data + bytes);
    status = moe_int_guest_layer_request(l, &request, fresh ? &g->scratch : NULL, &reply);
    if (status) /* and, where the worker has ended, no memory to look at */
        return status;
    return moe_int_guest_copy_out(g, id, request.fetch.dst.at, dst);
}

/* Sizes that a worker tells, before anything is allocated for them. */
static bool is_possible(const moe_int_guest_layer *l, const moe_int_wire_plan *plan) {
    return plan->n_tokens == l->tokens && plan->n_experts == l->experts && plan->n_pairs >= 0 &&
           plan->n_pairs / l->experts <= l->tokens;
}

static moe_plan *plan_room(const moe_int_wire_plan *sizes) {
    moe_plan *plan = calloc(1, sizeof *plan);
    const size_t pairs = (size_t)sizes->n_pairs + 1;
    if (!plan)
        return NULL;
    *plan = (moe_plan){.n_tokens = sizes->n_tokens,
                       .n_experts = sizes->n_experts,
                       .n_pairs = sizes->n_pairs,
                       .offsets = calloc((size_t)sizes->n_experts + 1, sizeof(int64_t)),
                       .token = calloc(pairs, sizeof(int32_t)),
                       .weight = calloc(pairs, sizeof(double)),
                       .token_offsets = calloc((size_t)sizes->n_tokens + 1, sizeof(int64_t)),
                       .pair_of_token = calloc(pairs, sizeof(int64_t))};
    if (!plan->offsets || !plan->token || !plan->weight || !plan->token_offsets ||
        !plan->pair_of_token)
        moe_plan_destroy(&plan);
    return plan;
}

/* Asked for once a forward: the plan is read into memory that the worker cannot change. */
static moe_status bring_plan(moe_int_guest_layer *l, const moe_int_wire_plan *sizes) {
    moe_int_guest *g = l->guest;
    moe_int_request request = {.slot = MOE_INT_SLOT_COPY_PLAN};
    moe_int_reply reply;
    size_t end = 0;
    bool fresh;
    request.plan = moe_int_wire_place_plan(sizes->n_tokens, sizes->n_experts, sizes->n_pairs, &end);
    moe_plan *plan = plan_room(sizes);
    if (!plan || moe_int_shared_reserve(&g->scratch, end, &fresh)) {
        moe_plan_destroy(&plan);
        return no_memory(g, end);
    }
    moe_status status =
        moe_int_guest_layer_request(l, &request, fresh ? &g->scratch : NULL, &reply);
    if (status) {
        moe_plan_destroy(&plan);
        return status;
    }
    const moe_plan shared = moe_int_wire_plan_view(&request.plan, g->scratch.base);
    moe_int_plan_copy_arrays(&shared, plan);
    l->chosen = plan;
    return MOE_OK;
}

moe_status moe_int_guest_routing(void *self, const moe_plan **ret) {
    moe_int_guest_layer *l = self;
    moe_int_reply reply = {0};
    moe_status status = MOE_OK;
    if (!l->chosen) {
        status = moe_int_guest_layer_call(l, MOE_INT_SLOT_ROUTING, &reply);
        if (!status && !is_possible(l, &reply.plan))
            return moe_int_caller_fault(
                l->guest->caller, "routing tells of %lld tokens, %lld experts and %lld pairs",
                (long long)reply.plan.n_tokens, (long long)reply.plan.n_experts,
                (long long)reply.plan.n_pairs);
        if (!status)
            status = bring_plan(l, &reply.plan);
    }
    if (!status)
        *ret = l->chosen;
    return status;
}
