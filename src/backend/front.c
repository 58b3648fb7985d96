/* The front end of a prepared layer: the order of calls, and shapes of what is fetched. */
#include "backend/front.h"
#include "core/bytes.h"
#include "core/canary.h"
#include "layer/traits.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const moe_plugin *plugin_of(const moe_layer *layer) {
    return layer->backend->caller.plugin;
}

static moe_int_caller *caller_of(moe_layer *layer) {
    return &layer->backend->caller;
}

static const moe_log *log_of(const moe_layer *layer) {
    return &layer->backend->log;
}

moe_status moe_backend_supports(moe_backend *backend, const moe_layer_desc *desc,
                                const moe_use *use, moe_support *ret) {
    moe_support support = {0};
    moe_status status = moe_int_check_use(desc, use, &backend->log);
    if (status)
        return status;
    moe_int_backend_forget(backend);
    status = moe_int_call_supports(&backend->caller, backend->device, desc, use, &support);
    if (!status || status == MOE_E_UNSUPPORTED)
        *ret = support;
    return moe_int_backend_settle(backend, status);
}

moe_status moe_layer_prepare(moe_backend *backend, const moe_layer_desc *desc, const moe_use *use,
                             const moe_tensors *params, moe_layer **ret) {
    const moe_log *log = &backend->log;
    moe_support support = {0};
    moe_tensors checked;
    moe_status status = moe_backend_supports(backend, desc, use, &support);
    if (status == MOE_E_UNSUPPORTED)
        moe_fail(log, status, "backend '%s' does not do this layer: %s", backend->name,
                 support.reason);
    if (!status)
        status = moe_int_check_params(desc, use, params, log, &checked);
    if (status)
        return status;
    moe_layer *layer = calloc(1, sizeof *layer);
    if (!layer)
        return moe_fail(log, MOE_E_NOMEM, "no memory for a layer");
    layer->backend = backend;
    layer->desc = *desc;
    layer->use = *use;
    status = moe_int_call_prepare(&backend->caller, backend->device, desc, use, &checked,
                                  &layer->plugged);
    if (status) {
        free(layer);
        return moe_int_backend_settle(backend, status);
    }
    *ret = layer;
    return MOE_OK;
}

void moe_layer_destroy(moe_layer **layer) {
    if (!layer || !*layer)
        return;
    moe_int_backend_settle((*layer)->backend,
                           moe_int_call_release(caller_of(*layer), (*layer)->plugged));
    free(*layer);
    *layer = NULL;
}

/* A step that fails leaves nothing to run on or to fetch. */
static moe_status advance(moe_layer *layer, moe_status status, moe_int_state on_success,
                          moe_int_state on_failure) {
    layer->state = status ? on_failure : on_success;
    return moe_int_backend_settle(layer->backend, status);
}

moe_status moe_layer_set_input(moe_layer *layer, const moe_input *input) {
    moe_input checked;
    moe_status status = moe_int_check_input(layer, input, log_of(layer), &checked);
    if (status)
        return status;
    layer->given_plan = checked.plan;
    status = moe_int_call_set_input(caller_of(layer), layer->plugged, &checked);
    return advance(layer, status, MOE_INT_LOADED, MOE_INT_PREPARED);
}

moe_status moe_layer_forward(moe_layer *layer) {
    if (layer->state < MOE_INT_LOADED)
        return moe_fail(log_of(layer), MOE_E_INVALID, "forward before any input was set");
    moe_status status = moe_int_call_forward(caller_of(layer), layer->plugged);
    return advance(layer, status, MOE_INT_FORWARD, MOE_INT_LOADED);
}

moe_status moe_layer_backward(moe_layer *layer) {
    if (!(layer->use.pass & MOE_PASS_BWD))
        return moe_fail(log_of(layer), MOE_E_INVALID,
                        "backward of a layer that was prepared for the forward pass only");
    if (layer->state < MOE_INT_FORWARD)
        return moe_fail(log_of(layer), MOE_E_INVALID, "backward before a forward of this input");
    moe_status status = moe_int_call_backward(caller_of(layer), layer->plugged);
    return advance(layer, status, MOE_INT_BACKWARD, MOE_INT_LOADED);
}

