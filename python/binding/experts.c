/* A layer's experts as an operator on the caller's memory. */
#include "python/binding/binding.h"

#include <stdlib.h>

struct moe_py_experts {
    moe_backends *all;
    moe_backend *backend;
    moe_operator *op;
    moe_layer_desc desc;
    moe_py_form form;
};

static moe_status open_operator(const char *backend, const char *line, const moe_log *log,
                                moe_py_experts *x) {
    const moe_py_form *form = &x->form;
    const moe_operator_use use = {
        .dtype = (int32_t)form->dtype,
        .pass = form->trains ? MOE_PASS_BOTH : MOE_PASS_FWD,
        .routed = MOE_ROUTED_BY_CALLER,
    };
    /* A call brings its own log: the device outlives this one's. */
    const moe_open_params params = {.threads = (int32_t)form->threads,
                                    .device_index = (int32_t)form->device_index};
    moe_operator_support support = {0};
    moe_case c;
    moe_status status = moe_case_parse(line, log, &c);
    if (status)
        return status;
    x->desc = c.layer;
    status = moe_backends_load(NULL, log, &x->all);
    if (!status)
        status = moe_backend_open(x->all, backend, &params, log, &x->backend);
    if (!status) {
        status = moe_operator_supports(x->backend, &x->desc, &use, &support);
        if (status)
            moe_fail(log, status, "backend %s cannot run %s: %s", backend, line, support.reason);
    }
    if (!status && (status = moe_operator_open(x->backend, &x->desc, &use, &x->op)))
        moe_fail(log, status, "backend %s cannot run %s", backend, line);
    moe_case_destroy(&c);
    return status;
}

moe_status moe_py_experts_open(const char *backend, const char *line, const moe_py_form *form,
                               moe_py_said *said, moe_py_experts **ret) {
    moe_py_ear ear;
    moe_py_listen(&ear, said);
    moe_py_experts *x = calloc(1, sizeof *x);
    moe_status status = x ? MOE_OK : moe_fail(&ear.log, MOE_E_NOMEM, "no memory");
    if (!status) {
        x->form = *form;
        status = open_operator(backend, line, &ear.log, x);
    }
    moe_py_listen_end();
    if (status)
        moe_py_experts_close(x);
    else
        *ret = x;
    return status;
}

void moe_py_experts_close(moe_py_experts *x) {
    if (!x)
        return;
    moe_operator_close(&x->op);
    moe_backend_close(&x->backend);
    moe_backends_destroy(&x->all);
    free(x);
}

moe_status moe_py_experts_sizes(const moe_py_experts *x, int64_t tokens, moe_py_said *said,
                                int64_t ret[3]) {
    moe_operator_sizes sizes;
    moe_status status = moe_operator_sizes_for(x->op, tokens, x->form.columns, &sizes);
    said->text[0] = '\0';
    if (status) {
        snprintf(said->text, sizeof said->text, "error: %lld tokens with %lld experts each: %s\n",
                 (long long)tokens, (long long)x->form.columns, moe_status_str(status));
        return status;
    }
    ret[0] = sizes.cached;
    ret[1] = sizes.forward;
    ret[2] = sizes.backward;
    return MOE_OK;
}

/* ---- a call from its addresses ---- */

/* A dense tensor; `turned`: in memory its last two dimensions have changed places. */
static moe_view view_of(const moe_py_experts *x, int64_t address, int64_t dtype, int ndim,
                        const int64_t *shape, bool turned) {
    moe_view v = {.data = (void *)(uintptr_t)address,
                  .dtype = (int32_t)dtype,
                  .ndim = ndim,
                  .place = moe_operator_info(x->op)->place,
                  .device_index = (int32_t)x->form.device_index};
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        const int k = turned && i >= ndim - 2 ? 2 * ndim - 3 - i : i;
        v.stride[k] = stride;
        stride *= shape[k];
        v.shape[i] = shape[i];
    }
    return v;
}

static void view_parameters(const moe_py_experts *x, const moe_py_step *s, moe_call *call) {
    const moe_layer_desc *desc = &x->desc;
    const moe_py_form *f = &x->form;
    const int64_t h = moe_h_width(desc, desc->n);
    const int64_t w1[3] = {desc->E, h, desc->d}, w2[3] = {desc->E, desc->d, desc->n};
    const int64_t b1[2] = {desc->E, h}, b2[2] = {desc->E, desc->d};
    const struct {
        moe_tensor_id id, gradient;
        int64_t address, gradient_address;
        int ndim;
        const int64_t *shape;
    } all[] = {{MOE_T_W1, MOE_T_DW1, s->w1, s->dw1, 3, w1},
               {MOE_T_W2, MOE_T_DW2, s->w2, s->dw2, 3, w2},
               {MOE_T_B1, MOE_T_DB1, s->b1, s->db1, 2, b1},
               {MOE_T_B2, MOE_T_DB2, s->b2, s->db2, 2, b2}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const bool turned = f->turned && all[i].ndim == 3;
        if (all[i].address)
            call->t[all[i].id] =
                view_of(x, all[i].address, f->dtype, all[i].ndim, all[i].shape, turned);
        if (all[i].gradient_address)
            call->t[all[i].gradient] = view_of(x, all[i].gradient_address, f->gradient_dtype,
                                               all[i].ndim, all[i].shape, turned);
    }
}

static void view_tokens(const moe_py_experts *x, const moe_py_step *s, moe_call *call) {
    const moe_py_form *f = &x->form;
    const int64_t rows[2] = {s->tokens, x->desc.d}, slots[2] = {s->tokens, f->columns};
    const struct {
        moe_tensor_id id;
        int64_t address, dtype;
        const int64_t *shape;
    } all[] = {{MOE_T_X, s->x, f->dtype, rows},
               {MOE_T_O, s->o, f->dtype, rows},
               {MOE_T_DO, s->d_o, f->dtype, rows},
               {MOE_T_DX, s->dx, f->dtype, rows},
               {MOE_T_S, s->weights, f->weight_dtype, slots},
               {MOE_T_DS, s->ds, MOE_F32, slots}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].address)
            call->t[all[i].id] = view_of(x, all[i].address, all[i].dtype, 2, all[i].shape, false);
    call->index = view_of(x, s->index, f->index_dtype, 2, slots, false);
}

static moe_call call_of(const moe_py_experts *x, const moe_py_step *s, const moe_log *log) {
    moe_call call = {.tokens = s->tokens,
                     .columns = x->form.columns,
                     .beta = (int32_t)x->form.adds,
                     .cached = (void *)(uintptr_t)s->cached,
                     .cached_bytes = s->cached_bytes,
                     .workspace = (void *)(uintptr_t)s->workspace,
                     .workspace_bytes = s->workspace_bytes,
                     .converted = (void *)(uintptr_t)s->converted,
                     .converted_bytes = s->converted_bytes,
                     .stream = (void *)(uintptr_t)s->stream,
                     .log = log};
    view_parameters(x, s, &call);
    view_tokens(x, s, &call);
    return call;
}

moe_status moe_py_experts_run(const moe_py_experts *x, int what, const moe_py_step *step,
                              moe_py_said *said, int64_t *ret_bytes) {
    moe_py_ear ear;
    moe_py_listen(&ear, said);
    const moe_call call = call_of(x, step, &ear.log);
    moe_status status = what == 'f'   ? moe_operator_forward(x->op, &call)
                        : what == 'b' ? moe_operator_backward(x->op, &call)
                        : what == 'c' ? moe_operator_convert(x->op, &call)
                                      : moe_operator_converted_bytes(x->op, &call, ret_bytes);
    moe_py_listen_end();
    return status;
}
