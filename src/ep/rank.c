/* One rank's two passes: four exchanges of tokens, two each. */
#include "ep/rank.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void moe_int_ep_lap(moe_int_ep_rank *r, moe_stage stage) {
    const double now = moe_transport_now_s();
    if (stage < MOE_STAGE_COUNT)
        r->stage_us[stage] = 1e6 * (now - r->lap_s);
    r->lap_s = now;
}

static bool is_dedup(const moe_int_ep_rank *r) {
    return r->layer->dev->params.combine == MOE_EP_RANKS;
}

static int64_t row_bytes(const moe_int_ep_rank *r) {
    return (int64_t)moe_dtype_size((moe_dtype)r->layer->wire.output) * r->layer->desc.d;
}

static moe_status rows_of(const moe_int_ep_rank *r, int64_t count, moe_tensor *ret) {
    const int64_t shape[2] = {count, r->layer->desc.d};
    return moe_tensor_alloc((moe_dtype)r->layer->wire.output, 2, shape, ret);
}

moe_status moe_int_ep_made(moe_int_ep_rank *r, moe_tensor_id id, moe_dtype dtype, moe_tensor *ret) {
    moe_tensor held = {0};
    moe_status status = moe_int_ep_fetch(r, &r->experts, r->handle.plan, id, r->layer->held, &held);
    if (!status)
        status = moe_tensor_cast(&held, dtype, ret);
    moe_tensor_destroy(&held);
    return status;
}

/* In the wire's type; nothing came: no rows. */
static moe_status made(moe_int_ep_rank *r, moe_tensor_id id, moe_tensor *ret) {
    return r->handle.plan ? moe_int_ep_made(r, id, (moe_dtype)r->layer->wire.output, ret)
                          : rows_of(r, 0, ret);
}

/* The last rank does not come in time, or never. */
static void be_late(const moe_int_ep_rank *r) {
    const moe_int_ep_device *dev = r->layer->dev;
    if (r->comm.rank != r->comm.ranks - 1)
        return;
    if (dev->fault == MOE_INT_EP_RANK_SLEEPS)
        usleep((useconds_t)(3e6 * dev->params.limit_s));
    if (dev->fault == MOE_INT_EP_RANK_DIES) {
        usleep(200000); /* the others are waiting for it by then */
        raise(SIGKILL);
    }
}

/* Rows of Y or dX~ for each pair, or sums of them for each copy, to their homes, and added up. */
static moe_status combine(moe_int_ep_rank *r, bool backward) {
    const moe_int_handle *h = &r->handle;
    const int32_t phase = backward ? MOE_EP_COMBINE_BACK : MOE_EP_COMBINE;
    moe_tensor rows = {0}, home = {0};
    const moe_tensor_id of_pairs = backward ? MOE_T_DXP : MOE_T_Y;
    const moe_tensor_id of_copies = backward ? MOE_T_DX : MOE_T_O;
    be_late(r);
    moe_status status = made(r, is_dedup(r) ? of_copies : of_pairs, &rows);
    if (!status)
        status = rows_of(r, is_dedup(r) ? h->copies : h->pairs, &home);
    if (!status && is_dedup(r))
        status = moe_int_copies_home(h, &r->comm, phase, rows.data, row_bytes(r), home.data);
    else if (!status)
        status = moe_int_pairs_home(h, &r->comm, phase, rows.data, row_bytes(r), home.data);
    if (!status && is_dedup(r))
        moe_int_ep_sum_ranks(r, &home, backward);
    else if (!status)
        status = moe_int_ep_sum_pairs(r, &home, backward);
    moe_tensor_destroy(&rows);
    moe_tensor_destroy(&home);
    return status;
}

static moe_status make_handle(moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    moe_int_handle_destroy(&r->former);
    r->former = r->handle;
    r->handle = (moe_int_handle){0};
    moe_status status = moe_int_ep_spread(r);
    if (status)
        return status;
    return moe_int_handle_make(&r->comm, r->sent, l->slots.first, l->dev->params.combine, &l->pad,
                               (moe_dtype)l->wire.weight, l->dev->fault, &r->handle);
}

/* The shared expert sees the rank's own tokens. */
static moe_status shared_plan(const moe_int_ep_rank *r, moe_plan **ret) {
    int32_t *token = calloc((size_t)r->T, sizeof *token);
    int32_t *expert = calloc((size_t)r->T, sizeof *expert);
    moe_status status = token && expert ? MOE_OK : MOE_E_NOMEM;
    for (int64_t t = 0; !status && t < r->T; t++)
        token[t] = (int32_t)t;
    if (!status)
        status = moe_plan_create(r->T, 1, r->T, token, expert, r->gate, NULL, ret);
    free(token);
    free(expert);
    return status;
}

