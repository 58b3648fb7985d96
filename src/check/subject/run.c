/* Running a backend the way a checker must: results into poisoned buffers between canaries, inputs
 * hashed before and after (inputs.c), everything twice. */
#include "backend/front.h"
#include "check/subject/runner.h"
#include "check/verdict/result.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void moe_int_runner_stop(const moe_int_runner *k, const char *step, moe_status status) {
    moe_int_result_stopped(k->result, k->backend, step, status);
}

static bool set_input(moe_int_runner *k) {
    const moe_problem *p = k->problem;
    moe_input input = {.tokens = p->T, .X = p->in.t[MOE_T_X], .plan = p->plan, .seed = p->seed};
    if (moe_int_runner_has_backward(k))
        input.dO = p->in.t[MOE_T_DO];
    moe_status status = moe_layer_set_input(k->run->layer, &input);
    if (status)
        moe_int_runner_stop(k, "set_input", status);
    return !status;
}

/* Prepares and loads. A refusal is a SKIP, anything else that fails an ERROR. */
static bool load(moe_int_runner *k, moe_backend *backend) {
    const moe_problem *p = k->problem;
    k->backend = backend;
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    if (p->masked && !p->plan) {
        moe_int_result_set(k->result, MOE_VERDICT_SKIP,
                           "not supported: a backend that routes cannot be told of masked tokens");
        return false;
    }
    const char *step = "supports";
    moe_status status = moe_backend_supports(backend, &p->layer, &use, &k->run->support);
    if (status == MOE_E_UNSUPPORTED) {
        moe_int_result_set(k->result, MOE_VERDICT_SKIP, "not supported: %s",
                           k->run->support.reason);
        return false;
    }
    if (!status) {
        step = "arithmetic";
        status = moe_backend_arithmetic(backend, &p->layer, &use, k->run->declared,
                                        sizeof k->run->declared);
        status = status == MOE_E_UNSUPPORTED ? MOE_OK : status;
    }
    if (!status) {
        step = "prepare";
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &k->run->layer);
    }
    if (status)
        moe_int_runner_stop(k, step, status);
    return !status && set_input(k);
}

static bool compute(moe_int_runner *k) {
    const char *step = "forward";
    moe_status status = moe_layer_forward(k->run->layer);
    if (!status && moe_int_runner_has_backward(k)) {
        step = "backward";
        status = moe_layer_backward(k->run->layer);
    }
    if (status)
        moe_int_runner_stop(k, step, status);
    return !status;
}

/* Keeps a copy of the backend's choice, or compares with the copy of an earlier run. A plan that
 * contradicts itself is wrong, and no other of that run is asked for. */
static bool take_plan(moe_int_runner *k) {
    const moe_plan *plan;
    if (k->problem->plan || k->run->bad_plan)
        return true;
    moe_status status = moe_layer_routing(k->run->layer, &plan);
    if (status == MOE_E_UNSUPPORTED)
        return true;
    if (!status && k->run->plan) {
        k->run->same_plan = moe_int_hash_plan(plan) == moe_int_hash_plan(k->run->plan);
        return true;
    }
    if (!status)
        status = moe_plan_copy(plan, &k->run->plan);
    if (!status)
        return true;
    if (status == MOE_E_NOMEM || status == MOE_E_CONTRACT) {
        moe_int_runner_stop(k, "routing", status);
        return false;
    }
    const char *fault = moe_int_plan_fault(k->run->layer);
    moe_int_entry_fail(moe_int_result_entry(k->result, "topk_index"), "the backend's %s",
                       fault[0] ? fault : "routing plan cannot be had");
    k->run->bad_plan = true;
    return true;
}

static void take_first(moe_int_runner *k, moe_tensor_id id, moe_int_guarded *fresh) {
    moe_int_guard_move(fresh, &k->run->first[id]);
}

static bool fetch_first(moe_int_runner *k) {
    return moe_int_runner_fetch_each(k, take_first);
}

static void free_set(moe_int_guarded *set) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_int_guard_destroy(&set[id]);
}

static double part_distance(const moe_tensor *a, const moe_tensor *b, int64_t first, int64_t end) {
    double sum = 0;
    for (int64_t i = first; i < end; i++) {
        double x = moe_load(a->data, a->dtype, (size_t)i);
        double y = moe_load(b->data, b->dtype, (size_t)i);
        double d = x == y || (isnan(x) && isnan(y)) ? 0 : x - y;
        sum += isnan(d) ? INFINITY : d * d;
    }
    return sum;
}

