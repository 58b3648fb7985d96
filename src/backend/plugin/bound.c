/* A layer of the table that runs operators: what a classic layer is given becomes a call. Canaries
 * and inputs are looked at when the first result of a pass is fetched, so that passes can be timed
 * but for the poison. */
#include "backend/plugin/bound.h"
#include "backend/plugin/bound_memory.h"
#include "moeref/operator.h"

#include <stdlib.h>
#include <string.h>

typedef struct device {
    moe_int_caller *caller; /* faults go there */
    const moe_plugin *inner;
    void *plugged; /* the inner plug-in's device */
    const moe_log *log;
    char variant[64]; /* the inner plug-in's; it may keep the address */
    bool turned, wide, adds;
} device;

/* Buffers of a call: tensors by id, then the others. */
enum { INDEX = MOE_T_COUNT, CACHED, WORKSPACE, CONVERTED, BUFFERS };

typedef struct layer {
    device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
    moe_operator_support support;
    moe_operator_sizes sizes;
    moe_int_place at;
    moe_int_bound_buffer buffer[BUFFERS];
    void *given[MOE_T_COUNT + 1]; /* what was uploaded of inputs, to compare */
    moe_call call;
    moe_plan *plan;         /* the router's, as told */
    const moe_plan *routed; /* the plan in force */
    bool is_looked_at;      /* since the last pass */
} layer;

static const char *buffer_name(int id) {
    static const char *const others[] = {"index", "cached", "workspace", "converted"};
    return id < MOE_T_COUNT ? moe_tensor_name((moe_tensor_id)id) : others[id - MOE_T_COUNT];
}

/* ---- the device ---- */

static const char word[] = "bound";

bool moe_int_is_bound(const char *variant) {
    const size_t length = sizeof word - 1;
    return strncmp(variant, word, length) == 0 &&
           (variant[length] == '\0' || variant[length] == '+' || variant[length] == '.');
}

static moe_status take_words(const char *variant, device *dev, const moe_log *log) {
    struct {
        const char *name;
        bool *flag;
    } known[] = {{"+turned", &dev->turned}, {"+fp32", &dev->wide}, {"+add", &dev->adds}};
    const char *at = variant + sizeof word - 1;
    for (size_t i = 0; *at == '+' && i < sizeof known / sizeof *known; i++) {
        const size_t length = strlen(known[i].name);
        if (strncmp(at, known[i].name, length) == 0) {
            *known[i].flag = true;
            at += length;
        }
    }
    if (*at && *at != '.')
        return moe_fail(log, MOE_E_NOTFOUND,
                        "variant '%s': after 'bound' come '+turned', '+fp32', '+add', in this "
                        "order, and '.' with a variant of the backend",
                        variant);
    snprintf(dev->variant, sizeof dev->variant, "%s", *at ? at + 1 : "");
    return MOE_OK;
}

static void close_device(void *self) {
    device *dev = self;
    dev->inner->close(dev->plugged);
    free(dev);
}

static moe_status supports(void *self, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    const device *dev = self;
    moe_operator_support support = {0};
    const moe_operator_use wanted = {
        .dtype = use->dtype,
        .pass = use->pass & MOE_PASS_BWD ? MOE_PASS_BOTH : MOE_PASS_FWD,
        .routed = use->plan_given ? MOE_ROUTED_BY_CALLER : MOE_ROUTED_BY_LAYER};
    moe_status status = dev->inner->operators->supports(dev->plugged, desc, &wanted, &support);
    ret->arithmetic = support.arithmetic;
    ret->deterministic = support.deterministic;
    snprintf(ret->reason, sizeof ret->reason, "%s", support.reason);
    return status;
}

/* ---- views ---- */

static bool is_weight(moe_tensor_id id) {
    const moe_tensor_id param = moe_tensor_param_of(id);
    switch ((int)(param == MOE_T_COUNT ? id : param)) {
    case MOE_T_W1:
    case MOE_T_W2:
    case MOE_T_W1_SHARED:
    case MOE_T_W2_SHARED:
        return true;
    default:
        return false;
    }
}

