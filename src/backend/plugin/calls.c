#include "backend/plugin/calls.h"
#include "backend/plugin/bound.h"
#include "core/clock.h"
#include "core/flush.h"
#include "core/progress.h"
#include "core/utf8.h"
#include "moeref/arithmetic.h"

#include <fenv.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>

const char *moe_int_slot_name(moe_int_slot slot) {
#define NAME(slot, name) name,
    static const char *const names[] = {MOE_INT_SLOTS(NAME)};
    return (unsigned)slot < MOE_INT_SLOT_COUNT ? names[slot] : "?";
}

moe_status moe_int_caller_fault(moe_int_caller *c, const char *format, ...) {
    va_list args;
    if (c->fault[0])
        return MOE_E_CONTRACT;
    va_start(args, format);
    vsnprintf(c->fault, sizeof c->fault, format, args);
    va_end(args);
    moe_int_clean_text(c->fault, sizeof c->fault);
    return MOE_E_CONTRACT;
}

/* What a call must leave as it was. */
typedef struct call {
    fenv_t environment;
    int rounding;
    bool flushes;
    double start_us;
} call;

static call begin(moe_int_caller *c, moe_int_slot slot) {
    moe_int_progress(c->progress, moe_int_slot_name(slot), 0, 0);
    call k = {.rounding = fegetround(), .flushes = moe_int_flushes()};
    c->inside_us = 0;
    fegetenv(&k.environment);
    k.start_us = moe_int_now_us();
    return k;
}

/* `what` names the call in a fault. */
static moe_status end_of(moe_int_caller *c, const call *k, const char *what, moe_status status) {
    const double us = moe_int_now_us() - k->start_us;
    const bool rounds = fegetround() == k->rounding, flushes = moe_int_flushes();
    c->us = c->inside_us > 0 && c->inside_us < us ? c->inside_us : us;
    fesetenv(&k->environment);
    moe_int_flush_set(k->flushes);
    if (!c->fault[0] && (status > MOE_OK || status < MOE_E_DEVICE))
        moe_int_caller_fault(c, "%s returned %d, which is no status", what, (int)status);
    if (!rounds)
        moe_int_caller_fault(c, "%s left another rounding mode of the floating-point unit", what);
    if (flushes != k->flushes)
        moe_int_caller_fault(c, "%s left a floating-point unit that %s subnormal numbers", what,
                             flushes ? "takes 0 for" : "does not take 0 for");
    return c->fault[0] ? MOE_E_CONTRACT : status;
}

static moe_status end(moe_int_caller *c, const call *k, moe_int_slot slot, moe_status status) {
    return end_of(c, k, moe_int_slot_name(slot), status);
}

moe_status moe_int_call_open(moe_int_caller *c, const moe_open_params *params, void **ret) {
    void *device = NULL;
    const call k = begin(c, MOE_INT_SLOT_OPEN);
    moe_status status = moe_int_is_bound(params->variant) ? moe_int_bound_open(c, params, &device)
                                                          : c->plugin->open(params, &device);
    status = end(c, &k, MOE_INT_SLOT_OPEN, status);
    if (status)
        return status;
    if (!device)
        return moe_int_caller_fault(c, "open returned OK without a device");
    *ret = device;
    return MOE_OK;
}

moe_status moe_int_call_close(moe_int_caller *c, void *device) {
    const call k = begin(c, MOE_INT_SLOT_CLOSE);
    c->plugin->close(device);
    return end(c, &k, MOE_INT_SLOT_CLOSE, MOE_OK);
}

static bool is_floating(int32_t dtype) {
    return dtype == MOE_F64 || dtype == MOE_F32 || dtype == MOE_F16 || dtype == MOE_BF16;
}

moe_status moe_int_call_supports(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                 const moe_use *use, moe_support *ret) {
    const call k = begin(c, MOE_INT_SLOT_SUPPORTS);
    moe_status status = c->plugin->supports(device, desc, use, ret);
    status = end(c, &k, MOE_INT_SLOT_SUPPORTS, status);
    moe_int_clean_text(ret->reason, sizeof ret->reason);
    if (ret->deterministic != (MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT))
        ret->deterministic = ret->deterministic ? MOE_PROMISE_REPEATS : 0;
    if (!status && !is_floating(ret->arithmetic))
        return moe_int_caller_fault(c, "supports names dtype %d as its arithmetic",
                                    (int)ret->arithmetic);
    return status;
}

moe_status moe_int_call_prepare(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                const moe_use *use, const moe_tensors *params, void **ret) {
    void *layer = NULL;
    const call k = begin(c, MOE_INT_SLOT_PREPARE);
    moe_status status = c->plugin->prepare(device, desc, use, params, &layer);
    status = end(c, &k, MOE_INT_SLOT_PREPARE, status);
    if (status)
        return status;
    if (!layer)
        return moe_int_caller_fault(c, "prepare returned OK without a layer");
    *ret = layer;
    return MOE_OK;
}

moe_status moe_int_call_release(moe_int_caller *c, void *layer) {
    const call k = begin(c, MOE_INT_SLOT_RELEASE);
    c->plugin->release(layer);
    return end(c, &k, MOE_INT_SLOT_RELEASE, MOE_OK);
}

moe_status moe_int_call_set_input(moe_int_caller *c, void *layer, const moe_input *input) {
    const call k = begin(c, MOE_INT_SLOT_SET_INPUT);
    const moe_status status = c->plugin->set_input(layer, input);
    return end(c, &k, MOE_INT_SLOT_SET_INPUT, status);
}

