/* case.safetensors: inputs, and results that the family's own code computed. */
#include "hf/hf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRADIENTS  MOE_INT_HF_GRADIENTS
#define ROUTER_OUT MOE_INT_HF_ROUTER_OUT

/* [T][d], T taken from hidden_states. */
static moe_tensor token_shape(int64_t tokens, int64_t width) {
    return (moe_tensor){.ndim = 2, .shape = {tokens, width}};
}

static bool has(const moe_safetensors *file, const char *name) {
    moe_tensor t;
    return moe_safetensors_get(file, name, &t) != MOE_E_NOTFOUND;
}

moe_status moe_int_hf_case_open(const char *path, const moe_int_hf_config *config,
                                const moe_log *log, moe_int_hf_case *ret) {
    moe_int_hf_case c = {.path = path};
    moe_status status = moe_safetensors_open(path, log, &c.file);
    if (status)
        return status;
    moe_tensor x = {0};
    if (moe_safetensors_get(c.file, "hidden_states", &x) || x.ndim != 2)
        status =
            moe_fail(log, MOE_E_FORMAT, "%s has no floating tensor hidden_states [T, d]", path);
    moe_tensor shape = token_shape(x.shape[0], config->layer.d);
    if (!status)
        status = moe_int_hf_get(c.file, path, "hidden_states", &shape, log, &c.X);
    if (!status && has(c.file, "grad_output"))
        status = moe_int_hf_get(c.file, path, "grad_output", &shape, log, &c.dO);
    if (status)
        moe_safetensors_close(&c.file);
    else
        *ret = c;
    return status;
}

/* A copy in the file's own type. */
static moe_status copy_view(const moe_int_hf_case *c, const moe_tensor *view, moe_tensor_id id,
                            const moe_log *log, moe_problem *p) {
    moe_status status = moe_tensor_cast(view, view->dtype, &p->expected.t[id]);
    return status ? moe_fail(log, status, "%s: cannot allocate %s", c->path, moe_tensor_name(id))
                  : MOE_OK;
}

static moe_status take(const moe_int_hf_case *c, const char *name, moe_tensor_id id,
                       const moe_log *log, moe_problem *p) {
    moe_tensor view, shape = token_shape(p->T, p->layer.d);
    moe_status status = moe_int_hf_get(c->file, c->path, name, &shape, log, &view);
    return status ? status : copy_view(c, &view, id, log, p);
}

static moe_tensor_id gradient_of(moe_tensor_id param) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (moe_tensor_param_of(id) == param)
            return id;
    }
    return MOE_T_COUNT;
}

moe_int_part_source moe_int_hf_gradients(const moe_int_hf_case *c,
                                         const moe_int_hf_config *config) {
    return (moe_int_part_source){.file = c->file,
                                 .path = c->path,
                                 .prefix = GRADIENTS,
                                 .outer = GRADIENTS,
                                 .config = config,
                                 .gradients = true};
}

/* One part of one parameter's gradient, into a tensor of its type and our layout. */
static moe_status take_gradient(const moe_int_part_source *src, moe_int_part part,
                                const moe_log *log, moe_problem *p) {
    moe_tensor_id id = gradient_of(moe_int_part_param(part));
    moe_tensor *dst = &p->expected.t[id];
    moe_dtype dtype = MOE_DTYPE_COUNT;
    moe_status status = moe_int_part_check(src, part, log, &dtype);
    if (!status && !dst->data) {
        moe_tensor shape;
        moe_tensor_shape(&p->layer, id, p->T, 0, 0, &shape);
        status = moe_tensor_alloc(dtype, shape.ndim, shape.shape, dst);
        if (status)
            moe_fail(log, status, "%s: cannot allocate %s", src->path, moe_tensor_name(id));
    }
    return status ? status : moe_int_part_copy(src, part, log, dst);
}

/* True when the file has any part of the parameter's gradient; then all parts must be there. */
static bool has_gradient(const moe_int_part_source *src, moe_tensor_id param) {
    for (int part = 0; part < MOE_INT_PART_COUNT; part++) {
        if (moe_int_part_param(part) == param && moe_int_part_used(src, part) &&
            moe_int_part_present(src, part))
            return true;
    }
    return false;
}

static moe_status take_gradients(const moe_int_hf_case *c, const moe_int_hf_config *config,
                                 const moe_log *log, moe_problem *p) {
    moe_int_part_source src = moe_int_hf_gradients(c, config);
    for (int part = 0; part < MOE_INT_PART_COUNT; part++) {
        if (!moe_int_part_used(&src, part) || !has_gradient(&src, moe_int_part_param(part)))
            continue;
        moe_status status = take_gradient(&src, part, log, p);
        if (status)
            return status;
    }
    return MOE_OK;
}