static moe_dtype dtype_of(const layer *l, moe_tensor_id id) {
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
static moe_view shape_view(const layer *l, moe_tensor_id id) {
    moe_tensor t = {.dtype = dtype_of(l, id)};
    moe_tensor_shape(&l->desc, id, l->call.tokens, 0, 0, &t);
    if (id == MOE_T_S || id == MOE_T_DS)
        t = (moe_tensor){.dtype = t.dtype, .ndim = 2, .shape = {l->call.tokens, l->call.columns}};
    moe_view v = moe_view_of(&t);
    if (l->dev->turned && is_weight(id)) {
        v.stride[v.ndim - 1] = v.shape[v.ndim - 2];
        v.stride[v.ndim - 2] = 1;
    }
    v.place = l->at.place;
    v.device_index = l->at.device_index;
    return v;
}

static int64_t bytes_of(const moe_view *v) {
    int64_t bytes = (int64_t)moe_dtype_size((moe_dtype)v->dtype);
    for (int i = 0; i < v->ndim; i++)
        bytes *= v->shape[i];
    return bytes;
}

static moe_status bind_tensor(layer *l, moe_tensor_id id) {
    moe_view v = shape_view(l, id);
    moe_status status = moe_int_bound_alloc(&l->at, bytes_of(&v), &l->buffer[id]);
    v.data = moe_int_bound_data(&l->buffer[id]);
    l->call.t[id] = v;
    return status;
}

/* An input: uploaded in the view's order, and kept to be compared. */
static moe_status upload(layer *l, int id, const moe_view *v, const moe_tensor *src) {
    free(l->given[id]);
    l->given[id] = malloc((size_t)l->buffer[id].bytes);
    if (!l->given[id])
        return moe_fail(l->dev->log, MOE_E_NOMEM, "no memory for %s", buffer_name(id));
    moe_view host = *v;
    host.data = l->given[id];
    moe_view_write(&host, src, 0);
    return moe_int_bound_upload(&l->at, &l->buffer[id], host.data);
}

/* ---- prepare and release ---- */

static moe_status bind_parameters(layer *l, const moe_tensors *params) {
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

static moe_status convert(layer *l) {
    const int64_t bytes = l->at.slots->converted_bytes(l->at.op, &l->call);
    moe_status status = moe_int_bound_alloc(&l->at, bytes, &l->buffer[CONVERTED]);
    l->call.converted = moe_int_bound_data(&l->buffer[CONVERTED]);
    l->call.converted_bytes = bytes;
    return status || !bytes ? status : l->at.slots->convert(l->at.op, &l->call);
}

static void release(void *self) {
    layer *l = self;
    for (int i = 0; l->at.op && i < BUFFERS; i++)
        moe_int_bound_free(&l->at, &l->buffer[i]);
    for (int i = 0; i <= INDEX; i++)
        free(l->given[i]);
    if (l->at.op)
        l->at.slots->close(l->at.op);
    moe_plan_destroy(&l->plan);
    free(l);
}

static moe_status open_operator(layer *l) {
    const device *dev = l->dev;
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

static moe_status prepare(void *self, const moe_layer_desc *desc, const moe_use *use,
                          const moe_tensors *params, void **ret) {
    device *dev = self;
    layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(dev->log, MOE_E_NOMEM, "no memory for a layer");
    l->dev = dev;
    l->desc = *desc;
    l->use =
        (moe_operator_use){.dtype = use->dtype,
                           .pass = use->pass & MOE_PASS_BWD ? MOE_PASS_BOTH : MOE_PASS_FWD,
                           .routed = use->plan_given ? MOE_ROUTED_BY_CALLER : MOE_ROUTED_BY_LAYER};
    l->call.tokens = use->tokens;
    l->call.log = dev->log;
    l->call.beta = dev->adds;
    moe_status status = open_operator(l);
    if (!status)
        status = bind_parameters(l, params);
    if (!status)
        status = convert(l);
    if (status)
        release(l);
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

static moe_status bind_memory(layer *l) {
    const moe_operator_sizes *s = &l->sizes;
    const int64_t scratch = s->forward > s->backward ? s->forward : s->backward;
    moe_status status = moe_int_bound_alloc(&l->at, s->cached, &l->buffer[CACHED]);
    if (!status)
        status = moe_int_bound_alloc(&l->at, scratch, &l->buffer[WORKSPACE]);
    l->call.cached = moe_int_bound_data(&l->buffer[CACHED]);
    l->call.cached_bytes = s->cached;
    l->call.workspace = moe_int_bound_data(&l->buffer[WORKSPACE]);
    l->call.workspace_bytes = scratch;
    return status;
}

/* What a pass may write, H, Y and the like left aside. */
static bool is_result(const layer *l, moe_tensor_id id) {
    const bool by_layer = l->use.routed == MOE_ROUTED_BY_LAYER;
    const moe_tensor_role role = moe_tensor_role_of(id);
    if (id == MOE_T_S || id == MOE_T_LOGITS)
        return by_layer;
    if (!moe_tensor_exists(&l->desc, id, !by_layer))
        return false;
    return role == MOE_ROLE_FORWARD || (role == MOE_ROLE_BACKWARD && l->use.pass != MOE_PASS_FWD);
}

static moe_status bind_results(layer *l) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (is_result(l, (moe_tensor_id)id))
            status = bind_tensor(l, (moe_tensor_id)id);
    return status;
}

static moe_status bind_index(layer *l) {
    const moe_tensor t = {.dtype = MOE_I32, .ndim = 2, .shape = {l->call.tokens, l->call.columns}};
    moe_view v = moe_view_of(&t);
    v.place = l->at.place;
    v.device_index = l->at.device_index;
    moe_status status = moe_int_bound_alloc(&l->at, bytes_of(&v), &l->buffer[INDEX]);
    v.data = moe_int_bound_data(&l->buffer[INDEX]);
    l->call.index = v;
    return status;
}

/* The given plan as slots, uploaded. */
static moe_status upload_plan(layer *l, const moe_plan *plan) {
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
        status = upload(l, INDEX, &l->call.index, &index);
    if (!status)
        status = upload(l, MOE_T_S, &l->call.t[MOE_T_S], &values);
    moe_tensor_destroy(&index);
    moe_tensor_destroy(&values);
    return status;
}

static moe_status upload_activation(layer *l, moe_tensor_id id, const moe_tensor *src) {
    if (!src->data)
        return MOE_OK;
    moe_status status = bind_tensor(l, id);
    return status ? status : upload(l, id, &l->call.t[id], src);
}

static moe_status set_input(void *self, const moe_input *input) {
    layer *l = self;
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

/* ---- passes ---- */

static moe_status poison(const layer *l, bool backward) {
    const int byte = 0xff; /* NaN in every floating type */
    moe_status status = moe_int_bound_fill(&l->at, &l->buffer[WORKSPACE], byte);
    if (!status && !backward)
        status = moe_int_bound_fill(&l->at, &l->buffer[CACHED], byte);
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        const bool is_gradient = moe_tensor_is_backward((moe_tensor_id)id);
        const bool is_added = l->call.beta && moe_tensor_param_of((moe_tensor_id)id) != MOE_T_COUNT;
        if (is_result(l, (moe_tensor_id)id) && is_gradient == backward)
            status = moe_int_bound_fill(&l->at, &l->buffer[id], is_added ? 0 : byte);
    }
    if (!status && !backward && l->use.routed == MOE_ROUTED_BY_LAYER)
        status = moe_int_bound_fill(&l->at, &l->buffer[INDEX], byte);
    return status;
}

/* As the front end would hand it over: a pass sees only its own tensors. */
static moe_call call_of(const layer *l, bool backward) {
    moe_call call = l->call;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const bool is_made = is_result(l, (moe_tensor_id)id);
        const bool is_other = is_made && moe_tensor_is_backward((moe_tensor_id)id) != backward;
        if (is_other || (id == MOE_T_DO && !backward))
            call.t[id].data = NULL;
    }
    if (backward && l->use.routed == MOE_ROUTED_BY_LAYER)
        call.index.data = NULL;
    return call;
}

static moe_status forward(void *self) {
    layer *l = self;
    moe_status status = poison(l, false);
    l->is_looked_at = false;
    if (!l->call.t[MOE_T_X].data)
        return moe_fail(l->dev->log, MOE_E_INVALID, "forward before any input was set");
    const moe_call call = call_of(l, false);
    return status ? status : l->at.slots->forward(l->at.op, &call);
}

static moe_status backward(void *self) {
    layer *l = self;
    moe_status status = poison(l, true);
    l->is_looked_at = false;
    const moe_call call = call_of(l, true);
    return status ? status : l->at.slots->backward(l->at.op, &call);
}

static moe_status compare_input(const layer *l, int id) {
    if (!l->given[id])
        return MOE_OK;
    void *now = malloc((size_t)l->buffer[id].bytes);
    if (!now)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "no memory to look at %s", buffer_name(id));
    moe_status status = moe_int_bound_download(&l->at, &l->buffer[id], now);
    if (!status && memcmp(now, l->given[id], (size_t)l->buffer[id].bytes) != 0)
        status = moe_int_caller_fault(l->dev->caller, "the operator changed its input %s",
                                      buffer_name(id));
    free(now);
    return status;
}

/* Canaries of everything, and inputs, once after each pass. The copies wait for it. */
static moe_status look(layer *l) {
    moe_status status = MOE_OK;
    for (int i = 0; !l->is_looked_at && !status && i < BUFFERS; i++) {
        const char *broken;
        status = moe_int_bound_look(&l->at, &l->buffer[i], &broken);
        if (!status && broken)
            status = moe_int_caller_fault(l->dev->caller, "the operator wrote %s the memory of %s",
                                          broken, buffer_name(i));
        if (!status && i <= INDEX)
            status = compare_input(l, i);
    }
    l->is_looked_at = true;
    return status;
}

/* ---- results ---- */

/* *ret: the view with a copy of its memory in the host's, which the caller frees. */
static moe_status download(const layer *l, int id, const moe_view *v, moe_view *ret) {
    *ret = *v;
    ret->data = malloc(l->buffer[id].bytes ? (size_t)l->buffer[id].bytes : 1);
    if (!ret->data)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "no memory for %s", buffer_name(id));
    return moe_int_bound_download(&l->at, &l->buffer[id], ret->data);
}

