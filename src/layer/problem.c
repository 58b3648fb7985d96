/* From a case to tensors. */
#include "layer/problem.h"
#include "core/coded.h"
#include "layer/cancel.h"
#include "layer/case_keys.h"
#include "moeref/ep.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Standard deviations of drawn biases; weights have 1/sqrt(fan_in). */
#define BIAS_STDDEV        0.1
#define SELECT_BIAS_STDDEV 0.02
#define INTEGER_STDDEV     2.0 /* of the generator's integers in [-3, 3] */

char *moe_int_format(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (text) {
        va_start(args, format);
        vsnprintf(text, (size_t)length + 1, format, args);
        va_end(args);
    }
    return text;
}

/* Standard deviation of a drawn parameter. */
static double param_stddev(const moe_tensor *t, moe_tensor_id id) {
    switch ((int)id) {
    case MOE_T_B_R:
    case MOE_T_B1:
    case MOE_T_B2:
        return BIAS_STDDEV;
    case MOE_T_B_SELECT:
        return SELECT_BIAS_STDDEV;
    default: /* weights: the last dimension is the one that is summed over */
        return 1.0 / sqrt((double)t->shape[t->ndim - 1]);
    }
}

static bool is_router_param(moe_tensor_id id) {
    return id == MOE_T_W_R || id == MOE_T_B_R || id == MOE_T_B_SELECT;
}

/* Integer data makes the experts' parameters integers too, times a power of two near their usual
 * size: then every product and sum of a linear stage is exact in float32. */
static double integer_scale(double stddev) {
    int exponent;
    frexp(stddev / INTEGER_STDDEV, &exponent);
    return ldexp(0.5, exponent);
}

moe_status moe_int_alloc_input(moe_problem *p, moe_tensor_id id, const moe_log *log) {
    moe_tensor shape;
    moe_tensor_shape(&p->layer, id, p->T, 0, 0, &shape);
    moe_status status =
        moe_tensor_alloc((moe_dtype)p->dtype, shape.ndim, shape.shape, &p->in.t[id]);
    if (status)
        moe_fail(log, status, "cannot allocate %s for \"%s\"", moe_tensor_name(id), p->name);
    return status;
}

static void fill_tensor(moe_problem *p, moe_tensor_id id, moe_fill_kind kind, double scale) {
    moe_tensor *t = &p->in.t[id];
    moe_rng_fill(t->data, t->dtype, 0, (size_t)moe_tensor_count(t), kind, scale, p->seed,
                 (uint64_t)id);
}

moe_status moe_int_draw_input(moe_problem *p, moe_tensor_id id, moe_fill_kind kind, double scale,
                              const moe_log *log) {
    moe_status status = moe_int_alloc_input(p, id, log);
    if (!status)
        fill_tensor(p, id, kind, scale);
    return status;
}

static double drawn_scale(const moe_case *c, int id) {
    return id == MOE_T_W_R ? c->r_scale : id == MOE_T_B_SELECT ? c->b_scale : 1;
}

static moe_status draw_params(const moe_case *c, const moe_log *log, moe_problem *p) {
    bool plan_given = c->route != MOE_ROUTE_ROUTER;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (moe_tensor_role_of(id) != MOE_ROLE_PARAM ||
            !moe_tensor_exists(&c->layer, id, plan_given))
            continue;
        moe_status status = moe_int_alloc_input(p, id, log);
        if (status)
            return status;
        double stddev = param_stddev(&p->in.t[id], id);
        if (c->data == MOE_FILL_INTEGER && !is_router_param(id))
            fill_tensor(p, id, MOE_FILL_INTEGER, integer_scale(stddev));
        else if (c->data == MOE_FILL_EXACT && !is_router_param(id))
            fill_tensor(p, id, MOE_FILL_EXACT, 1);
        else
            fill_tensor(p, id, MOE_FILL_NORMAL, stddev * drawn_scale(c, id));
    }
    return MOE_OK;
}

