/* The memory that the project's CUDA backend allocates: its own list of buffers, added up. */
#include "backends/cuda/buffers.h"
#include "backends/cuda/supports.h"
#include "layer/problem.h"
#include "moeref/allocation.h"
#include "moeref/operator.h"
#include "sim/gpus/params.h"

#include <stdio.h>

_Static_assert(BUFFER_COUNT <= MOE_ALLOCATED_MAX, "moe_allocation holds them all");

static int32_t live_kind(BufferKind kind) {
    switch (kind) {
    case BUFFER_WEIGHTS:
        return MOE_LIVE_WEIGHT;
    case BUFFER_CACHED:
        return MOE_LIVE_CACHED;
    case BUFFER_GRADIENTS:
        return MOE_LIVE_GRADIENT;
    case BUFFER_WORK:
    case BUFFER_KINDS:
        break;
    }
    return MOE_LIVE_WORK;
}

/* Pairs of a given plan, and the most that a token has. */
static moe_status count_slots(const moe_case *c, const moe_log *log, int64_t *ret_pairs,
                              int64_t *ret_columns) {
    moe_plan *plan = NULL;
    *ret_pairs = c->T * c->layer.K;
    *ret_columns = c->layer.K;
    if (c->route == MOE_ROUTE_ROUTER ||
        (c->route != MOE_ROUTE_COUNTS && c->masked == 0 && c->drop == 0))
        return MOE_OK;
    const moe_status status = moe_int_draw_plan(c, log, &plan);
    if (status)
        return status;
    *ret_pairs = plan->n_pairs;
    *ret_columns = 1; /* an operator has a slot even for no pair */
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const int64_t pairs = plan->token_offsets[t + 1] - plan->token_offsets[t];
        *ret_columns = pairs > *ret_columns ? pairs : *ret_columns;
    }
    moe_plan_destroy(&plan);
    return MOE_OK;
}

/* Parameters that lie as the library draws them: dense, out-features first. */
static int64_t converted_bytes(const moe_case *c) {
    moe_call call = {.tokens = c->T};
    for (int i = 0; i < BUFFERS_CONVERTIBLE; i++) {
        const moe_tensor_id id = moe_int_cuda_convertible[i];
        moe_tensor t = {.dtype = c->dtype};
        if (!moe_tensor_exists(&c->layer, id, 1))
            continue;
        moe_tensor_shape(&c->layer, id, c->T, 0, 0, &t);
        call.t[id] = moe_view_of(&t);
    }
    return moe_int_cuda_converted_bytes(&c->layer, &call);
}

static void list(const LayerShape *shape, moe_allocation *ret) {
    LayerBuffers b;
    moe_int_cuda_buffers(shape, &b);
    ret->own = moe_int_cuda_memory(&b);
    for (int i = 0; i < BUFFER_COUNT; i++) {
        if (b.bytes[i] < 0)
            continue;
        ret->buffers[ret->n_buffers++] = (moe_allocated){moe_int_cuda_buffer_name((BufferId)i),
                                                         b.bytes[i], live_kind(b.kind[i])};
        ret->gradients += b.kind[i] == BUFFER_GRADIENTS ? b.bytes[i] : 0;
    }
}

static void bind(const LayerShape *shape, const moe_case *c, moe_allocation *ret) {
    const moe_operator_use use = {.dtype = c->dtype,
                                  .pass = shape->backward ? MOE_PASS_BOTH : MOE_PASS_FWD,
                                  .routed = shape->plan_given ? MOE_ROUTED_BY_CALLER
                                                              : MOE_ROUTED_BY_LAYER};
    const char *why = moe_int_cuda_operator_refusal(&c->layer, &use);
    if (why) {
        snprintf(ret->unbound, sizeof ret->unbound, "%s", why);
        return;
    }
    const moe_operator_sizes s = moe_int_cuda_operator_sizes(shape, shape->backward);
    ret->sizes = s;
    ret->bound.weights = converted_bytes(c);
    ret->bound.cached = s.cached;
    ret->bound.peak = s.cached + (s.forward > s.backward ? s.forward : s.backward);
}

moe_status moe_allocation_of(const moe_gpu *gpu, const moe_case *c, const moe_log *log,
                             moe_allocation *ret) {
    const bool given = c->route != MOE_ROUTE_ROUTER;
    const moe_use use = {c->T, c->dtype, c->pass, given};
    moe_support support = {0};
    const char *why =
        c->split.ranks || c->block || c->hidden   ? "the case is more than one layer on one device"
        : moe_refuse_unknown(&c->layer, &support) ? support.reason
                                                  : moe_int_cuda_refusal(&c->layer, &use);
    if (why)
        return moe_fail(log, MOE_E_UNSUPPORTED, "what backend cuda would allocate: %s", why);
    LayerShape shape = {.desc = &c->layer,
                        .tokens = c->T,
                        .sms = (int)gpu->p[MOE_INT_GP_SMS],
                        .hopper = gpu->p[MOE_INT_GP_ARCH] == 90,
                        .plan_given = given,
                        .backward = c->pass & MOE_PASS_BWD,
                        .keeps = true};
    const moe_status status = count_slots(c, log, &shape.rows, &shape.columns);
    if (status)
        return status;
    if (!given)
        shape.rows = moe_int_cuda_most_rows(&shape);
    *ret = (moe_allocation){.pairs = shape.rows};
    list(&shape, ret);
    bind(&shape, c, ret);
    return MOE_OK;
}
