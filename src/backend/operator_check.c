/* Everything that an operator's plug-in may trust of a call. */
#include "backend/operator.h"
#include "layer/traits.h"

/* What a call names, for the search for overlaps. */
typedef struct range {
    const char *name;
    uintptr_t first, end;
    bool is_written;
} range;

enum { MOST_RANGES = MOE_T_COUNT + 4 };

typedef struct checker {
    const moe_operator *op;
    moe_int_call_kind kind;
    const moe_call *call;
    const moe_log *log;
    moe_call *ret;
    range range[MOST_RANGES];
    int ranges;
} checker;

static bool is_floating(int32_t dtype) {
    return dtype == MOE_F64 || dtype == MOE_F32 || dtype == MOE_F16 || dtype == MOE_BF16;
}

static const char *dtype_name(int32_t dtype) {
    return dtype >= 0 && dtype < MOE_DTYPE_COUNT ? moe_dtype_name((moe_dtype)dtype) : "no dtype";
}

moe_status moe_int_operator_check_use(const moe_layer_desc *desc, const moe_operator_use *use,
                                      const moe_log *log) {
    moe_status status = moe_layer_desc_check(desc, 1, log);
    if (status)
        return status;
    if (!is_floating(use->dtype))
        return moe_fail(log, MOE_E_INVALID, "use.dtype = %d is not a floating type", use->dtype);
    if (use->pass != MOE_PASS_FWD && use->pass != MOE_PASS_BOTH)
        return moe_fail(log, MOE_E_INVALID,
                        "use.pass = %d: an operator is for the forward pass or for both",
                        use->pass);
    if (use->routed < 0 || use->routed >= MOE_ROUTED_BY_COUNT)
        return moe_fail(log, MOE_E_INVALID, "use.routed = %d is outside 0..%d", use->routed,
                        MOE_ROUTED_BY_COUNT - 1);
    if (use->unused != 0)
        return moe_fail(log, MOE_E_INVALID, "use.unused = %d is not 0", use->unused);
    return MOE_OK;
}

/* ---- one view ---- */

/* The last two dimensions may be turned round. */
static bool is_dense(const moe_view *v, bool turned) {
    int64_t stride = 1;
    for (int i = v->ndim - 1; i >= 0; i--) {
        const int k = turned && i >= v->ndim - 2 ? 2 * v->ndim - 3 - i : i;
        if (v->shape[k] != 1 && v->stride[k] != stride)
            return false;
        stride *= v->shape[k];
    }
    return true;
}

static moe_status check_place(const checker *c, const char *name, const moe_view *v) {
    static const char *const places[] = {"host", "CUDA device"};
    const moe_operator_support *s = &c->op->support;
    if (v->place < 0 || v->place >= MOE_PLACE_COUNT)
        return moe_fail(c->log, MOE_E_INVALID, "%s lies in place %d, which does not exist", name,
                        v->place);
    if (v->place != s->place || v->device_index != s->device_index)
        return moe_fail(c->log, MOE_E_INVALID,
                        "%s is memory of %s %d, this operator works on %s %d", name,
                        places[v->place], v->device_index, places[s->place], s->device_index);
    return MOE_OK;
}

static moe_status check_shape(const checker *c, const char *name, const moe_view *v,
                              const moe_tensor *want) {
    moe_tensor got = {.ndim = v->ndim};
    if (v->ndim < 0 || v->ndim > MOE_MAX_DIMS)
        return moe_fail(c->log, MOE_E_INVALID, "%s has %d dimensions", name, v->ndim);
    for (int i = 0; i < v->ndim; i++)
        got.shape[i] = v->shape[i];
    if (moe_tensor_same_shape(&got, want))
        return MOE_OK;
    char is[96], should[96];
    return moe_fail(c->log, MOE_E_INVALID, "%s has shape %s, this call needs %s", name,
                    moe_tensor_shape_str(&got, is, sizeof is),
                    moe_tensor_shape_str(want, should, sizeof should));
}

static moe_status check_order(const checker *c, const char *name, const moe_view *v, bool turned) {
    if (is_dense(v, false) || (turned && v->ndim >= 2 && is_dense(v, true)))
        return MOE_OK;
    return moe_fail(c->log, MOE_E_INVALID, "%s is not dense in row-major order%s", name,
                    turned ? ", nor with its last two dimensions transposed" : "");
}

