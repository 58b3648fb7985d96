/* Operators: open, asked, called. Whatever a plug-in may trust is checked in operator_check.c. */
#include "backend/operator.h"
#include "core/utf8.h"

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>

/* The group of slots of a plug-in's table, NULL where it has none or is too old to: behind the
 * table of an older plug-in lies memory that is not the table's. */
static const moe_operator_slots *slots_of(const moe_plugin *plugin) {
    return plugin->abi >= 3 ? plugin->operators : NULL;
}

static moe_status ask(moe_backend *backend, const moe_layer_desc *desc, const moe_operator_use *use,
                      moe_operator_support *ret) {
    const moe_operator_slots *slots = slots_of(backend->caller.plugin);
    if (!slots) {
        snprintf(ret->reason, sizeof ret->reason, "%s",
                 backend->is_isolated ? "it runs in a process of its own, which has other memory"
                                      : "its layers run on memory of its own alone");
        return MOE_E_UNSUPPORTED;
    }
    fenv_t environment;
    fegetenv(&environment);
    const moe_status status = slots->supports(backend->device, desc, use, ret);
    fesetenv(&environment);
    ret->reason[sizeof ret->reason - 1] = '\0';
    moe_int_clean_text(ret->reason, sizeof ret->reason);
    return status;
}

moe_status moe_operator_supports(moe_backend *backend, const moe_layer_desc *desc,
                                 const moe_operator_use *use, moe_operator_support *ret) {
    moe_operator_support support = {0};
    moe_status status = moe_int_operator_check_use(desc, use, &backend->log);
    if (status)
        return status;
    status = ask(backend, desc, use, &support);
    if (!status || status == MOE_E_UNSUPPORTED)
        *ret = support;
    return status;
}

moe_status moe_operator_open(moe_backend *backend, const moe_layer_desc *desc,
                             const moe_operator_use *use, moe_operator **ret) {
    moe_operator_support support = {0};
    moe_status status = moe_operator_supports(backend, desc, use, &support);
    if (status == MOE_E_UNSUPPORTED)
        moe_fail(&backend->log, status, "backend '%s' has no operator for this layer: %s",
                 backend->name, support.reason);
    if (status)
        return status;
    moe_operator *op = calloc(1, sizeof *op);
    if (!op)
        return moe_fail(&backend->log, MOE_E_NOMEM, "no memory for an operator");
    op->backend = backend;
    op->slots = slots_of(backend->caller.plugin);
    op->desc = *desc;
    op->use = *use;
    op->support = support;
    status = op->slots->open(backend->device, desc, use, &op->plugged);
    if (status)
        free(op);
    else
        *ret = op;
    return status;
}

void moe_operator_close(moe_operator **op) {
    if (!op || !*op)
        return;
    (*op)->slots->close((*op)->plugged);
    free(*op);
    *op = NULL;
}

const moe_operator_support *moe_operator_info(const moe_operator *op) {
    return &op->support;
}

static const moe_log *log_of(const moe_operator *op, const moe_call *call) {
    return call && call->log ? call->log : &op->backend->log;
}

static moe_status sizes_for(const moe_operator *op, int64_t tokens, int64_t columns,
                            const moe_log *log, moe_operator_sizes *ret) {
    const int64_t most = op->desc.E + op->desc.n_zero;
    const bool asks = op->use.routed == MOE_ROUTED_BY_CALLER;
    moe_status status = moe_layer_desc_check(&op->desc, tokens, log);
    if (status)
        return status;
    if (asks && (columns < 1 || columns > most))
        return moe_fail(log, MOE_E_INVALID, "%lld columns of index for %lld experts",
                        (long long)columns, (long long)most);
    moe_operator_sizes sizes = {.columns = columns};
    status = op->slots->sizes(op->plugged, tokens, asks ? columns : 0, &sizes, log);
    if (!status)
        *ret = sizes;
    return status;
}

moe_status moe_operator_sizes_for(const moe_operator *op, int64_t tokens, int64_t columns,
                                  moe_operator_sizes *ret) {
    return sizes_for(op, tokens, columns, log_of(op, NULL), ret);
}

