/* Passes of a call, what is looked at after each, and its results. Canaries and inputs are looked
 * at when the first result of a pass is fetched, so that passes can be timed but for the poison. */
#include "backend/plugin/bound_layer.h"

#include <stdlib.h>
#include <string.h>

static moe_status poison(const moe_int_bound_layer *l, bool backward) {
    const int byte = 0xff; /* NaN in every floating type */
    moe_status status = moe_int_bound_fill(&l->at, &l->buffer[MOE_INT_BOUND_WORKSPACE], byte);
    if (!status && !backward)
        status = moe_int_bound_fill(&l->at, &l->buffer[MOE_INT_BOUND_CACHED], byte);
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        const bool is_gradient = moe_tensor_is_backward((moe_tensor_id)id);
        const bool is_added = l->call.beta && moe_tensor_param_of((moe_tensor_id)id) != MOE_T_COUNT;
        if (moe_int_bound_is_result(l, (moe_tensor_id)id) && is_gradient == backward)
            status = moe_int_bound_fill(&l->at, &l->buffer[id], is_added ? 0 : byte);
    }
    if (!status && !backward && l->use.routed == MOE_ROUTED_BY_LAYER)
        status = moe_int_bound_fill(&l->at, &l->buffer[MOE_INT_BOUND_INDEX], byte);
    return status;
}

/* As the front end would hand it over: a pass sees only its own tensors. */
static moe_call call_of(const moe_int_bound_layer *l, bool backward) {
    moe_call call = l->call;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const bool is_made = moe_int_bound_is_result(l, (moe_tensor_id)id);
        const bool is_other = is_made && moe_tensor_is_backward((moe_tensor_id)id) != backward;
        if (is_other || (id == MOE_T_DO && !backward))
            call.t[id].data = NULL;
    }
    if (backward && l->use.routed == MOE_ROUTED_BY_LAYER)
        call.index.data = NULL;
    return call;
}

moe_status moe_int_bound_forward(void *self) {
    moe_int_bound_layer *l = self;
    moe_status status = poison(l, false);
    l->is_looked_at = false;
    if (!l->call.t[MOE_T_X].data)
        return moe_fail(l->dev->log, MOE_E_INVALID, "forward before any input was set");
    const moe_call call = call_of(l, false);
    return status ? status : l->at.slots->forward(l->at.op, &call);
}

moe_status moe_int_bound_backward(void *self) {
    moe_int_bound_layer *l = self;
    moe_status status = poison(l, true);
    l->is_looked_at = false;
    const moe_call call = call_of(l, true);
    return status ? status : l->at.slots->backward(l->at.op, &call);
}

static moe_status compare_input(const moe_int_bound_layer *l, int id) {
    uint64_t now;
    if (!l->is_given[id])
        return MOE_OK;
    moe_status status = moe_int_bound_hash(&l->at, &l->buffer[id], &now);
    if (!status && now != l->given[id])
        status = moe_int_caller_fault(l->dev->caller, "the operator changed its input %s",
                                      moe_int_bound_name(id));
    return status;
}

/* Canaries of everything, and inputs, once after each pass. The copies wait for it. */
static moe_status look(moe_int_bound_layer *l) {
    moe_status status = MOE_OK;
    for (int i = 0; !l->is_looked_at && !status && i < MOE_INT_BOUND_BUFFERS; i++) {
        const char *broken;
        status = moe_int_bound_look(&l->at, &l->buffer[i], &broken);
        if (!status && broken)
            status = moe_int_caller_fault(l->dev->caller, "the operator wrote %s the memory of %s",
                                          broken, moe_int_bound_name(i));
        if (!status)
            status = compare_input(l, i);
    }
    l->is_looked_at = true;
    return status;
}

/* ---- results ---- */

/* *ret: the view with a copy of its memory in the host's, which the caller frees. */
static moe_status download(const moe_int_bound_layer *l, int id, const moe_view *v, moe_view *ret) {
    *ret = *v;
    ret->data = malloc(l->buffer[id].bytes ? (size_t)l->buffer[id].bytes : 1);
    if (!ret->data)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "no memory for %s", moe_int_bound_name(id));
    return moe_int_bound_download(&l->at, &l->buffer[id], ret->data);
}

moe_status moe_int_bound_routing(void *self, const moe_plan **ret) {
    moe_int_bound_layer *l = self;
    moe_view index = {.data = NULL}, weight = {.data = NULL};
    moe_status status = look(l);
    if (!status)
        status = download(l, MOE_INT_BOUND_INDEX, &l->call.index, &index);
    if (!status)
        status = download(l, MOE_T_S, &l->call.t[MOE_T_S], &weight);
    moe_plan_destroy(&l->plan);
    if (!status)
        status =
            moe_plan_of_slots(&index, &weight, l->desc.E + l->desc.n_zero, l->dev->log, &l->plan);
    free(index.data);
    free(weight.data);
    l->routed = l->plan;
    *ret = l->plan;
    return status;
}

static moe_status fetch_pairs(moe_int_bound_layer *l, const moe_view *values, moe_tensor *dst) {
    const moe_plan *plan = l->routed;
    moe_view index;
    moe_status status = plan ? MOE_OK : moe_int_bound_routing(l, &plan);
    if (status)
        return status;
    status = download(l, MOE_INT_BOUND_INDEX, &l->call.index, &index);
    if (!status)
        status = moe_plan_take_slots(plan, &index, values, dst, l->dev->log);
    free(index.data);
    return status;
}

moe_status moe_int_bound_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    moe_int_bound_layer *l = self;
    const bool is_given = id == MOE_T_S && l->use.routed == MOE_ROUTED_BY_CALLER;
    moe_view v;
    moe_status status = look(l);
    if (!status && !is_given && !moe_int_bound_is_result(l, id))
        return MOE_E_UNSUPPORTED; /* a stage: no operator gives any */
    if (status)
        return status;
    if (id != MOE_T_S && id != MOE_T_DS && moe_int_bound_lies_as(&l->call.t[id], dst->dtype))
        return moe_int_bound_download(&l->at, &l->buffer[id], dst->data);
    status = download(l, id, &l->call.t[id], &v);
    if (!status && (id == MOE_T_S || id == MOE_T_DS))
        status = fetch_pairs(l, &v, dst);
    else if (!status)
        moe_view_read(&v, dst);
    free(v.data);
    return status;
}

moe_status moe_int_bound_memory(void *self, moe_memory *ret) {
    const moe_int_bound_layer *l = self;
    const int64_t scratch = l->buffer[MOE_INT_BOUND_WORKSPACE].bytes;
    ret->weights = l->buffer[MOE_INT_BOUND_CONVERTED].bytes;
    ret->cached = l->sizes.cached;
    ret->peak = l->sizes.cached + scratch;
    return MOE_OK;
}