/* The shape has been checked: no product overflows. */
static void add_range(checker *c, const char *name, const void *data, int64_t bytes,
                      bool is_written) {
    if (data && bytes > 0)
        c->range[c->ranges++] =
            (range){name, (uintptr_t)data, (uintptr_t)data + (uintptr_t)bytes, is_written};
}

static moe_status check_view(checker *c, const char *name, const moe_view *v,
                             const moe_tensor *want, bool turned, bool is_written) {
    const bool has_memory = c->kind != MOE_INT_CALL_SIZE;
    moe_status status = check_shape(c, name, v, want);
    if (!status && has_memory)
        status = check_place(c, name, v);
    if (!status)
        status = check_order(c, name, v, turned);
    if (status)
        return status;
    if (has_memory && (uintptr_t)v->data % (uintptr_t)c->op->support.alignment)
        return moe_fail(c->log, MOE_E_INVALID, "%s is not aligned to %d bytes", name,
                        (int)c->op->support.alignment);
    if (has_memory)
        add_range(c, name, v->data,
                  moe_tensor_count(want) * (int64_t)moe_dtype_size((moe_dtype)v->dtype),
                  is_written);
    return MOE_OK;
}

/* ---- which dtype a tensor may have ---- */

static bool dtype_fits(const checker *c, moe_tensor_id id, int32_t dtype) {
    const moe_operator *op = c->op;
    const bool free_dtype = op->support.free_dtypes && is_floating(dtype);
    const bool own = dtype == op->use.dtype;
    if (moe_tensor_param_of(id) != MOE_T_COUNT || id == MOE_T_B_SELECT)
        return own || dtype == MOE_F32 || (free_dtype && id != MOE_T_B_SELECT);
    switch ((int)id) {
    case MOE_T_O:
    case MOE_T_DX:
        return own || free_dtype;
    case MOE_T_S:
        return dtype == MOE_F32 || free_dtype || (own && op->use.routed == MOE_ROUTED_BY_CALLER);
    case MOE_T_LOGITS:
    case MOE_T_DS:
        return dtype == MOE_F32 || free_dtype;
    default:
        return own;
    }
}

/* ---- which tensors a call has ---- */

typedef enum need { UNUSED, OPTIONAL, REQUIRED } need;

static need need_of(const checker *c, moe_tensor_id id, bool *is_written) {
    const bool forward = c->kind == MOE_INT_CALL_FORWARD, back = c->kind == MOE_INT_CALL_BACKWARD;
    const bool by_caller = c->op->use.routed == MOE_ROUTED_BY_CALLER;
    const moe_tensor_role role = moe_tensor_role_of(id);
    *is_written = role != MOE_ROLE_INPUT && role != MOE_ROLE_PARAM;
    if (id == MOE_T_S && by_caller) {
        *is_written = false;
        return forward || back ? REQUIRED : UNUSED;
    }
    if (!moe_tensor_exists(&c->op->desc, id, by_caller))
        return UNUSED;
    if (role == MOE_ROLE_PARAM)
        return REQUIRED;
    if (id == MOE_T_S || id == MOE_T_LOGITS)
        return forward ? OPTIONAL : UNUSED;
    if (id == MOE_T_X)
        return forward || back ? REQUIRED : UNUSED;
    if (id == MOE_T_DO)
        return back ? REQUIRED : UNUSED;
    if (id == MOE_T_O)
        return forward ? REQUIRED : UNUSED;
    return back && role == MOE_ROLE_BACKWARD ? OPTIONAL : UNUSED;
}

static void shape_of(const checker *c, moe_tensor_id id, moe_tensor *ret) {
    const int64_t T =
        c->kind == MOE_INT_CALL_FORWARD || c->kind == MOE_INT_CALL_BACKWARD ? c->call->tokens : 1;
    moe_tensor_shape(&c->op->desc, id, T, 0, 0, ret);
    if (id == MOE_T_S || id == MOE_T_DS) {
        ret->ndim = 2;
        ret->shape[0] = T;
        ret->shape[1] = c->call->columns;
    }
}