/* Keeps the sentence that says what is wrong with a plan. */
static void keep_fault(void *user, moe_log_level level, const char *message) {
    moe_layer *layer = user;
    snprintf(layer->plan_fault, sizeof layer->plan_fault, "%.*s", (int)sizeof layer->plan_fault - 1,
             message);
    moe_log_send(log_of(layer), level, "%s", message);
}

static moe_status check_own_plan(moe_layer *layer, const moe_plan *plan) {
    const moe_log log = {keep_fault, layer};
    layer->plan_fault[0] = '\0';
    return moe_int_check_plan(layer, plan, "the backend's", &log);
}

const char *moe_int_plan_fault(const moe_layer *layer) {
    return layer->plan_fault;
}

moe_status moe_layer_routing(moe_layer *layer, const moe_plan **ret) {
    const moe_plan *plan = layer->given_plan;
    if (layer->state < MOE_INT_FORWARD)
        return moe_fail(log_of(layer), MOE_E_INVALID, "routing before a forward of this input");
    if (!plan) {
        if (!plugin_of(layer)->routing)
            return moe_fail(log_of(layer), MOE_E_UNSUPPORTED,
                            "backend '%s' does not tell its routing", layer->backend->name);
        moe_status status = moe_int_backend_settle(
            layer->backend, moe_int_call_routing(caller_of(layer), layer->plugged, &plan));
        if (!status)
            status = check_own_plan(layer, plan);
        if (status)
            return status;
    }
    *ret = plan;
    return MOE_OK;
}

/* A plug-in that keeps its choice to itself still has T*K pairs where the selection cannot drop
 * or add any. */
static moe_status count_pairs(moe_layer *layer, int64_t *ret_pairs, int64_t *ret_all) {
    const moe_layer_desc *desc = &layer->desc;
    if (!layer->given_plan && !plugin_of(layer)->routing && moe_int_pairs_are_known(desc)) {
        *ret_pairs = *ret_all = layer->use.tokens * desc->K;
        return MOE_OK;
    }
    const moe_plan *plan;
    moe_status status = moe_layer_routing(layer, &plan);
    if (!status) {
        *ret_pairs = plan->offsets[desc->E];
        *ret_all = plan->n_pairs;
    }
    return status;
}

/* The state from which a tensor can be fetched. */
static moe_int_state state_needed(moe_tensor_id id) {
    return moe_tensor_is_backward(id) ? MOE_INT_BACKWARD : MOE_INT_FORWARD;
}

static moe_status check_fetch(moe_layer *layer, moe_tensor_id id, const moe_tensor *dst) {
    const moe_log *log = log_of(layer);
    if ((unsigned)id >= MOE_T_COUNT)
        return moe_fail(log, MOE_E_INVALID, "fetch of tensor %d, which does not exist", (int)id);
    const char *name = moe_tensor_name(id);
    moe_tensor_role role = moe_tensor_role_of(id);
    if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM)
        return moe_fail(log, MOE_E_INVALID, "%s is an input: nothing to fetch", name);
    if (!moe_tensor_exists(&layer->desc, id, layer->use.plan_given))
        return moe_fail(log, MOE_E_INVALID, "this layer has no %s", name);
    if (layer->state < state_needed(id))
        return moe_fail(log, MOE_E_INVALID, "fetch of %s before the pass that makes it", name);
    if (!dst->data || (dst->dtype != MOE_F64 && dst->dtype != MOE_F32 && dst->dtype != MOE_F16 &&
                       dst->dtype != MOE_BF16))
        return moe_fail(log, MOE_E_INVALID,
                        "fetch of %s into a tensor without data or of no "
                        "floating type",
                        name);
    return MOE_OK;
}

/* The shape that `id` has now. */
static moe_status shape_of(moe_layer *layer, moe_tensor_id id, moe_tensor *ret) {
    int64_t pairs = 0, all_pairs = 0;
    moe_status status =
        moe_tensor_is_of_pairs(id) ? count_pairs(layer, &pairs, &all_pairs) : MOE_OK;
    if (!status)
        moe_tensor_shape(&layer->desc, id, layer->use.tokens, pairs, all_pairs, ret);
    return status;
}

