/* State that outlives a call: one prepared layer sees input A (twice and more, in run.c), then its
 * mirror image B, then A again. Ignored inputs, results that are added to the last ones, what is
 * wrong from the third run on: each differs in one of them. And memory that no result may depend
 * on: weights of experts that have no tokens. */
#include "check/state/state.h"
#include "check/compare/layout.h"
#include "check/routing/routing.h"
#include "check/state/mirror.h"
#include "check/subject/inputs.h"
#include "check/verdict/result.h"
#include "core/elements.h"
#include "reference/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A second copy of larger parameters is not made. */
#define POISONED_BYTES_MAX ((int64_t)1 << 30)

void moe_int_more_runs_destroy(moe_int_more_runs *more) {
    for (int i = 0; i < MOE_INT_AGAIN_COUNT; i++)
        for (int id = 0; id < MOE_T_COUNT; id++)
            moe_int_guard_destroy(&more->set[i][id]);
}

/* Zero has no sign, and looks the same in any order. */
static bool is_zero(const moe_tensor *t) {
    for (int64_t i = 0, count = moe_tensor_count(t); i < count; i++)
        if (moe_load(t->data, t->dtype, (size_t)i) != 0)
            return false;
    return true;
}

static void no_memory(moe_check_result *r) {
    moe_int_result_set(r, MOE_VERDICT_ERROR, "no memory for a second input");
}

/* A choice that is not the first input's may still be right, inside the margin of rounding: then
 * the results belong to other pairs and cannot be compared with the first's. */
static void judge_choice(const moe_problem *problem, const moe_int_run *other,
                         const moe_check_params *params, const moe_log *log, moe_check_result *r) {
    moe_check_result *scratch = calloc(1, sizeof *scratch);
    moe_int_routing routing = {0};
    const moe_int_reading reading = {(moe_dtype)other->support.arithmetic,
                                     moe_int_recipe_points(params, problem)};
    if (!scratch ||
        moe_int_routing_settle(problem, other->plan, MOE_INT_TOLD, &reading,
                               moe_int_thread_count(params->threads), log, scratch, &routing)) {
        no_memory(r);
    } else {
        const moe_tensor_verdict *v = moe_int_result_entry(scratch, "topk_index");
        moe_tensor_verdict *entry = moe_int_result_entry(r, "topk_index");
        if (v->verdict == MOE_VERDICT_FAIL) {
            moe_int_entry_fail(entry, "tokens in reverse order: %.120s", v->why);
            moe_int_result_set(r, MOE_VERDICT_FAIL, "topk_index: %s", entry->why);
        }
    }
    moe_int_routing_destroy(&routing);
    moe_check_result_destroy(&scratch);
}

/* Results of the mirror that have the first input's bits although tokens have changed places, or
 * signs. */
static void find_stale(const moe_int_mirror *m, const moe_int_run *run, const moe_int_run *other,
                       moe_int_more_runs *ret) {
    const bool moved = m->order[0] != 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *a = &run->first[id].tensor, *b = &other->first[id].tensor;
        const size_t size = run->first[id].size;
        if (!a->data || size != other->first[id].size || is_zero(a))
            continue;
        const bool by_token = moe_int_layout_of((moe_tensor_id)id, a).by == MOE_INT_BY_TOKEN;
        ret->stale[id] = (moe_tensor_is_backward((moe_tensor_id)id) || (by_token && moved)) &&
                         memcmp(a->data, b->data, size) == 0;
    }
}

static void try_mirror(const moe_backend *backend, const moe_problem *problem,
                       const moe_check_params *params, const moe_log *log, moe_check_result *r,
                       moe_int_run *run, moe_int_more_runs *ret) {
    moe_int_mirror m;
    moe_int_run other = {.layer = NULL};
    if (moe_int_mirror_make(problem, log, &m)) {
        no_memory(r);
        return;
    }
    if (moe_int_mirror_differs(&m)) {
        if (moe_int_run_on(backend, run->layer, &run->support, &m.problem, r, &other)) {
            find_stale(&m, run, &other, ret);
            const moe_plan *plan = problem->plan ? problem->plan : run->plan;
            const moe_plan *mirrored = problem->plan ? m.problem.plan : other.plan;
            if (plan && mirrored && !moe_int_mirror_same_choice(&m, plan, mirrored))
                judge_choice(&m.problem, &other, params, log, r);
            else if (moe_int_mirror_undo(&m, &other, plan, mirrored, ret->set[MOE_INT_SECOND]))
                no_memory(r);
        }
        moe_int_run_clear(&other); /* not beside the results of one more run */
        moe_int_run_return(backend, problem, r,
                           run); /* the layer must not keep the mirror's plan */
    }
    moe_int_mirror_destroy(&m);
}

static bool is_empty(const moe_plan *plan, int64_t e) {
    return plan->offsets[e + 1] == plan->offsets[e];
}

