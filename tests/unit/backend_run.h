/* A case on a backend, step by step, for the tests of src/backend and of plug-ins. */
#ifndef MOE_TESTS_BACKEND_RUN_H
#define MOE_TESTS_BACKEND_RUN_H

#include "drawn.h"
#include "moeref/backend.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct backend_run {
    capture seen;
    moe_log log;
    moe_backends *all;
    moe_backend *backend;
    moe_problem *problem;
    moe_use use;
    moe_input input;
    moe_layer *layer;
} backend_run;

/* `path` is the search path; NULL backends come from the environment. */
static inline moe_status run_open(backend_run *r, const char *path, const char *spec, int threads) {
    memset(r, 0, sizeof *r);
    r->log = capture_log(&r->seen);
    moe_open_params params = {.threads = threads, .log = &r->log};
    cr_assert_eq(moe_backends_load(path, &r->log, &r->all), MOE_OK);
    return moe_backend_open(r->all, spec, &params, &r->log, &r->backend);
}

static inline moe_input run_input_of(const moe_problem *p) {
    return (moe_input){.tokens = p->T,
                       .X = p->in.t[MOE_T_X],
                       .dO = p->in.t[MOE_T_DO],
                       .plan = p->plan,
                       .seed = p->seed};
}

static inline void run_draw_case(backend_run *r, const char *line) {
    r->problem = drawn(line);
    r->use = (moe_use){.tokens = r->problem->T,
                       .dtype = (int32_t)r->problem->dtype,
                       .pass = r->problem->pass,
                       .plan_given = r->problem->plan != NULL};
    r->input = run_input_of(r->problem);
}

static inline void run_prepare(backend_run *r, const char *line) {
    run_draw_case(r, line);
    cr_assert_eq(
        moe_layer_prepare(r->backend, &r->problem->layer, &r->use, &r->problem->in, &r->layer),
        MOE_OK, "%s: %s", line, r->seen.text);
}

static inline void run_step(backend_run *r, const moe_input *input) {
    cr_assert_eq(moe_layer_set_input(r->layer, input), MOE_OK, "%s", r->seen.text);
    cr_assert_eq(moe_layer_forward(r->layer), MOE_OK, "%s", r->seen.text);
    if (r->use.pass & MOE_PASS_BWD)
        cr_assert_eq(moe_layer_backward(r->layer), MOE_OK, "%s", r->seen.text);
}

static inline void run_close_case(backend_run *r) {
    moe_layer_destroy(&r->layer);
    moe_problem_destroy(&r->problem);
}

static inline void run_close(backend_run *r) {
    run_close_case(r);
    moe_backend_close(&r->backend);
    moe_backends_destroy(&r->all);
}

/* A tensor of the layer as it stands, NaN wherever the backend does not write. */
static inline moe_tensor run_fetch(backend_run *r, moe_tensor_id id, moe_dtype dtype) {
    const moe_plan *plan = NULL;
    moe_tensor shape = {0}, t;
    cr_assert_eq(moe_layer_routing(r->layer, &plan), MOE_OK);
    moe_tensor_shape(&r->problem->layer, id, r->use.tokens, plan->offsets[r->problem->layer.E],
                     plan->n_pairs, &shape);
    cr_assert_eq(moe_tensor_alloc(dtype, shape.ndim, shape.shape, &t), MOE_OK);
    for (int64_t i = 0, count = moe_tensor_count(&t); i < count; i++)
        moe_store(t.data, dtype, (size_t)i, NAN);
    cr_assert_eq(moe_layer_fetch(r->layer, id, &t), MOE_OK, "%s: %s", moe_tensor_name(id),
                 r->seen.text);
    return t;
}

/* The float64 oracle on the same inputs. */
static inline moe_reference_result *run_oracle(const moe_problem *p, const moe_input *input,
                                               int32_t pass) {
    moe_tensors in = p->in;
    in.t[MOE_T_X] = input->X;
    in.t[MOE_T_DO] = pass & MOE_PASS_BWD ? input->dO : (moe_tensor){0};
    moe_reference_params params = {.tokens = input->tokens,
                                   .precision = MOE_F64,
                                   .plan = input->plan,
                                   .plan_given = input->plan != NULL,
                                   .seed = input->seed};
    moe_reference_result *result = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &in, &params, NULL, &result), MOE_OK);
    return result;
}

/* sum (got - want)^2 / sum want^2; 0/0 is 0. A NaN that the oracle does not have gives NaN. */
static inline double run_nmse(const moe_tensor *got, const moe_tensor *want) {
    double error = 0, norm = 0;
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++) {
        double w = moe_load(want->data, want->dtype, (size_t)i);
        double g = moe_load(got->data, got->dtype, (size_t)i);
        if (!isfinite(w))
            continue;
        error += (g - w) * (g - w);
        norm += w * w;
    }
    return error == 0 ? 0 : error / norm;
}

#endif
