/* The caller's tensors: weights of fp32, bf16 and fp16 are used where they lie, whichever way
 * round; biases, a router's weights and other dtypes are converted once, X, dO and results in each
 * call.
 */
#include "core/memory.h"
#include "operator.h"

#include <stdlib.h>
#include <string.h>

/* Dense in the order of its dimensions; `turned`: with the last two exchanged. */
static bool is_dense(const moe_view *v, bool turned) {
    const int last = v->ndim - 1;
    int64_t stride = 1;
    for (int i = last; i >= 0; i--) {
        const int axis = turned && i >= last - 1 ? 2 * last - 1 - i : i;
        if (v->shape[axis] != 1 && v->stride[axis] != stride)
            return false;
        stride *= v->shape[axis];
    }
    return true;
}

static bool is_row_major(const moe_view *v) {
    return is_dense(v, false);
}

/* Can products read it as it lies, and which way round is that? */
static bool lies_well(moe_tensor_id id, const moe_view *v, bool *ret_turned) {
    const bool matrix = ob_is_matrix(id);
    *ret_turned = matrix && !is_row_major(v) && is_dense(v, true);
    return (v->dtype == MOE_F32 || (matrix && ob_weights_readable(v->dtype))) &&
           (is_row_major(v) || *ret_turned);
}

moe_tensor ob_tensor_of(const moe_view *v, moe_dtype dtype, void *data) {
    moe_tensor t = {.data = data, .dtype = dtype, .ndim = v->ndim};
    memcpy(t.shape, v->shape, sizeof t.shape);
    return t;
}

int64_t ob_take_parameters(const moe_call *call, bool fill, ob_layer *ret) {
    int64_t at = 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_role_of((moe_tensor_id)id) != MOE_ROLE_PARAM || v->ndim == 0)
            continue;
        moe_tensor *t = &ret->param.t[id];
        *t = ob_tensor_of(v, (moe_dtype)v->dtype, v->data);
        if (lies_well((moe_tensor_id)id, v, &ret->turned[id]))
            continue;
        ret->turned[id] = false;
        t->dtype = MOE_F32;
        t->data = call->converted ? (char *)call->converted + at : NULL;
        if (fill)
            moe_view_read(v, t);
        at += (int64_t)ob_call_padded((size_t)moe_tensor_bytes(t));
    }
    return at;
}

moe_status ob_take_float64(const moe_view *src, double **ret) {
    if (!src->data)
        return MOE_OK;
    moe_tensor t = ob_tensor_of(src, MOE_F64, NULL);
    *ret = t.data = malloc((size_t)moe_tensor_bytes(&t));
    if (!*ret)
        return MOE_E_NOMEM;
    moe_view_read(src, &t);
    return MOE_OK;
}

const float *ob_take_input(ob_layer *l, const moe_view *v, ob_buffer_id id) {
    if (!v->data || v->dtype == MOE_F32)
        return v->data;
    moe_tensor t = ob_tensor_of(v, MOE_F32, l->buffer[id].data);
    moe_view_read(v, &t);
    return t.data;
}

void ob_take_output(ob_layer *l, const moe_view *v, ob_buffer_id id) {
    if (v->data && v->dtype == MOE_F32)
        l->buffer[id].data = v->data;
}

void ob_give_output(const ob_layer *l, const moe_view *v, ob_buffer_id id) {
    const moe_tensor t = ob_tensor_of(v, MOE_F32, l->buffer[id].data);
    if (v->data && v->data != t.data)
        moe_view_write(v, &t, 0);
}

moe_status ob_take_gradients(ob_layer *l, const moe_call *call) {
    bool direct = true;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_param_of((moe_tensor_id)id) != MOE_T_COUNT && v->data)
            direct = direct && v->dtype == MOE_F32 && is_row_major(v);
    }
    l->accumulates = direct && call->beta;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_view *v = &call->t[id];
        if (moe_tensor_param_of((moe_tensor_id)id) == MOE_T_COUNT || !v->data)
            continue;
        moe_tensor *g = &l->gradient.t[id];
        *g = ob_tensor_of(v, MOE_F32, v->data);
        if (!direct)
            g->data = moe_int_allocate((size_t)moe_tensor_bytes(g));
        if (!g->data)
            return MOE_E_NOMEM;
    }
    return MOE_OK;
}

void ob_give_gradients(ob_layer *l, const moe_call *call, bool valid) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor *g = &l->gradient.t[id];
        if (!g->data || g->data == call->t[id].data)
            continue;
        if (valid)
            moe_view_write(&call->t[id], g, call->beta);
        free(g->data);
    }
}