moe_status moe_int_call_forward(moe_int_caller *c, void *layer) {
    const call k = begin(c, MOE_INT_SLOT_FORWARD);
    const moe_status status = c->plugin->forward(layer);
    return end(c, &k, MOE_INT_SLOT_FORWARD, status);
}

moe_status moe_int_call_backward(moe_int_caller *c, void *layer) {
    const call k = begin(c, MOE_INT_SLOT_BACKWARD);
    const moe_status status = c->plugin->backward(layer);
    return end(c, &k, MOE_INT_SLOT_BACKWARD, status);
}

moe_status moe_int_call_fetch(moe_int_caller *c, void *layer, moe_tensor_id id, moe_tensor *dst) {
    moe_tensor view = *dst; /* its own to spoil: the caller frees by the other */
    char what[40];
    snprintf(what, sizeof what, "fetch of %s", moe_tensor_name(id));
    const call k = begin(c, MOE_INT_SLOT_FETCH);
    const moe_status status = c->plugin->fetch(layer, id, &view);
    return end_of(c, &k, what, status);
}

moe_status moe_int_call_routing(moe_int_caller *c, void *layer, const moe_plan **ret) {
    const moe_plan *plan = NULL;
    const call k = begin(c, MOE_INT_SLOT_ROUTING);
    moe_status status = c->plugin->routing(layer, &plan);
    status = end(c, &k, MOE_INT_SLOT_ROUTING, status);
    if (status)
        return status;
    if (!plan)
        return moe_int_caller_fault(c, "routing returned OK without a plan");
    if (!plan->offsets || !plan->token_offsets ||
        (plan->n_pairs > 0 && (!plan->token || !plan->weight || !plan->pair_of_token)))
        return moe_int_caller_fault(c, "routing returned a plan that lacks an array");
    *ret = plan;
    return MOE_OK;
}

/* More kernels than any layer has: a number that is none. */
enum { MOST_KERNELS = 4096 };

moe_status moe_int_call_timings(moe_int_caller *c, void *layer, moe_cost *ret, size_t capacity,
                                size_t *ret_count) {
    const call k = begin(c, MOE_INT_SLOT_TIMINGS);
    size_t count = c->plugin->timings(layer, ret, capacity);
    const moe_status status = end(c, &k, MOE_INT_SLOT_TIMINGS, MOE_OK);
    if (count > MOST_KERNELS)
        return moe_int_caller_fault(c, "timings tells of %zu kernels", count);
    for (size_t i = 0; i < count && i < capacity; i++) {
        moe_int_clean_text(ret[i].name, sizeof ret[i].name);
        moe_int_clean_text(ret[i].bound_by, sizeof ret[i].bound_by);
        if (!isfinite(ret[i].us) || ret[i].us < 0)
            return moe_int_caller_fault(c, "timings tells that %s took %g us", ret[i].name,
                                        ret[i].us);
    }
    *ret_count = count;
    return status;
}

moe_status moe_int_call_memory(moe_int_caller *c, void *layer, moe_memory *ret) {
    const call k = begin(c, MOE_INT_SLOT_MEMORY);
    moe_status status = c->plugin->memory(layer, ret);
    status = end(c, &k, MOE_INT_SLOT_MEMORY, status);
    if (!status && (ret->weights < 0 || ret->cached < 0 || ret->peak < 0))
        return moe_int_caller_fault(c, "memory tells of less than no bytes");
    return status;
}

moe_status moe_int_call_roofline(moe_int_caller *c, void *device, moe_roofline *ret) {
    const call k = begin(c, MOE_INT_SLOT_ROOFLINE);
    moe_status status = c->plugin->roofline(device, ret);
    status = end(c, &k, MOE_INT_SLOT_ROOFLINE, status);
    moe_int_clean_text(ret->source, sizeof ret->source);
    if (!status && !(isfinite(ret->gemm_flops) && isfinite(ret->memory_rate)))
        return moe_int_caller_fault(c, "roofline tells of rates that are no numbers");
    return status;
}

moe_status moe_int_call_arithmetic(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                   const moe_use *use, char *ret, size_t size) {
    moe_arithmetic how;
    if (c->plugin->abi < 4 || !c->plugin->arithmetic)
        return MOE_E_UNSUPPORTED;
    const call k = begin(c, MOE_INT_SLOT_ARITHMETIC);
    const char *text = c->plugin->arithmetic(device, desc, use);
    moe_status status = end(c, &k, MOE_INT_SLOT_ARITHMETIC, MOE_OK);
    if (!status && !text)
        return MOE_E_UNSUPPORTED;
    if (status)
        return status;
    snprintf(ret, size, "%s", text);
    moe_int_clean_text(ret, size);
    if (moe_arithmetic_parse(ret, &how))
        return moe_int_caller_fault(c, "arithmetic declares '%.60s', which is none", ret);
    return MOE_OK;
}

/* Behind the table of an older plug-in lies memory that is not the table's. */
moe_status moe_int_call_board(const moe_plugin *plugin, void *device, moe_board *ret) {
    fenv_t environment;
    if (plugin->abi < 2 || !plugin->board)
        return MOE_E_UNSUPPORTED;
    fegetenv(&environment);
    moe_status status = plugin->board(device, ret);
    fesetenv(&environment);
    return status;
}