/* What the router returned, told apart by shape and type; views into the file. */
typedef struct router_out {
    moe_tensor index, weight; /* [T][K] */
    moe_tensor scores;        /* [T][experts], weights that are 0 where an expert is not chosen */
    moe_tensor logits;        /* [T][experts] */
} router_out;

/* Batches of one sequence: [1][T][n] is [T][n]. */
static moe_tensor without_batch(moe_tensor t) {
    if (t.ndim == 3 && t.shape[0] == 1) {
        t.ndim = 2;
        t.shape[0] = t.shape[1];
        t.shape[1] = t.shape[2];
    }
    return t;
}

static bool is_shape(const moe_tensor *t, int64_t rows, int64_t cols) {
    return t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

static moe_tensor *classify(const moe_tensor *t, const moe_int_hf_config *config, int64_t tokens,
                            router_out *out) {
    int64_t experts = config->layer.E + config->layer.n_zero, K = config->layer.K;
    bool real = moe_dtype_roundoff(t->dtype) > 0;
    if (!real && config->family->reports == MOE_INT_REPORTS_ONE_HOT)
        return is_shape(t, tokens, experts) ? &out->index : NULL;
    if (!real)
        return is_shape(t, tokens, K) ? &out->index : NULL;
    if (is_shape(t, tokens, experts))
        return config->family->reports == MOE_INT_REPORTS_DENSE && !out->scores.data ? &out->scores
                                                                                     : &out->logits;
    return is_shape(t, tokens, K) ? &out->weight : NULL;
}

static bool starts_with(const char *name, const char *start) {
    return strncmp(name, start, strlen(start)) == 0;
}

/* In the order of names: Llama 4 returns scores before logits. */
static moe_status find_router_out(const moe_int_hf_case *c, const moe_int_hf_config *config,
                                  int64_t tokens, const moe_log *log, router_out *ret) {
    char shape[96] = "";
    for (size_t i = 0; i < moe_safetensors_count(c->file); i++) {
        const char *name = moe_safetensors_name(c->file, i);
        if (!starts_with(name, ROUTER_OUT))
            continue;
        moe_tensor t;
        moe_status status = moe_safetensors_get(c->file, name, &t);
        t = without_batch(t);
        moe_tensor *slot = status ? NULL : classify(&t, config, tokens, ret);
        if (!slot || slot->data)
            return moe_fail(log, MOE_E_FORMAT,
                            "%s: %s %s is neither logits or scores [T, E] nor weights or indices "
                            "[T, K], or the second of a kind",
                            c->path, name,
                            status ? "" : moe_tensor_shape_str(&t, shape, sizeof shape));
        *slot = t;
    }
    return MOE_OK;
}

/* Pairs of a plan while they are collected from a router's output. */
typedef struct chosen {
    int32_t *token, *expert;
    double *weight;
    int64_t count;
} chosen;

static void choose(chosen *pairs, int64_t token, double expert, double weight) {
    /* Anything outside int32_t becomes -1, which the plan refuses with a sentence. */
    pairs->token[pairs->count] = (int32_t)token;
    pairs->expert[pairs->count] = expert >= 0 && expert < INT32_MAX ? (int32_t)expert : -1;
    pairs->weight[pairs->count] = weight;
    pairs->count++;
}

static void collect_pairs(const router_out *out, double factor, chosen *pairs) {
    const moe_tensor *t = out->index.data ? &out->index : &out->scores;
    int64_t cols = t->shape[1];
    for (int64_t i = 0; i < t->shape[0] * cols; i++) {
        double value = moe_load(t->data, t->dtype, (size_t)i);
        if (out->index.data && cols == out->weight.shape[1])
            choose(pairs, i / cols, value,
                   factor * moe_load(out->weight.data, out->weight.dtype, (size_t)i));
        else if (out->index.data && value != 0) /* one of the token's experts */
            choose(pairs, i / cols, (double)(i % cols),
                   factor * moe_load(out->weight.data, out->weight.dtype, (size_t)(i / cols)));
        else if (!out->index.data && value != 0)
            choose(pairs, i / cols, (double)(i % cols), factor * value);
    }
}

static moe_status take_plan(const router_out *out, double factor, const moe_log *log,
                            moe_problem *p) {
    size_t room = (size_t)moe_tensor_count(out->index.data ? &out->index : &out->scores) + 1;
    chosen pairs = {malloc(room * sizeof(int32_t)), malloc(room * sizeof(int32_t)),
                    malloc(room * sizeof(double)), 0};
    moe_status status;
    if (pairs.token && pairs.expert && pairs.weight) {
        collect_pairs(out, factor, &pairs);
        status = moe_plan_create(p->T, p->layer.E + p->layer.n_zero, pairs.count, pairs.token,
                                 pairs.expert, pairs.weight, log, &p->expected_plan);
    } else {
        status = moe_fail(log, MOE_E_NOMEM, "out of memory for an expected plan");
    }
    free(pairs.token);
    free(pairs.expert);
    free(pairs.weight);
    return status;
}

/* A router that caps its logits hands out c tanh(z / c). Where that is near c, z is lost in the
 * rounding of what was stored: such logits are not compared, the choice and its weights are. */
static moe_status take_logits(const moe_int_hf_case *c, const moe_tensor *view, const moe_log *log,
                              moe_problem *p) {
    /* Of c: there rounding to fp32 costs an NMSE of 3e-14. */
    const double nearest = view->dtype == MOE_F64 ? 1 : 0.95;
    const moe_router_desc *r = &p->layer.router;
    moe_tensor *dst = &p->expected.t[MOE_T_LOGITS];
    if (r->score != MOE_SCORE_SIGMOID_CAP)
        return copy_view(c, view, MOE_T_LOGITS, log, p);
    for (int64_t i = 0; i < moe_tensor_count(view); i++)
        if (fabs(moe_load(view->data, view->dtype, (size_t)i)) >= nearest * r->jitter)
            return MOE_OK;
    moe_status status = moe_tensor_cast(view, MOE_F64, dst);
    double *z = dst->data;
    for (int64_t i = 0; !status && i < moe_tensor_count(view); i++)
        z[i] = r->jitter * atanh(z[i] / r->jitter);
    return status ? moe_fail(log, status, "%s: cannot allocate router_logits", c->path) : MOE_OK;
}

static moe_status take_routing(const moe_int_hf_case *c, const moe_int_hf_config *config,
                               const moe_log *log, moe_problem *p) {
    router_out out = {0};
    moe_status status = find_router_out(c, config, p->T, log, &out);
    if (!status && out.logits.data)
        status = take_logits(c, &out.logits, log, p);
    if (!status && (out.index.data != NULL) != (out.weight.data != NULL))
        status = moe_fail(log, MOE_E_FORMAT, "%s has the router's indices or its weights, not both",
                          c->path);
    if (!status && (out.index.data || out.scores.data))
        status = take_plan(&out, config->weight_factor, log, p);
    return status;
}

bool moe_int_hf_is_gradient(const moe_int_part_source *src, const char *name) {
    char known[MOE_INT_NAME_BYTES];
    for (int part = 0; part < MOE_INT_PART_COUNT; part++) {
        if (!moe_int_part_used(src, part))
            continue;
        for (int64_t e = 0; e < src->config->layer.E; e++)
            if (strcmp(name, moe_int_part_name(src, part, e, known)) == 0)
                return true;
    }
    return false;
}

/* A result that nothing is compared with would look like a passed one. */
static moe_status refuse_unknown(const moe_int_hf_case *c, const moe_int_hf_config *config,
                                 const moe_log *log) {
    static const char *const known[] = {"hidden_states", "grad_output", "expected.output",
                                        GRADIENTS "hidden_states"};
    moe_int_part_source src = moe_int_hf_gradients(c, config);
    for (size_t i = 0; i < moe_safetensors_count(c->file); i++) {
        const char *name = moe_safetensors_name(c->file, i);
        bool ok = starts_with(name, ROUTER_OUT) || moe_int_hf_is_gradient(&src, name);
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            ok = ok || strcmp(name, known[k]) == 0;
        if (!ok)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s is nothing that family %s computes", c->path,
                            name, config->family->model_type);
    }
    return MOE_OK;
}

moe_status moe_int_hf_case_expected(const moe_int_hf_case *c, const moe_int_hf_config *config,
                                    const moe_log *log, moe_problem *p) {
    moe_status status = refuse_unknown(c, config, log);
    if (!status && has(c->file, "expected.output"))
        status = take(c, "expected.output", MOE_T_O, log, p);
    if (!status && has(c->file, GRADIENTS "hidden_states"))
        status = take(c, GRADIENTS "hidden_states", MOE_T_DX, log, p);
    if (!status)
        status = take_gradients(c, config, log, p);
    return status ? status : take_routing(c, config, log, p);
}