static moe_status routing(void *self, const moe_plan **ret) {
    layer *l = self;
    moe_view index = {.data = NULL}, weight = {.data = NULL};
    moe_status status = look(l);
    if (!status)
        status = download(l, INDEX, &l->call.index, &index);
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

static moe_status fetch_pairs(layer *l, const moe_view *values, moe_tensor *dst) {
    const moe_plan *plan = l->routed;
    moe_view index;
    moe_status status = plan ? MOE_OK : routing(l, &plan);
    if (status)
        return status;
    status = download(l, INDEX, &l->call.index, &index);
    if (!status)
        status = moe_plan_take_slots(plan, &index, values, dst, l->dev->log);
    free(index.data);
    return status;
}

static moe_status fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    layer *l = self;
    const bool is_given = id == MOE_T_S && l->use.routed == MOE_ROUTED_BY_CALLER;
    moe_view v;
    moe_status status = look(l);
    if (!status && !is_given && !is_result(l, id))
        return MOE_E_UNSUPPORTED; /* a stage: no operator gives any */
    if (status)
        return status;
    status = download(l, id, &l->call.t[id], &v);
    if (!status && (id == MOE_T_S || id == MOE_T_DS))
        status = fetch_pairs(l, &v, dst);
    else if (!status)
        moe_view_read(&v, dst);
    free(v.data);
    return status;
}

