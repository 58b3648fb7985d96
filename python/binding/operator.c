/* A layer as an operator on the caller's memory. */
#include "python/binding/binding.h"

#include <stdlib.h>

struct moe_py_operator {
    moe_backends *all;
    moe_backend *backend;
    moe_operator *op;
};

static moe_status open_operator(const char *backend, const char *line, int32_t dtype, int32_t pass,
                                int32_t threads, const moe_log *log, moe_py_operator *op) {
    const moe_operator_use use = {.dtype = dtype, .pass = pass, .routed = MOE_ROUTED_BY_CALLER};
    /* A call brings its own log: the device outlives this one's. */
    const moe_open_params params = {.threads = threads};
    moe_operator_support support = {0};
    moe_case c;
    moe_status status = moe_case_parse(line, log, &c);
    if (status)
        return status;
    status = moe_backends_load(NULL, log, &op->all);
    if (!status)
        status = moe_backend_open(op->all, backend, &params, log, &op->backend);
    if (!status) {
        status = moe_operator_supports(op->backend, &c.layer, &use, &support);
        if (status)
            moe_fail(log, status, "backend %s cannot run %s: %s", backend, line, support.reason);
    }
    if (!status && (status = moe_operator_open(op->backend, &c.layer, &use, &op->op)))
        moe_fail(log, status, "backend %s cannot run %s", backend, line);
    moe_case_destroy(&c);
    return status;
}

moe_status moe_py_operator_open(const char *backend, const char *line, int32_t dtype, int32_t pass,
                                int32_t threads, moe_py_said *said, moe_py_operator **ret) {
    moe_py_ear ear;
    moe_py_listen(&ear, said);
    moe_py_operator *op = calloc(1, sizeof *op);
    moe_status status = op ? MOE_OK : moe_fail(&ear.log, MOE_E_NOMEM, "no memory");
    if (!status)
        status = open_operator(backend, line, dtype, pass, threads, &ear.log, op);
    moe_py_listen_end();
    if (status)
        moe_py_operator_close(op);
    else
        *ret = op;
    return status;
}

void moe_py_operator_close(moe_py_operator *op) {
    if (!op)
        return;
    moe_operator_close(&op->op);
    moe_backend_close(&op->backend);
    moe_backends_destroy(&op->all);
    free(op);
}

moe_status moe_py_operator_sizes(const moe_py_operator *op, int64_t tokens, int64_t columns,
                                 moe_py_said *said, moe_operator_sizes *ret) {
    moe_status status = moe_operator_sizes_for(op->op, tokens, columns, ret);
    said->text[0] = '\0';
    if (status)
        snprintf(said->text, sizeof said->text, "error: %lld tokens with %lld experts each: %s\n",
                 (long long)tokens, (long long)columns, moe_status_str(status));
    return status;
}

moe_status moe_py_operator_converted(const moe_py_operator *op, const moe_call *call,
                                     moe_py_said *said, int64_t *ret) {
    moe_py_ear ear;
    moe_call heard = *call;
    moe_py_listen(&ear, said);
    heard.log = &ear.log;
    moe_status status = moe_operator_converted_bytes(op->op, &heard, ret);
    moe_py_listen_end();
    return status;
}

moe_status moe_py_operator_run(const moe_py_operator *op, int what, const moe_call *call,
                               moe_py_said *said) {
    moe_py_ear ear;
    moe_call heard = *call;
    moe_py_listen(&ear, said);
    heard.log = &ear.log;
    moe_status status = what == 'f'   ? moe_operator_forward(op->op, &heard)
                        : what == 'b' ? moe_operator_backward(op->op, &heard)
                                      : moe_operator_convert(op->op, &heard);
    moe_py_listen_end();
    return status;
}
