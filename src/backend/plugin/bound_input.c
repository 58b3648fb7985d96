/* What a layer is given becomes a call: parameters, memory, results and inputs, each between
 * canaries in the operator's place. */
#include "backend/plugin/bound_layer.h"
#include "layer/traits.h"

#include <stdlib.h>
#include <string.h>

const char *moe_int_bound_name(int id) {
    static const char *const others[] = {"index", "cached", "workspace", "converted"};
    return id < MOE_T_COUNT ? moe_tensor_name((moe_tensor_id)id) : others[id - MOE_T_COUNT];
}

moe_operator_use moe_int_bound_use(const moe_use *use) {
    return (moe_operator_use){.dtype = use->dtype,
                              .pass = use->pass & MOE_PASS_BWD ? MOE_PASS_BOTH : MOE_PASS_FWD,
                              .routed =
                                  use->plan_given ? MOE_ROUTED_BY_CALLER : MOE_ROUTED_BY_LAYER};
}

bool moe_int_bound_is_result(const moe_int_bound_layer *l, moe_tensor_id id) {
    const bool by_layer = l->use.routed == MOE_ROUTED_BY_LAYER;
    const moe_tensor_role role = moe_tensor_role_of(id);
    if (id == MOE_T_S || id == MOE_T_LOGITS)
        return by_layer;
    if (!moe_tensor_exists(&l->desc, id, !by_layer))
        return false;
    return role == MOE_ROLE_FORWARD || (role == MOE_ROLE_BACKWARD && l->use.pass != MOE_PASS_FWD);
}

/* ---- views ---- */

static moe_dtype dtype_of(const moe_int_bound_layer *l, moe_tensor_id id) {
    const moe_dtype arithmetic = (moe_dtype)l->support.arithmetic;
    const moe_tensor_role role = moe_tensor_role_of(id);
    if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM)
        return (moe_dtype)l->use.dtype;
    if (id == MOE_T_S || id == MOE_T_DS || id == MOE_T_LOGITS)
        return arithmetic == MOE_F64 ? MOE_F64 : MOE_F32;
    if (moe_tensor_param_of(id) != MOE_T_COUNT && l->dev->wide && arithmetic != MOE_F64)
        return MOE_F32;
    return arithmetic;
}

/* The view of a tensor of this call without its memory. */
static moe_view shape_view(const moe_int_bound_layer *l, moe_tensor_id id) {
    moe_tensor t = {.dtype = dtype_of(l, id)};
    moe_tensor_shape(&l->desc, id, l->call.tokens, 0, 0, &t);
    if (id == MOE_T_S || id == MOE_T_DS)
        t = (moe_tensor){.dtype = t.dtype, .ndim = 2, .shape = {l->call.tokens, l->call.columns}};
    moe_view v = moe_view_of(&t);
    if (l->dev->turned && moe_int_is_weight(id)) {
        v.stride[v.ndim - 1] = v.shape[v.ndim - 2];
        v.stride[v.ndim - 2] = 1;
    }
    v.place = l->at.place;
    v.device_index = l->at.device_index;
    return v;
}

bool moe_int_bound_lies_as(const moe_view *view, moe_dtype dtype) {
    moe_tensor t = {.dtype = dtype, .ndim = view->ndim};
    memcpy(t.shape, view->shape, sizeof t.shape);
    const moe_view plain = moe_view_of(&t);
    bool same = view->dtype == plain.dtype;
    for (int i = 0; i < view->ndim; i++)
        same = same && (view->shape[i] == 1 || view->stride[i] == plain.stride[i]);
    return same;
}

static int64_t bytes_of(const moe_view *v) {
    int64_t bytes = (int64_t)moe_dtype_size((moe_dtype)v->dtype);
    for (int i = 0; i < v->ndim; i++)
        bytes *= v->shape[i];
    return bytes;
}