static size_t timings(void *self, moe_cost *ret, size_t capacity) {
    (void)self;
    (void)ret;
    (void)capacity;
    return 0;
}

static moe_status memory(void *self, moe_memory *ret) {
    const layer *l = self;
    const int64_t scratch = l->buffer[WORKSPACE].bytes;
    ret->weights = l->buffer[CONVERTED].bytes;
    ret->cached = l->sizes.cached;
    ret->peak = l->sizes.cached + scratch;
    return MOE_OK;
}

static moe_status roofline(void *self, moe_roofline *ret) {
    const device *dev = self;
    return dev->inner->roofline ? dev->inner->roofline(dev->plugged, ret) : MOE_E_UNSUPPORTED;
}

static moe_status board(void *self, moe_board *ret) {
    const device *dev = self;
    return dev->inner->board ? dev->inner->board(dev->plugged, ret) : MOE_E_UNSUPPORTED;
}

static const moe_plugin bound_table = {
    .abi = MOE_PLUGIN_ABI,
    .name = "bound",
    .brief = "the operators of another plug-in",
    .close = close_device,
    .supports = supports,
    .prepare = prepare,
    .release = release,
    .set_input = set_input,
    .forward = forward,
    .backward = backward,
    .fetch = fetch,
    .routing = routing,
    .timings = timings,
    .memory = memory,
    .roofline = roofline,
    .board = board,
};

moe_status moe_int_bound_open(moe_int_caller *c, const moe_open_params *params, void **ret) {
    const moe_plugin *inner = c->plugin;
    if (inner->abi < 3 || !inner->operators)
        return moe_fail(params->log, MOE_E_UNSUPPORTED,
                        "%s has no operators (interface 3), so there is no ':bound' of it",
                        inner->name);
    device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "no memory for a device");
    dev->caller = c;
    dev->inner = inner;
    dev->log = params->log;
    moe_open_params own = *params;
    moe_status status = take_words(params->variant, dev, params->log);
    own.variant = dev->variant;
    if (!status)
        status = inner->open(&own, &dev->plugged);
    if (status) {
        free(dev);
        return status;
    }
    c->plugin = &bound_table;
    *ret = dev;
    return MOE_OK;
}