static moe_status draw_tensors(const moe_case *c, const moe_log *log, moe_problem *p) {
    moe_status status = draw_params(c, log, p);
    if (!status)
        status = moe_int_quantise_experts(c, log, p);
    if (!status)
        status = moe_int_draw_input(p, MOE_T_X, (moe_fill_kind)c->data, c->x_scale, log);
    if (!status && (c->pass & MOE_PASS_BWD))
        status = moe_int_draw_input(p, MOE_T_DO, (moe_fill_kind)c->data, c->x_scale, log);
    if (!status && c->data == MOE_FILL_CANCEL)
        moe_int_cancel(p);
    if (!status && c->inject) {
        const moe_tensor *x = &p->in.t[MOE_T_X];
        size_t index = (size_t)(c->inject_token * c->layer.d + c->layer.d / 2);
        moe_store(x->data, x->dtype, index, c->inject == 1 ? (double)NAN : (double)INFINITY);
    }
    if (!status && c->split.ranks && c->split.wire == MOE_EP_WIRE_E4M3)
        moe_int_settle_rows(p->in.t[MOE_T_X].data, (moe_dtype)p->dtype, p->T, p->layer.d);
    if (!status && c->route != MOE_ROUTE_ROUTER)
        status = moe_int_draw_plan(c, log, &p->plan);
    else if (!status && c->masked)
        status = moe_int_draw_mask(c, &p->masked);
    return status;
}

static moe_status name_problem(const moe_case *c, const moe_log *log, moe_problem *p) {
    size_t size = moe_case_print(c, NULL, 0) + 1;
    p->name = malloc(size);
    if (p->name) {
        moe_case_print(c, p->name, size);
        p->reproduce = moe_int_format("--case \"%s\"", p->name);
    }
    return p->reproduce ? MOE_OK : moe_fail(log, MOE_E_NOMEM, "out of memory for a case's name");
}

/* NULL: none, or no memory. */
static int64_t *copy_list(const int64_t *list, int64_t count) {
    int64_t *ret = list ? malloc((size_t)count * sizeof *ret + 1) : NULL;
    return ret ? memcpy(ret, list, (size_t)count * sizeof *ret) : NULL;
}

static moe_status copy_split(const moe_split *from, moe_split *ret) {
    *ret = *from;
    ret->tokens = copy_list(from->tokens, from->n_tokens);
    ret->replicas = copy_list(from->replicas, from->n_replicas);
    return (ret->tokens || !from->tokens) && (ret->replicas || !from->replicas) ? MOE_OK
                                                                                : MOE_E_NOMEM;
}

moe_status moe_int_problem_drawn(const moe_case *c, const moe_log *log, moe_problem **ret) {
    moe_status status = moe_int_case_check(c, log);
    if (status)
        return status;
    if (c->hidden)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "hidden=%lld: projections around experts are predicted, and run from "
                        "checkpoints alone (--hf)",
                        (long long)c->hidden);
    moe_problem *p = calloc(1, sizeof *p);
    if (!p)
        return moe_fail(log, MOE_E_NOMEM, "out of memory for a problem");
    p->layer = c->layer;
    p->T = c->T;
    p->pass = c->pass;
    p->dtype = c->dtype;
    p->seed = c->seed;
    status = name_problem(c, log, p);
    if (!status)
        status = copy_split(&c->split, &p->split);
    if (!status)
        status = draw_tensors(c, log, p);
    if (status)
        moe_problem_destroy(&p);
    else
        *ret = p;
    return status;
}

moe_status moe_problem_slots(const moe_problem *problem, int64_t columns, moe_tensor *ret) {
    if (!problem->plan)
        return MOE_E_NOTFOUND;
    return problem->slots.data ? moe_tensor_cast(&problem->slots, MOE_I64, ret)
                               : moe_plan_slots(problem->plan, columns, ret);
}

void moe_problem_destroy(moe_problem **problem) {
    if (!problem || !*problem)
        return;
    moe_problem *p = *problem;
    free(p->name);
    free(p->reproduce);
    moe_tensors_destroy(&p->in);
    moe_tensors_destroy(&p->expected);
    moe_plan_destroy(&p->plan);
    moe_plan_destroy(&p->expected_plan);
    moe_tensor_destroy(&p->slots);
    free(p->masked);
    free(p->split.tokens);
    free(p->split.replicas);
    if (p->block)
        p->block_destroy(p->block);
    free(p);
    *problem = NULL;
}
