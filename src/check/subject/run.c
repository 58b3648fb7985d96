/* Running a backend the way a checker must: results into poisoned buffers between canaries, inputs
 * hashed before and after (inputs.c), everything twice. */
#include "check/subject/run.h"
#include "backend/front.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "layer/traits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one run passes around. */
typedef struct runner {
    const moe_problem *problem;
    moe_check_result *result;
    moe_int_run *run;
    const moe_backend *backend;
    bool again; /* results may have the first run's bits once more */
    bool same;  /* the one that was fetched last has, and its buffer holds nothing */
} runner;

static bool has_backward(const runner *k) {
    return (k->problem->pass & MOE_PASS_BWD) != 0;
}

static void stop(const runner *k, const char *step, moe_status status) {
    moe_int_result_stopped(k->result, k->backend, step, status);
}

static bool set_input(runner *k) {
    const moe_problem *p = k->problem;
    moe_input input = {.tokens = p->T, .X = p->in.t[MOE_T_X], .plan = p->plan, .seed = p->seed};
    if (has_backward(k))
        input.dO = p->in.t[MOE_T_DO];
    moe_status status = moe_layer_set_input(k->run->layer, &input);
    if (status)
        stop(k, "set_input", status);
    return !status;
}

/* Prepares and loads. A refusal is a SKIP, anything else that fails an ERROR. */
static bool load(runner *k, moe_backend *backend) {
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
        stop(k, step, status);
    return !status && set_input(k);
}

static bool compute(runner *k) {
    const char *step = "forward";
    moe_status status = moe_layer_forward(k->run->layer);
    if (!status && has_backward(k)) {
        step = "backward";
        status = moe_layer_backward(k->run->layer);
    }
    if (status)
        stop(k, step, status);
    return !status;
}

/* Keeps a copy of the backend's choice, or compares with the copy of an earlier run. A plan that
 * contradicts itself is wrong, and no other of that run is asked for. */
static bool take_plan(runner *k) {
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
        stop(k, "routing", status);
        return false;
    }
    const char *fault = moe_int_plan_fault(k->run->layer);
    moe_int_entry_fail(moe_int_result_entry(k->result, "topk_index"), "the backend's %s",
                       fault[0] ? fault : "routing plan cannot be had");
    k->run->bad_plan = true;
    return true;
}

/* Logits, weights and their gradients are fp32 whatever the results are stored in. Y, too, is taken
 * as it is held, for what it is summed to. */
static moe_dtype fetch_dtype(const runner *k, moe_tensor_id id) {
    moe_dtype arithmetic = (moe_dtype)k->run->support.arithmetic;
    bool wide =
        id == MOE_T_LOGITS || id == MOE_T_S || id == MOE_T_DS || id == MOE_T_Y || id == MOE_T_DXP;
    return wide && arithmetic != MOE_F64 ? MOE_F32 : arithmetic;
}

/* Numbers of pairs; false where only the backend could tell. */
static bool pairs_of(const runner *k, int64_t *pairs, int64_t *all) {
    const moe_layer_desc *desc = &k->problem->layer;
    const moe_plan *plan = k->problem->plan ? k->problem->plan : k->run->plan;
    if (plan) {
        *pairs = plan->offsets[desc->E];
        *all = plan->n_pairs;
        return true;
    }
    *pairs = *all = k->problem->T * desc->K;
    return moe_int_pairs_are_known(desc);
}

/* Shape and type of a result; false: nobody knows them. */
static bool form_of(const runner *k, moe_tensor_id id, moe_tensor *ret) {
    int64_t pairs, all;
    bool known = pairs_of(k, &pairs, &all);
    *ret = (moe_tensor){0};
    if ((!known || k->run->bad_plan) && moe_tensor_is_of_pairs(id))
        return false;
    moe_tensor_shape(&k->problem->layer, id, k->problem->T, pairs, all, ret);
    ret->dtype = fetch_dtype(k, id);
    return true;
}

/* The first run's result, of that shape and type; NULL: there is none. */
static const moe_tensor *known(const runner *k, moe_tensor_id id, const moe_tensor *shape) {
    const moe_tensor *first = &k->run->first[id].tensor;
    return k->again && first->data && first->dtype == shape->dtype &&
                   moe_tensor_same_shape(first, shape)
               ? first
               : NULL;
}

/* Fetches into a fresh guarded buffer. MOE_E_UNSUPPORTED: the backend does not keep it. */
static moe_status fetch(runner *k, moe_tensor_id id, moe_int_guarded *ret) {
    moe_tensor shape;
    moe_int_guarded g;
    if (!form_of(k, id, &shape))
        return MOE_E_UNSUPPORTED;
    const moe_tensor *as = known(k, id, &shape);
    moe_status status = (as ? moe_int_guard_reserve : moe_int_guard_alloc)(&shape, shape.dtype, &g);
    if (status)
        return status;
    moe_tensor view = g.tensor;
    k->same = false;
    status = as ? moe_int_layer_fetch_again(k->run->layer, id, as, &view, &k->same)
                : moe_layer_fetch(k->run->layer, id, &view);
    const char *broken = status ? NULL : moe_int_guard_broken(&g);
    if (broken) {
        const char *name = moe_tensor_name(id);
        moe_int_entry_fail(moe_int_result_entry(k->result, name), "fetch wrote %s the buffer",
                           broken);
        moe_int_result_set(k->result, MOE_VERDICT_FAIL, "%s: fetch wrote %s the buffer", name,
                           broken);
    }
    if (status)
        moe_int_guard_destroy(&g);
    else
        *ret = g;
    return status;
}