moe_status moe_operator_converted_bytes(const moe_operator *op, const moe_call *call,
                                        int64_t *ret_bytes) {
    moe_call checked;
    moe_status status =
        moe_int_operator_check(op, MOE_INT_CALL_SIZE, call, log_of(op, call), &checked);
    if (!status)
        *ret_bytes = op->slots->converted_bytes(op->plugged, &checked);
    return status;
}

/* `needed` bytes of memory must be there, aligned. */
static moe_status check_memory(const moe_operator *op, const char *name, const void *data,
                               int64_t bytes, int64_t needed, const moe_log *log) {
    if (!needed)
        return MOE_OK;
    if (!data || bytes < needed)
        return moe_fail(log, MOE_E_INVALID, "%s has %lld bytes, this call needs %lld", name,
                        data ? (long long)bytes : 0, (long long)needed);
    if ((uintptr_t)data % (uintptr_t)op->support.alignment)
        return moe_fail(log, MOE_E_INVALID, "%s is not aligned to %d bytes", name,
                        (int)op->support.alignment);
    return MOE_OK;
}

static moe_status check_memories(const moe_operator *op, moe_int_call_kind kind,
                                 const moe_call *call) {
    moe_operator_sizes s = {0};
    moe_status status = MOE_OK;
    if (kind != MOE_INT_CALL_CONVERT)
        status = sizes_for(op, call->tokens, call->columns, call->log, &s);
    if (!status && kind != MOE_INT_CALL_CONVERT && s.columns != call->columns)
        return moe_fail(call->log, MOE_E_INVALID,
                        "the call has %lld columns, this layer's router makes %lld",
                        (long long)call->columns, (long long)s.columns);
    if (!status)
        status = check_memory(op, "cached", call->cached, call->cached_bytes, s.cached, call->log);
    if (!status)
        status = check_memory(op, "workspace", call->workspace, call->workspace_bytes,
                              kind == MOE_INT_CALL_BACKWARD ? s.backward : s.forward, call->log);
    if (!status)
        status = check_memory(op, "converted", call->converted, call->converted_bytes,
                              op->slots->converted_bytes(op->plugged, call), call->log);
    return status;
}

typedef moe_status (*slot)(const void *op, const moe_call *call);

static moe_status run(const moe_operator *op, moe_int_call_kind kind, const moe_call *call,
                      slot body) {
    moe_call checked;
    fenv_t environment;
    moe_status status = moe_int_operator_check(op, kind, call, log_of(op, call), &checked);
    if (!status)
        status = check_memories(op, kind, &checked);
    if (status)
        return status;
    fegetenv(&environment);
    status = body(op->plugged, &checked);
    fesetenv(&environment);
    return status;
}

moe_status moe_operator_convert(const moe_operator *op, const moe_call *call) {
    int64_t bytes = 0;
    moe_status status = moe_operator_converted_bytes(op, call, &bytes);
    return status || !bytes ? status : run(op, MOE_INT_CALL_CONVERT, call, op->slots->convert);
}

moe_status moe_operator_forward(const moe_operator *op, const moe_call *call) {
    return run(op, MOE_INT_CALL_FORWARD, call, op->slots->forward);
}

moe_status moe_operator_backward(const moe_operator *op, const moe_call *call) {
    if (op->use.pass == MOE_PASS_FWD)
        return moe_fail(log_of(op, call), MOE_E_INVALID,
                        "backward of an operator that was opened for inference");
    return run(op, MOE_INT_CALL_BACKWARD, call, op->slots->backward);
}

moe_status moe_operator_allocate(const moe_operator *op, int64_t bytes, void **ret) {
    if (bytes < 0)
        return moe_fail(log_of(op, NULL), MOE_E_INVALID, "an allocation of %lld bytes",
                        (long long)bytes);
    return op->slots->allocate(op->plugged, bytes, ret);
}

void moe_operator_free(const moe_operator *op, void *data) {
    if (data)
        op->slots->free(op->plugged, data);
}

moe_status moe_operator_copy(const moe_operator *op, void *dst, const void *src, int64_t bytes,
                             void *stream) {
    if (bytes < 0 || (bytes > 0 && (!dst || !src)))
        return moe_fail(log_of(op, NULL), MOE_E_INVALID, "a copy of %lld bytes %s",
                        (long long)bytes, bytes < 0 ? "" : "from or to nowhere");
    return bytes ? op->slots->copy(op->plugged, dst, src, bytes, stream) : MOE_OK;
}