static const moe_tensor_id of_experts[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
enum { OF_EXPERTS = sizeof of_experts / sizeof *of_experts };

static bool worth_poisoning(const moe_problem *problem, const moe_plan *plan) {
    int64_t empty = 0, bytes = 0;
    for (int64_t e = 0; plan && e < problem->layer.E; e++)
        empty += is_empty(plan, e);
    for (int i = 0; i < OF_EXPERTS; i++)
        if (problem->in.t[of_experts[i]].data)
            bytes += moe_tensor_bytes(&problem->in.t[of_experts[i]]);
    return empty > 0 && bytes <= POISONED_BYTES_MAX;
}

/* The parameter with NaN in the slices of experts without tokens. */
static moe_status poison(const moe_tensor *src, const moe_plan *plan, moe_tensor *ret) {
    moe_status status = moe_tensor_cast(src, src->dtype, ret);
    int64_t E = src->shape[0], width = status ? 0 : moe_tensor_count(src) / E;
    for (int64_t e = 0; !status && e < E; e++)
        for (int64_t i = 0; is_empty(plan, e) && i < width; i++)
            moe_store(ret->data, ret->dtype, (size_t)(e * width + i), NAN);
    return status;
}

/* Runs a layer of the given parameters on the first input. */
static void run_poisoned(moe_backend *backend, const moe_problem *problem, moe_check_result *r,
                         const moe_int_run *run, moe_int_more_runs *ret) {
    moe_use use = {problem->T, problem->dtype, problem->pass, problem->plan != NULL};
    moe_layer *layer = NULL;
    moe_int_run other = {.layer = NULL};
    moe_status status = moe_layer_prepare(backend, &problem->layer, &use, &problem->in, &layer);
    if (status)
        moe_int_result_stopped(r, backend, "a second prepare", status);
    else if (moe_int_run_on(backend, layer, &run->support, problem, r, &other) &&
             (!run->plan || moe_int_hash_plan(run->plan) == moe_int_hash_plan(other.plan)))
        for (int id = 0; id < MOE_T_COUNT; id++)
            moe_int_guard_move(&other.first[id], &ret->set[MOE_INT_POISONED][id]);
    moe_int_run_clear(&other);
    moe_layer_destroy(&layer);
}

static void try_poison(moe_backend *backend, const moe_problem *problem, moe_check_result *r,
                       const moe_int_run *run, moe_int_more_runs *ret) {
    const moe_plan *plan = problem->plan ? problem->plan : run->plan;
    if (!worth_poisoning(problem, plan))
        return;
    moe_problem poisoned = *problem;
    moe_tensors own = {0};
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < OF_EXPERTS; i++) {
        moe_tensor_id id = of_experts[i];
        if (problem->in.t[id].data)
            status = poison(&problem->in.t[id], plan, &own.t[id]);
        poisoned.in.t[id] = own.t[id];
    }
    if (status)
        no_memory(r);
    else
        run_poisoned(backend, &poisoned, r, run, ret);
    moe_tensors_destroy(&own);
}

void moe_int_state_try(moe_backend *backend, const moe_problem *problem,
                       const moe_check_params *params, const moe_log *log, moe_check_result *result,
                       moe_int_run *run, moe_int_more_runs *ret) {
    memset(ret, 0, sizeof *ret);
    try_mirror(backend, problem, params, log, result, run, ret);
    try_poison(backend, problem, result, run, ret);
}

/* Sums over elements: a^2, a b, and (b - factor a)^2. */
typedef struct sums {
    double aa, ab, rest;
} sums;

static sums sums_of(const moe_tensor *a, const moe_tensor *b, double factor) {
    const int64_t count = moe_tensor_count(a), n = moe_int_parts_of(count);
    sums part[MOE_INT_MOST_PARTS], all = {0};
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t p = 0; p < n; p++) {
        part[p] = (sums){0};
        for (int64_t i = moe_int_part_at(count, p, n); i < moe_int_part_at(count, p + 1, n); i++) {
            const double x = moe_load(a->data, a->dtype, (size_t)i);
            const double y = moe_load(b->data, b->dtype, (size_t)i), d = y - factor * x;
            part[p].aa += x * x;
            part[p].ab += x * y;
            part[p].rest += d * d;
        }
    }
    for (int64_t p = 0; p < n; p++) {
        all.aa += part[p].aa;
        all.ab += part[p].ab;
        all.rest += part[p].rest;
    }
    return all;
}

int moe_int_times(const moe_tensor *a, const moe_tensor *b) {
    sums k = sums_of(a, b, 0);
    const double factor = k.aa > 0 ? round(k.ab / k.aa) : 0;
    if (!(factor >= 2 && factor < 1e6))
        return 0;
    k = sums_of(a, b, factor);
    /* bf16's own roundings are some 1e-5 of the squares */
    return k.rest <= 1e-4 * factor * factor * k.aa ? (int)factor : 0;
}
