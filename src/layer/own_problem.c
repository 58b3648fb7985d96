/* A problem with tensors that a user brought: the case says what the layer is, a file holds its
 * inputs and parameters. */
#include "core/elements.h"
#include "core/shell.h"
#include "layer/case_keys.h"
#include "layer/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One tensor of the file. */
typedef struct found {
    moe_tensor view; /* data == NULL: the file has none */
    bool transposed; /* [in][out] where the layer has [out][in] */
} found;

typedef struct reader {
    const moe_int_prefixed *stored;
    const moe_log *log;
    moe_problem *problem; /* all drawn, before the file's tensors take their places */
    found found[MOE_T_COUNT];
    moe_dtype dtype;
} reader;

/* The case that the file names itself, or what is wrong with it. */
static moe_status case_of_file(const moe_int_prefixed *s, const moe_log *log, moe_case *ret) {
    const char *line = moe_safetensors_metadata(s->file, "case");
    if (!line)
        return moe_fail(log, MOE_E_NOTFOUND,
                        "%s does not say what layer it is for (metadata \"case\"): give the case",
                        s->path);
    moe_status status = moe_case_parse(line, log, ret);
    if (status)
        moe_log_send(log, MOE_LOG_ERROR, "%s: its metadata \"case\" is no case line: give the case",
                     s->path);
    return status;
}

/* Does the plan of the file replace the layer's router? Always where the case asks for a given one;
 * else where there is nothing to route with. */
static bool gives_plan(const moe_int_prefixed *s, const moe_case *c, const moe_log *log) {
    moe_tensor t;
    bool routes_itself = c->route == MOE_ROUTE_ROUTER &&
                         moe_int_prefixed_get(s, moe_tensor_name(MOE_T_W_R), &t) == MOE_OK;
    if (!moe_int_stored_has_plan(s))
        return false;
    if (routes_itself)
        moe_log_send(log, MOE_LOG_WARN,
                     "%s: its plan is not read, %sW_r chooses experts; with route=uniform in the "
                     "case, or without %sW_r, the plan does",
                     s->path, s->prefix, s->prefix);
    return !routes_itself;
}

static bool is_transposed(const moe_tensor *view, const moe_tensor *want) {
    moe_tensor swapped = *want;
    if (want->ndim < 2)
        return false;
    swapped.shape[want->ndim - 1] = want->shape[want->ndim - 2];
    swapped.shape[want->ndim - 2] = want->shape[want->ndim - 1];
    return moe_tensor_same_shape(view, &swapped);
}

static moe_status find(reader *r, moe_tensor_id id) {
    found *f = &r->found[id];
    const moe_tensor *want = &r->problem->in.t[id];
    const char *name = moe_tensor_name(id), *prefix = r->stored->prefix;
    char is[96], should[96];
    moe_status status = moe_int_prefixed_get(r->stored, name, &f->view);
    r->dtype = moe_int_dtype_wider(r->dtype, status ? want->dtype : f->view.dtype);
    if (status == MOE_E_NOTFOUND) {
        moe_log_send(r->log, MOE_LOG_WARN, "%s has no %s%s: drawn as the case says",
                     r->stored->path, prefix, name);
        return MOE_OK;
    }
    if (status || moe_dtype_roundoff(f->view.dtype) == 0)
        return moe_fail(r->log, MOE_E_FORMAT, "%s: %s%s is not of a floating type", r->stored->path,
                        prefix, name);
    if (moe_tensor_same_shape(&f->view, want))
        return MOE_OK;
    f->transposed = moe_tensor_role_of(id) == MOE_ROLE_PARAM && is_transposed(&f->view, want);
    return f->transposed ? MOE_OK
                         : moe_fail(r->log, MOE_E_INVALID,
                                    "%s: %s%s has shape %s, the case needs %s", r->stored->path,
                                    prefix, name, moe_tensor_shape_str(&f->view, is, sizeof is),
                                    moe_tensor_shape_str(want, should, sizeof should));
}

/* Puts one tensor into its place, in the common type. */
static moe_status take(reader *r, moe_tensor_id id) {
    const found *f = &r->found[id];
    moe_tensor *place = &r->problem->in.t[id], turned = {0}, out;
    const moe_tensor *source = f->view.data ? &f->view : place;
    moe_status status = MOE_OK;
    if (f->transposed) {
        const moe_tensor *v = &f->view;
        status = moe_tensor_alloc(v->dtype, place->ndim, place->shape, &turned);
        if (!status)
            moe_int_transpose(turned.data, v->data, moe_dtype_size(v->dtype),
                              v->ndim == 3 ? v->shape[0] : 1, v->shape[v->ndim - 2],
                              v->shape[v->ndim - 1]);
        source = &turned;
    }
    if (!status)
        status = moe_tensor_cast(source, r->dtype, &out);
    if (!status)
        moe_int_plain_nans(out.dtype, out.data, moe_tensor_count(&out));
    moe_tensor_destroy(&turned);
    if (status)
        return moe_fail(r->log, status, "%s: no memory for %s", r->stored->path,
                        moe_tensor_name(id));
    moe_tensor_destroy(place);
    *place = out;
    return MOE_OK;
}