static moe_status bind_tensor(moe_int_bound_layer *l, moe_tensor_id id) {
    moe_view v = shape_view(l, id);
    moe_status status = moe_int_bound_alloc(&l->at, bytes_of(&v), &l->buffer[id]);
    v.data = moe_int_bound_data(&l->buffer[id]);
    l->call.t[id] = v;
    return status;
}

/* An input: uploaded in the view's order. A copy is made of what lies in another. */
static moe_status upload(moe_int_bound_layer *l, int id, const moe_view *v, const moe_tensor *src) {
    const bool as_it_lies = moe_int_bound_lies_as(v, src->dtype);
    moe_view host = *v;
    host.data = as_it_lies ? src->data : malloc((size_t)l->buffer[id].bytes);
    if (!host.data)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "no memory for %s", moe_int_bound_name(id));
    if (!as_it_lies)
        moe_view_write(&host, src, 0);
    l->is_given[id] = true;
    moe_status status = moe_int_bound_upload(&l->at, &l->buffer[id], host.data, &l->given[id]);
    if (!as_it_lies)
        free(host.data);
    return status;
}

/* ---- prepare and release ---- */

static moe_status bind_parameters(moe_int_bound_layer *l, const moe_tensors *params) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        if (!params->t[id].data)
            continue;
        status = bind_tensor(l, (moe_tensor_id)id);
        if (!status)
            status = upload(l, id, &l->call.t[id], &params->t[id]);
    }
    return status;
}

static moe_status convert(moe_int_bound_layer *l) {
    const int64_t bytes = l->at.slots->converted_bytes(l->at.op, &l->call);
    moe_status status = moe_int_bound_alloc(&l->at, bytes, &l->buffer[MOE_INT_BOUND_CONVERTED]);
    l->call.converted = moe_int_bound_data(&l->buffer[MOE_INT_BOUND_CONVERTED]);
    l->call.converted_bytes = bytes;
    return status || !bytes ? status : l->at.slots->convert(l->at.op, &l->call);
}

void moe_int_bound_release(void *self) {
    moe_int_bound_layer *l = self;
    for (int i = 0; l->at.op && i < MOE_INT_BOUND_BUFFERS; i++)
        moe_int_bound_free(&l->at, &l->buffer[i]);
    if (l->at.op)
        l->at.slots->close(l->at.op);
    moe_plan_destroy(&l->plan);
    free(l);
}

static moe_status open_operator(moe_int_bound_layer *l) {
    const moe_int_bound_device *dev = l->dev;
    const moe_operator_slots *slots = dev->inner->operators;
    moe_status status = slots->supports(dev->plugged, &l->desc, &l->use, &l->support);
    if (!status)
        status = slots->open(dev->plugged, &l->desc, &l->use, &l->at.op);
    l->at.slots = slots;
    l->at.place = l->support.place;
    l->at.device_index = l->support.device_index;
    l->at.log = dev->log;
    return status;
}

moe_status moe_int_bound_prepare(void *self, const moe_layer_desc *desc, const moe_use *use,
                                 const moe_tensors *params, void **ret) {
    moe_int_bound_device *dev = self;
    moe_int_bound_layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(dev->log, MOE_E_NOMEM, "no memory for a layer");
    l->dev = dev;
    l->desc = *desc;
    l->use = moe_int_bound_use(use);
    l->call.tokens = use->tokens;
    l->call.log = dev->log;
    l->call.beta = dev->adds;
    moe_status status = open_operator(l);
    if (!status)
        status = bind_parameters(l, params);
    if (!status)
        status = convert(l);
    if (status)
        moe_int_bound_release(l);
    else
        *ret = l;
    return status;
}

/* ---- input ---- */

static int64_t most_slots(const moe_plan *plan) {
    int64_t most = 1;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const int64_t pairs = plan->token_offsets[t + 1] - plan->token_offsets[t];
        most = pairs > most ? pairs : most;
    }
    return most;
}