static void copy_rows(const moe_tensor *from, moe_tensor *to) {
    memcpy(to->data, from->data, (size_t)moe_tensor_bytes(to));
}

/* A stage of the shared expert as doubles; the pass has run. */
static moe_status shared_made(moe_int_ep_rank *r, const moe_plan *plan, moe_tensor_id id,
                              moe_tensor *ret) {
    moe_tensor held = {0};
    moe_status status = moe_int_ep_fetch(r, &r->shared, plan, id, r->layer->held, &held);
    if (!status)
        status = moe_tensor_cast(&held, MOE_F64, ret);
    moe_tensor_destroy(&held);
    return status;
}

static moe_status forward_shared(moe_int_ep_rank *r, moe_tensor *ret) {
    const bool backward = r->layer->use.pass & MOE_PASS_BWD;
    moe_plan *plan = NULL;
    moe_int_ep_gate(r);
    moe_status status = shared_plan(r, &plan);
    if (!status)
        status = moe_int_ep_room(&r->shared, r->T, (moe_dtype)r->layer->use.dtype, backward);
    if (!status) {
        copy_rows(&r->X, &r->shared.X);
        status = moe_int_ep_run_forward(r, &r->shared, plan);
    }
    if (!status)
        status = shared_made(r, plan, MOE_T_Y, ret);
    moe_plan_destroy(&plan);
    return status;
}

static void repeat_rows(const moe_int_ep_rank *r, const moe_tensor *rows) {
    if (r->layer->dev->fault == MOE_INT_EP_PADDING_REPEATS && r->handle.plan)
        moe_int_repeat_rows(r->handle.plan, r->handle.received_copies, rows);
}

static moe_status dispatch_forward(moe_int_ep_rank *r) {
    const bool backward = r->layer->use.pass & MOE_PASS_BWD;
    moe_status status = moe_int_ep_room(&r->experts, r->handle.received_copies + r->handle.added,
                                        (moe_dtype)r->layer->use.dtype, backward);
    if (!status && r->layer->wire.coded)
        status = moe_int_dispatch_coded(&r->handle, &r->comm, &r->X, r->experts.X.data);
    else if (!status)
        status = moe_int_dispatch(&r->handle, &r->comm, MOE_EP_DISPATCH, &r->X, r->experts.X.data);
    repeat_rows(r, &r->experts.X);
    moe_int_ep_lap(r, MOE_STAGE_DISPATCH);
    if (!status && r->handle.plan)
        status = moe_int_ep_run_forward(r, &r->experts, r->handle.plan);
    return status;
}

moe_status moe_int_ep_forward(moe_int_ep_rank *r) {
    moe_tensor shared = {0};
    const bool has_shared = r->layer->desc.n_shared && r->T;
    free(r->gate);
    r->gate = calloc((size_t)r->T + 1, sizeof *r->gate);
    moe_int_ep_lap(r, MOE_STAGE_COUNT);
    moe_status status = r->gate ? moe_int_ep_load(r) : MOE_E_NOMEM;
    if (!status)
        status = moe_int_ep_route(r);
    if (!status)
        status = make_handle(r);
    moe_int_ep_lap(r, MOE_STAGE_METADATA);
    if (!status)
        status = dispatch_forward(r);
    if (!status && has_shared)
        status = forward_shared(r, &shared);
    moe_int_ep_lap(r, MOE_STAGE_EXPERTS);
    if (!status)
        status = combine(r, false);
    if (!status)
        moe_int_ep_finish_forward(r, shared.data);
    moe_int_ep_lap(r, MOE_STAGE_O);
    moe_tensor_destroy(&shared);
    return status;
}

/* ---- backward ---- */

/* The same handle: no counts again. */
static moe_status dispatch_backward(moe_int_ep_rank *r) {
    moe_int_handle used = r->handle; /* a view */
    int32_t *stale = NULL;
    if (r->layer->dev->fault == MOE_INT_EP_STALE_HANDLE && r->former.send_token) {
        stale = calloc((size_t)used.copies + 1, sizeof *stale);
        for (int64_t i = 0; stale && i < used.copies; i++)
            stale[i] = i < r->former.copies && r->former.send_token[i] < r->T
                           ? r->former.send_token[i]
                           : used.send_token[i];
        used.send_token = stale ? stale : used.send_token;
    }
    moe_status status =
        moe_int_dispatch(&used, &r->comm, MOE_EP_DISPATCH_BACK, &r->dO, r->experts.dO.data);
    free(stale);
    repeat_rows(r, &r->experts.dO);
    moe_int_ep_lap(r, MOE_STAGE_DISPATCH_BACK);
    if (!status && r->handle.plan)
        status = moe_int_ep_run_backward(r, &r->experts, r->handle.plan);
    return status;
}