static moe_status take_all(reader *r) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (r->problem->in.t[id].data)
            status = find(r, (moe_tensor_id)id);
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (r->problem->in.t[id].data)
            status = take(r, (moe_tensor_id)id);
    r->problem->dtype = (int32_t)r->dtype;
    return status;
}

static bool is_of_router(moe_tensor_id id) {
    return id == MOE_T_W_R || id == MOE_T_B_R || id == MOE_T_B_SELECT;
}

/* Parameters that somebody brought and the case's layer has not; a plan stands for its router's. */
static void note_unused(const reader *r, bool plan_given) {
    moe_tensor t;
    for (int i = 0; i < MOE_T_COUNT; i++) {
        const moe_tensor_id id = (moe_tensor_id)i;
        if (moe_tensor_role_of(id) != MOE_ROLE_PARAM || r->problem->in.t[id].data ||
            (plan_given && is_of_router(id)) ||
            moe_int_prefixed_get(r->stored, moe_tensor_name(id), &t) == MOE_E_NOTFOUND)
            continue;
        moe_log_send(r->log, MOE_LOG_WARN, "%s: %s%s is not used: the layer of the case has none",
                     r->stored->path, r->stored->prefix, moe_tensor_name(id));
    }
}

/* A misspelt b1 must not look as if the layer had been judged with it. */
static void note_unknown(const reader *r) {
    char more[48];
    const char *name = moe_int_stored_unknown(r->stored->file, more, sizeof more);
    if (name && !r->stored->prefix[0])
        moe_log_send(r->log, MOE_LOG_WARN, "%s: no layer has a \"%s\"%s: it is not read",
                     r->stored->path, name, more);
}

static moe_status take_plan(reader *r) {
    moe_problem *p = r->problem;
    moe_plan_destroy(&p->plan);
    moe_status status =
        moe_int_stored_plan(r->stored, p->T, p->layer.E + p->layer.n_zero, r->log, &p->plan);
    return status ? status : moe_int_stored_slots(r->stored, p->plan, r->log, &p->slots);
}

/* The case as it was given: drawing may have changed its route. */
static moe_status rename_problem(reader *r, const moe_case *c) {
    moe_problem *p = r->problem;
    size_t size = moe_case_print(c, NULL, 0) + 1;
    char *line = malloc(size), *file = moe_int_shell_word(r->stored->path);
    if (line)
        moe_case_print(c, line, size);
    free(p->name);
    free(p->reproduce);
    p->name = line ? moe_int_format("%s %s", r->stored->path, line) : NULL;
    p->reproduce = line && file ? moe_int_format("--inputs %s --case \"%s\"", file, line) : NULL;
    free(file);
    free(line);
    return p->name && p->reproduce ? MOE_OK : moe_fail(r->log, MOE_E_NOMEM, "no memory for a name");
}

moe_status moe_int_problem_stored(const moe_int_prefixed *stored, const moe_case *c,
                                  const moe_log *log, moe_problem **ret) {
    reader r = {.stored = stored, .log = log, .dtype = MOE_DTYPE_COUNT};
    moe_case own = *c;
    bool plan_given = gives_plan(stored, c, log);
    if (plan_given && own.route == MOE_ROUTE_ROUTER)
        own.route = MOE_ROUTE_UNIFORM; /* drawn, then replaced */
    moe_status status = moe_int_problem_drawn(&own, log, &r.problem);
    if (!status)
        status = take_all(&r);
    if (!status) {
        note_unused(&r, plan_given);
        note_unknown(&r);
    }
    if (!status && plan_given)
        status = take_plan(&r);
    if (!status)
        status = rename_problem(&r, c);
    if (status)
        moe_problem_destroy(&r.problem);
    else
        *ret = r.problem;
    return status;
}

moe_status moe_problem_from_tensors(const moe_safetensors *tensors, const char *name,
                                    const char *line, const moe_log *log, moe_problem **ret) {
    const moe_int_prefixed stored = {.file = tensors, .path = name, .prefix = ""};
    moe_case c;
    moe_status status = line ? moe_case_parse(line, log, &c) : case_of_file(&stored, log, &c);
    if (!status) {
        status = moe_int_problem_stored(&stored, &c, log, ret);
        moe_case_destroy(&c);
    }
    return status;
}

moe_status moe_problem_from_file(const char *path, const char *line, const moe_log *log,
                                 moe_problem **ret) {
    moe_safetensors *file = NULL;
    moe_status status = moe_safetensors_open(path, log, &file);
    if (!status)
        status = moe_problem_from_tensors(file, path, line, log, ret);
    moe_safetensors_close(&file);
    return status;
}