/* Which results every backend owes, and which it may keep to itself. */
static bool is_due(const runner *k, moe_tensor_id id, bool *optional) {
    moe_tensor_role role = moe_tensor_role_of(id);
    *optional = role == MOE_ROLE_STAGE || (k->run->bad_plan && moe_tensor_is_of_pairs(id));
    if (moe_int_is_inner_stage(id) || moe_int_is_given(id) ||
        !moe_tensor_exists(&k->problem->layer, id, k->problem->plan != NULL))
        return false;
    return role != MOE_ROLE_BACKWARD || has_backward(k);
}

/* Has all of them brought at once, where that is cheaper. */
static bool expect_all(runner *k) {
    moe_tensor form[MOE_T_COUNT] = {0};
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        bool optional;
        if (is_due(k, id, &optional) && !form_of(k, id, &form[id]))
            form[id] = (moe_tensor){0};
    }
    moe_status status = moe_int_layer_expect(k->run->layer, form);
    if (status)
        stop(k, "fetch", status);
    return !status;
}

/* Fetches every result that is due; `take` gets each one and may empty it, what it leaves is freed.
 */
static bool fetch_each(runner *k, void (*take)(runner *, moe_tensor_id, moe_int_guarded *)) {
    if (!expect_all(k))
        return false;
    for (size_t i = 0; i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        bool optional;
        if (!is_due(k, id, &optional))
            continue;
        moe_int_guarded fresh = {.block = NULL};
        moe_status status = fetch(k, id, &fresh);
        if (!status)
            take(k, id, &fresh);
        moe_int_guard_destroy(&fresh);
        if (status == MOE_OK || (status == MOE_E_UNSUPPORTED && optional))
            continue;
        char step[64];
        snprintf(step, sizeof step, "fetch of %s", moe_tensor_name(id));
        stop(k, step, status);
        return false;
    }
    return true;
}

static void take_first(runner *k, moe_tensor_id id, moe_int_guarded *fresh) {
    moe_int_guard_move(fresh, &k->run->first[id]);
}

static bool fetch_first(runner *k) {
    return fetch_each(k, take_first);
}

static void free_set(moe_int_guarded *set) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_int_guard_destroy(&set[id]);
}

/* Sum of squared differences; a number in one run alone is infinitely far away. */
static double distance(const moe_tensor *a, const moe_tensor *b) {
    double sum = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++) {
        double x = moe_load(a->data, a->dtype, (size_t)i);
        double y = moe_load(b->data, b->dtype, (size_t)i);
        double d = x == y || (isnan(x) && isnan(y)) ? 0 : x - y;
        sum += isnan(d) ? INFINITY : d * d;
    }
    return sum;
}

/* `later` keeps of every result the run that lies farthest from the first, so that one wrong run
 * among many is judged. A deterministic backend's last run is the one that differs, if any does;
 * the first run's bits once more are not kept: gigabytes of them, for large layers. */
static void take_later(runner *k, moe_tensor_id id, moe_int_guarded *fresh) {
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
static bool run_again(runner *k) {
    k->again = true;
    bool complete = compute(k) && take_plan(k);
    if (!complete || !k->run->same_plan) { /* results of other pairs */
        k->run->usable = complete;
        return false;
    }
    k->run->usable = fetch_each(k, take_later);
    return k->run->usable && moe_int_run_repeats(k->run);
}

void moe_int_run_make(moe_backend *backend, const moe_problem *problem, moe_check_result *result,
                      moe_int_run *ret) {
    memset(ret, 0, sizeof *ret);
    ret->same_plan = true;
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->repeats[id] = true;
    runner k = {.problem = problem, .result = result, .run = ret};
    moe_int_inputs_note(problem, &ret->given);
    ret->usable = load(&k, backend) && compute(&k) && take_plan(&k) && fetch_first(&k);
}

void moe_int_run_repeat(const moe_backend *backend, const moe_problem *problem, int times,
                        moe_check_result *result, moe_int_run *run) {
    runner k = {.problem = problem, .result = result, .run = run, .backend = backend};
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
    runner k = {.problem = problem, .result = result, .run = ret, .backend = backend};
    ret->usable = set_input(&k) && compute(&k) && take_plan(&k) && fetch_first(&k);
    return ret->usable;
}

void moe_int_run_return(const moe_backend *backend, const moe_problem *problem,
                        moe_check_result *result, moe_int_run *run) {
    runner k = {.problem = problem, .result = result, .run = run, .backend = backend};
    run->returned = true;
    run->usable = set_input(&k);
    if (run->usable)
        run_again(&k);
}

moe_status moe_int_run_stage(moe_int_run *run, const moe_problem *problem, moe_check_result *result,
                             moe_tensor_id id, moe_tensor *ret) {
    runner k = {.problem = problem, .result = result, .run = run};
    moe_int_guarded g = {.block = NULL};
    moe_status status = fetch(&k, id, &g);
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