/* dS of each pair to its home, in the wire's type of weights. */
static moe_status weight_gradients(moe_int_ep_rank *r) {
    const moe_int_handle *h = &r->handle;
    const moe_dtype type = (moe_dtype)r->layer->wire.weight;
    const int64_t size = (int64_t)moe_dtype_size(type), pairs = h->pairs;
    moe_tensor made_here = {0};
    void *home = malloc((size_t)(pairs * size + 1));
    moe_status status = home ? MOE_OK : MOE_E_NOMEM;
    free(r->dS);
    r->dS = calloc((size_t)r->plan->n_pairs + 1, sizeof *r->dS);
    if (!r->dS)
        status = MOE_E_NOMEM;
    if (!status && h->plan)
        status = moe_int_ep_fetch(r, &r->experts, h->plan, MOE_T_DS, type, &made_here);
    if (!status)
        status =
            moe_int_pairs_home(h, &r->comm, MOE_EP_WEIGHT_GRADIENTS, made_here.data, size, home);
    if (!status)
        moe_int_ep_sum_weight_gradients(r, home, type);
    free(home);
    moe_tensor_destroy(&made_here);
    return status;
}

/* Gradients of the rank's own experts stay here; of experts that saw nothing they are 0. */
static moe_status keep_gradients(moe_int_ep_rank *r) {
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < 4; i++) {
        const moe_tensor_id id = moe_int_ep_expert_gradients[i];
        moe_tensor shape = {0};
        moe_tensor_destroy(&r->dW[i]);
        if (!moe_tensor_exists(&r->experts.desc, id, 1))
            continue;
        moe_tensor_shape(&r->experts.desc, id, 1, 0, 0, &shape);
        if (r->handle.plan)
            status =
                moe_int_ep_fetch(r, &r->experts, r->handle.plan, id, r->layer->held, &r->dW[i]);
        else
            status = moe_tensor_alloc(r->layer->held, shape.ndim, shape.shape, &r->dW[i]);
    }
    return status;
}

static moe_status backward_shared(moe_int_ep_rank *r, moe_tensor *ret_dX, moe_tensor *ret_gate) {
    moe_plan *plan = NULL;
    moe_status status = shared_plan(r, &plan);
    copy_rows(&r->dO, &r->shared.dO);
    if (!status)
        status = moe_int_ep_run_backward(r, &r->shared, plan);
    if (!status)
        status = shared_made(r, plan, MOE_T_DXP, ret_dX);
    if (!status)
        status = shared_made(r, plan, MOE_T_DS, ret_gate);
    for (int i = 0; !status && i < 2; i++) {
        const moe_tensor_id id = i ? MOE_T_DW2 : MOE_T_DW1;
        moe_tensor_destroy(&r->dW_shared[i]);
        status = moe_int_ep_fetch(r, &r->shared, plan, id, r->layer->held, &r->dW_shared[i]);
    }
    moe_plan_destroy(&plan);
    return status;
}

moe_status moe_int_ep_backward(moe_int_ep_rank *r) {
    moe_tensor shared = {0}, d_gate = {0};
    if (r->layer->dev->fault == MOE_INT_EP_EMPTY_RANK_SKIPS && r->T == 0)
        return MOE_OK;
    free(r->dX);
    r->dX = calloc((size_t)(r->T * r->layer->desc.d) + 1, sizeof *r->dX);
    moe_int_ep_lap(r, MOE_STAGE_COUNT);
    moe_status status = r->dX ? dispatch_backward(r) : MOE_E_NOMEM;
    if (!status)
        status = keep_gradients(r);
    moe_int_ep_lap(r, MOE_STAGE_EXPERTS_BACK);
    if (!status)
        status = weight_gradients(r);
    if (!status)
        status = combine(r, true);
    if (!status && r->layer->desc.n_shared && r->T)
        status = backward_shared(r, &shared, &d_gate);
    if (!status)
        status = moe_int_ep_finish_backward(r, shared.data, d_gate.data);
    moe_int_ep_lap(r, MOE_STAGE_DX);
    moe_tensor_destroy(&shared);
    moe_tensor_destroy(&d_gate);
    return status;
}

void moe_int_ep_rank_clear(moe_int_ep_rank *r) {
    free(r->x);
    free(r->dy);
    free(r->logits);
    moe_plan_destroy(&r->plan);
    moe_plan_destroy(&r->sent);
    free(r->row_of);
    free(r->gate);
    free(r->O);
    free(r->dX);
    free(r->dS);
    free(r->sums);
    moe_int_handle_destroy(&r->handle);
    moe_int_handle_destroy(&r->former);
    moe_int_ep_experts_destroy(&r->experts);
    moe_int_ep_experts_destroy(&r->shared);
    for (int i = 0; i < 4; i++)
        moe_tensor_destroy(&r->dW[i]);
    for (int i = 0; i < 2; i++)
        moe_tensor_destroy(&r->dW_shared[i]);
}