static moe_status bind_memory(moe_int_bound_layer *l) {
    const moe_operator_sizes *s = &l->sizes;
    const int64_t scratch = s->forward > s->backward ? s->forward : s->backward;
    moe_status status = moe_int_bound_alloc(&l->at, s->cached, &l->buffer[MOE_INT_BOUND_CACHED]);
    if (!status)
        status = moe_int_bound_alloc(&l->at, scratch, &l->buffer[MOE_INT_BOUND_WORKSPACE]);
    l->call.cached = moe_int_bound_data(&l->buffer[MOE_INT_BOUND_CACHED]);
    l->call.cached_bytes = s->cached;
    l->call.workspace = moe_int_bound_data(&l->buffer[MOE_INT_BOUND_WORKSPACE]);
    l->call.workspace_bytes = scratch;
    return status;
}

static moe_status bind_results(moe_int_bound_layer *l) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (moe_int_bound_is_result(l, (moe_tensor_id)id))
            status = bind_tensor(l, (moe_tensor_id)id);
    return status;
}

static moe_status bind_index(moe_int_bound_layer *l) {
    const moe_tensor t = {.dtype = MOE_I32, .ndim = 2, .shape = {l->call.tokens, l->call.columns}};
    moe_view v = moe_view_of(&t);
    v.place = l->at.place;
    v.device_index = l->at.device_index;
    moe_status status = moe_int_bound_alloc(&l->at, bytes_of(&v), &l->buffer[MOE_INT_BOUND_INDEX]);
    v.data = moe_int_bound_data(&l->buffer[MOE_INT_BOUND_INDEX]);
    l->call.index = v;
    return status;
}

/* The given plan as slots, uploaded. */
static moe_status upload_plan(moe_int_bound_layer *l, const moe_plan *plan) {
    const int64_t slots = l->call.tokens * l->call.columns;
    const moe_tensor weight = {plan->weight, MOE_F64, 1, {plan->n_pairs}};
    moe_tensor index = {0}, values = {0};
    moe_status status = moe_tensor_alloc(MOE_I32, 1, &slots, &index);
    if (!status)
        status = moe_tensor_alloc(dtype_of(l, MOE_T_S), 1, &slots, &values);
    if (!status)
        status = bind_tensor(l, MOE_T_S);
    moe_view to = l->call.index, s = l->call.t[MOE_T_S];
    to.data = index.data;
    s.data = values.data;
    if (!status)
        status = moe_plan_index_slots(plan, &to, l->dev->log);
    if (!status)
        status = moe_plan_fill_slots(plan, NULL, &weight, &s, l->dev->log);
    if (!status)
        status = upload(l, MOE_INT_BOUND_INDEX, &l->call.index, &index);
    if (!status)
        status = upload(l, MOE_T_S, &l->call.t[MOE_T_S], &values);
    moe_tensor_destroy(&index);
    moe_tensor_destroy(&values);
    return status;
}

static moe_status upload_activation(moe_int_bound_layer *l, moe_tensor_id id,
                                    const moe_tensor *src) {
    if (!src->data)
        return MOE_OK;
    moe_status status = bind_tensor(l, id);
    return status ? status : upload(l, id, &l->call.t[id], src);
}

moe_status moe_int_bound_set_input(void *self, const moe_input *input) {
    moe_int_bound_layer *l = self;
    l->routed = input->plan;
    l->call.seed = input->seed;
    const int64_t asked = input->plan ? most_slots(input->plan) : 0;
    moe_status status = l->at.slots->sizes(l->at.op, l->call.tokens, asked, &l->sizes, l->dev->log);
    if (status)
        return status;
    l->call.columns = l->sizes.columns;
    status = bind_memory(l);
    if (!status)
        status = bind_results(l);
    if (!status)
        status = bind_index(l);
    if (!status)
        status = upload_activation(l, MOE_T_X, &input->X);
    if (!status)
        status = upload_activation(l, MOE_T_DO, &input->dO);
    return status || !input->plan ? status : upload_plan(l, input->plan);
}