/* Sum of squared differences; a number in one run alone is infinitely far away. */
static double distance(const moe_tensor *a, const moe_tensor *b) {
    const int64_t count = moe_tensor_count(a), n = moe_int_parts_of(count);
    double part[MOE_INT_MOST_PARTS], sum = 0;
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t p = 0; p < n; p++)
        part[p] =
            part_distance(a, b, moe_int_part_at(count, p, n), moe_int_part_at(count, p + 1, n));
    for (int64_t p = 0; p < n; p++)
        sum += part[p];
    return sum;
}

/* `later` keeps of every result the run that lies farthest from the first, so that one wrong run
 * among many is judged. A deterministic backend's last run is the one that differs, if any does;
 * the first run's bits once more are not kept: gigabytes of them, for large layers. */
static void take_later(moe_int_runner *k, moe_tensor_id id, moe_int_guarded *fresh) {
    const moe_int_guarded *first = &k->run->first[id];
    moe_int_guarded *later = &k->run->later[id];
    k->run->repeats[id] &= k->same;
    if (k->same ||
        (!k->run->support.deterministic && later->block &&
         distance(&first->tensor, &fresh->tensor) < distance(&first->tensor, &later->tensor)))
        return;
    moe_int_guard_destroy(later);
    moe_int_guard_move(fresh, later);
}

/* One more run, held against the first. False when a deterministic backend's differs, which `later`
 * then shows, and when there are no results to go on with. */
static bool run_again(moe_int_runner *k) {
    k->again = true;
    bool complete = compute(k) && take_plan(k);
    if (!complete || !k->run->same_plan) { /* results of other pairs */
        k->run->usable = complete;
        return false;
    }
    k->run->usable = moe_int_runner_fetch_each(k, take_later);
    return k->run->usable && moe_int_run_repeats(k->run);
}

void moe_int_run_make(moe_backend *backend, const moe_problem *problem, moe_check_result *result,
                      moe_int_run *ret) {
    memset(ret, 0, sizeof *ret);
    ret->same_plan = true;
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->repeats[id] = true;
    moe_int_runner k = {.problem = problem, .result = result, .run = ret};
    moe_int_inputs_note(problem, &ret->given);
    ret->usable = load(&k, backend) && compute(&k) && take_plan(&k) && fetch_first(&k);
}

void moe_int_run_repeat(const moe_backend *backend, const moe_problem *problem, int times,
                        moe_check_result *result, moe_int_run *run) {
    moe_int_runner k = {.problem = problem, .result = result, .run = run, .backend = backend};
    bool go_on = run->usable;
    for (int i = 0; i < times && go_on; i++)
        go_on = run_again(&k);
    run->usable = moe_int_inputs_kept(&run->given, problem, run->layer, result) && run->usable;
}

bool moe_int_run_repeats(const moe_int_run *run) {
    bool same = run->same_plan;
    for (int id = 0; id < MOE_T_COUNT; id++)
        same = same && (run->repeats[id] || !run->support.deterministic);
    return same;
}

bool moe_int_run_on(const moe_backend *backend, moe_layer *layer, const moe_support *support,
                    const moe_problem *problem, moe_check_result *result, moe_int_run *ret) {
    *ret = (moe_int_run){.layer = layer, .support = *support};
    moe_int_runner k = {.problem = problem, .result = result, .run = ret, .backend = backend};
    ret->usable = set_input(&k) && compute(&k) && take_plan(&k) && fetch_first(&k);
    return ret->usable;
}

void moe_int_run_return(const moe_backend *backend, const moe_problem *problem,
                        moe_check_result *result, moe_int_run *run) {
    moe_int_runner k = {.problem = problem, .result = result, .run = run, .backend = backend};
    run->returned = true;
    run->usable = set_input(&k);
    if (run->usable)
        run_again(&k);
}

moe_status moe_int_run_stage(moe_int_run *run, const moe_problem *problem, moe_check_result *result,
                             moe_tensor_id id, moe_tensor *ret) {
    moe_int_runner k = {.problem = problem, .result = result, .run = run};
    moe_int_guarded g = {.block = NULL};
    moe_status status = moe_int_runner_fetch(&k, id, &g);
    if (!status)
        status = moe_tensor_alloc(g.tensor.dtype, g.tensor.ndim, g.tensor.shape, ret);
    if (!status)
        memcpy(ret->data, g.tensor.data, g.size);
    if (status == MOE_E_NOMEM)
        moe_int_result_set(result, MOE_VERDICT_ERROR, "no memory for %s", moe_tensor_name(id));
    moe_int_guard_destroy(&g);
    return status;
}

void moe_int_run_clear(moe_int_run *run) {
    free_set(run->first);
    free_set(run->later);
    moe_plan_destroy(&run->plan);
}

void moe_int_run_destroy(moe_int_run *run) {
    moe_int_run_clear(run);
    moe_layer_destroy(&run->layer);
}