static moe_status check_tensor(checker *c, moe_tensor_id id) {
    const moe_view *v = &c->call->t[id];
    const char *name = moe_tensor_name(id);
    bool is_written;
    moe_tensor want = {0};
    const need needed = need_of(c, id, &is_written);
    c->ret->t[id] = (moe_view){.data = NULL};
    const bool absent = !v->data && c->kind != MOE_INT_CALL_SIZE;
    if (needed == UNUSED || (needed == OPTIONAL && absent))
        return MOE_OK;
    if (absent)
        return moe_fail(c->log, MOE_E_INVALID, "%s is missing", name);
    if (!dtype_fits(c, id, v->dtype))
        return moe_fail(c->log, MOE_E_INVALID, "%s is %s, which an operator of %s does not take",
                        name, dtype_name(v->dtype), dtype_name(c->op->use.dtype));
    shape_of(c, id, &want);
    moe_status status = check_view(c, name, v, &want, moe_int_is_weight(id), is_written);
    if (!status)
        c->ret->t[id] = *v;
    return status;
}

static moe_status check_index(checker *c) {
    const moe_view *v = &c->call->index;
    const bool by_caller = c->op->use.routed == MOE_ROUTED_BY_CALLER;
    const moe_tensor want = {.ndim = 2, .shape = {c->call->tokens, c->call->columns}};
    c->ret->index = (moe_view){.data = NULL};
    if (!by_caller && (!v->data || c->kind == MOE_INT_CALL_BACKWARD))
        return MOE_OK;
    if (!v->data)
        return moe_fail(c->log, MOE_E_INVALID, "index is missing");
    if (v->dtype != MOE_I32 && !(v->dtype == MOE_I64 && by_caller))
        return moe_fail(c->log, MOE_E_INVALID, "index is %s, not %s", dtype_name(v->dtype),
                        by_caller ? "i32 or i64" : "i32");
    moe_status status = check_view(c, "index", v, &want, false, !by_caller);
    if (!status)
        c->ret->index = *v;
    return status;
}

static moe_status check_numbers(const checker *c) {
    const moe_call *call = c->call;
    const int64_t experts = c->op->desc.E + c->op->desc.n_zero;
    moe_status status = moe_layer_desc_check(&c->op->desc, call->tokens, c->log);
    if (status)
        return status;
    if (call->columns < 1 || call->columns > experts)
        return moe_fail(c->log, MOE_E_INVALID, "%lld columns of index for %lld experts",
                        (long long)call->columns, (long long)experts);
    if (call->beta != 0 && call->beta != 1)
        return moe_fail(c->log, MOE_E_INVALID, "beta is %d, neither 0 nor 1", call->beta);
    if (call->unused != 0)
        return moe_fail(c->log, MOE_E_INVALID, "call.unused = %d is not 0", call->unused);
    return MOE_OK;
}

/* Reading the same memory twice is all right. */
static moe_status check_overlap(checker *c) {
    const moe_call *call = c->call;
    const bool forward = c->kind == MOE_INT_CALL_FORWARD, back = c->kind == MOE_INT_CALL_BACKWARD;
    if (forward || back) {
        add_range(c, "cached", call->cached, call->cached_bytes, forward);
        add_range(c, "workspace", call->workspace, call->workspace_bytes, true);
    }
    add_range(c, "converted", call->converted, call->converted_bytes,
              c->kind == MOE_INT_CALL_CONVERT);
    for (int i = 0; i < c->ranges; i++)
        for (int k = i + 1; k < c->ranges; k++) {
            const range *a = &c->range[i], *b = &c->range[k];
            if ((a->is_written || b->is_written) && a->first < b->end && b->first < a->end)
                return moe_fail(c->log, MOE_E_INVALID, "%s and %s overlap", a->name, b->name);
        }
    return MOE_OK;
}

moe_status moe_int_operator_check(const moe_operator *op, moe_int_call_kind kind,
                                  const moe_call *call, const moe_log *log, moe_call *ret) {
    checker c = {.op = op, .kind = kind, .call = call, .log = log, .ret = ret};
    const bool pass = kind == MOE_INT_CALL_FORWARD || kind == MOE_INT_CALL_BACKWARD;
    *ret = *call;
    ret->log = log;
    moe_status status = pass ? check_numbers(&c) : MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        status = check_tensor(&c, (moe_tensor_id)id);
    if (!status && pass)
        status = check_index(&c);
    if (!status && kind != MOE_INT_CALL_SIZE)
        status = check_overlap(&c);
    return status;
}