moe_status moe_layer_fetch(moe_layer *layer, moe_tensor_id id, moe_tensor *dst) {
    moe_tensor want = {0};
    moe_status status = check_fetch(layer, id, dst);
    if (!status)
        status = shape_of(layer, id, &want);
    if (status)
        return status;
    if (dst->ndim < 0 || dst->ndim > MOE_MAX_DIMS || !moe_tensor_same_shape(dst, &want)) {
        char is[96], should[96];
        return moe_fail(log_of(layer), MOE_E_INVALID, "%s has shape %s, not %s",
                        moe_tensor_name(id), moe_tensor_shape_str(&want, should, sizeof should),
                        moe_tensor_shape_str(dst, is, sizeof is));
    }
    status = moe_int_call_fetch(caller_of(layer), layer->plugged, id, dst);
    return moe_int_backend_settle(layer->backend, status);
}

moe_status moe_int_layer_fetch_fresh(moe_layer *layer, moe_tensor_id id, const moe_tensor *as,
                                     moe_tensor *dst, bool *ret_same) {
    moe_int_guest *g = layer->backend->is_isolated ? layer->backend->device : NULL;
    const size_t bytes = (size_t)moe_tensor_bytes(dst);
    if (g) {
        g->is_fresh = true;
        g->as = as ? as->data : NULL;
    } else {
        moe_int_fill(dst->data, MOE_INT_POISON, bytes);
    }
    moe_status status = moe_layer_fetch(layer, id, dst);
    *ret_same = !status && (g ? g->same : as && moe_int_same_bytes(dst->data, as->data, bytes));
    if (g) {
        g->is_fresh = false;
        g->as = NULL;
    }
    return status;
}

void moe_int_backend_rest(const moe_backend *backend) {
    const moe_int_guest *g = backend->device;
    if (backend->is_isolated)
        moe_int_shared_forget(&g->scratch);
}

/* A shape that another run had is no longer right where this one has other pairs. */
moe_status moe_int_layer_expect(moe_layer *layer, const moe_tensor form[MOE_T_COUNT]) {
    moe_tensor now[MOE_T_COUNT] = {0};
    moe_status status = MOE_OK;
    if (!layer->backend->is_isolated)
        return MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        moe_tensor want = {0};
        if (form[id].ndim == 0 || layer->state < state_needed((moe_tensor_id)id))
            continue;
        status = shape_of(layer, (moe_tensor_id)id, &want);
        if (!status && moe_tensor_same_shape(&form[id], &want))
            now[id] = form[id];
    }
    if (!status)
        status = moe_int_guest_fetch_ahead(layer->plugged, now);
    return moe_int_backend_settle(layer->backend, status);
}

void *moe_int_layer_plugged(const moe_layer *layer) {
    return layer->plugged;
}

size_t moe_layer_timings(moe_layer *layer, moe_cost *ret, size_t capacity) {
    size_t count = 0;
    if (plugin_of(layer)->timings)
        moe_int_backend_settle(
            layer->backend,
            moe_int_call_timings(caller_of(layer), layer->plugged, ret, capacity, &count));
    return count;
}

moe_status moe_layer_memory(moe_layer *layer, moe_memory *ret) {
    moe_memory memory = {0};
    if (!plugin_of(layer)->memory)
        return MOE_E_UNSUPPORTED;
    moe_status status = moe_int_call_memory(caller_of(layer), layer->plugged, &memory);
    if (!status)
        *ret = memory;
    return moe_int_backend_settle(layer->backend, status);
}

double moe_int_layer_us(const moe_layer *layer) {
    return layer->backend->caller.us;
}

void moe_int_backend_tell(moe_backend *backend, const moe_progress *progress) {
    backend->caller.progress = progress;
}

int moe_int_backend_pid(const moe_backend *backend) {
    const moe_int_guest *g = backend->device;
    return backend->is_isolated ? (int)g->process.pid : (int)getpid();
}

void moe_int_backend_trim(const moe_backend *backend) {
    if (backend->is_isolated)
        moe_int_guest_trim(backend->device);
    else
        malloc_trim(0);
}

const moe_tensor *moe_int_layer_seen(const moe_layer *layer, moe_tensor_id id) {
    const moe_int_guest_layer *l = layer->plugged;
    return layer->backend->is_isolated && l->seen.t[id].data ? &l->seen.t[id] : NULL;
}

const moe_plan *moe_int_layer_seen_plan(const moe_layer *layer) {
    const moe_int_guest_layer *l = layer->plugged;
    return layer->backend->is_isolated && l->given.n_tokens ? &l->given : NULL;
}
