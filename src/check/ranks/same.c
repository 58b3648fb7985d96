/* One rank's bits, which `pairs` promises, and the same bits whatever rank is late. */
#include "check/ranks/cause.h"
#include "check/ranks/ranks.h"
#include "check/routing/reading.h"
#include "check/subject/run.h"
#include "check/verdict/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t delay_us = 1500; /* most before each exchange */

/* Sums of parts that ranks made by themselves: of other associations than one rank's. */
static bool is_sum_of_parts(const moe_int_ranks *k, moe_tensor_id id) {
    return id == MOE_T_DW1_SHARED || id == MOE_T_DW2_SHARED ||
           (k->ep->n_replicas && moe_ep_placed_of(id) == MOE_EP_OF_EXPERTS);
}

static void list_sums_of_parts(const moe_int_ranks *k) {
    char *list = k->found->not_same;
    const size_t size = sizeof k->found->not_same;
    list[0] = '\0';
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (is_sum_of_parts(k, id) && moe_tensor_exists(&k->problem->layer, id, 0) &&
            k->problem->pass & MOE_PASS_BWD)
            snprintf(list + strlen(list), size - strlen(list), "%s%s", list[0] ? ", " : "",
                     moe_tensor_name(id));
}

static moe_status run(const moe_int_ranks *k, moe_backend *backend, moe_int_run *ret,
                      moe_layer **ret_layer) {
    const moe_problem *p = k->problem;
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    moe_support support = {0};
    moe_check_result *scratch = calloc(1, sizeof *scratch);
    moe_status status =
        scratch ? moe_backend_supports(backend, &p->layer, &use, &support) : MOE_E_NOMEM;
    if (!status)
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, ret_layer);
    if (!status && !moe_int_run_on(backend, *ret_layer, &support, p, scratch, ret)) {
        moe_int_ranks_fail(k->found, scratch->verdict, "%s", scratch->why);
        status = MOE_E_CONTRACT;
    }
    moe_check_result_destroy(&scratch);
    return status;
}

static int64_t differing(const moe_tensor *a, const moe_tensor *b, int64_t *ret_first) {
    const size_t size = moe_dtype_size(a->dtype);
    int64_t differ = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++)
        if (memcmp((const char *)a->data + (size_t)i * size,
                   (const char *)b->data + (size_t)i * size, size) != 0 &&
            differ++ == 0)
            *ret_first = i;
    return differ;
}

/* `promised`: a difference is a failure. */
static void compare(const moe_int_ranks *k, const moe_int_run *got, const moe_int_run *want,
                    const char *than, bool promised, bool counts) {
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        const moe_tensor *a = &got->first[id].tensor, *b = &want->first[id].tensor;
        int64_t at = 0;
        if (!a->data || !b->data || (counts && is_sum_of_parts(k, id)))
            continue;
        const int64_t differ = moe_tensor_same_shape(a, b) ? differing(a, b, &at) : 1;
        if (counts) {
            k->found->same += moe_tensor_count(a) - differ;
            k->found->differ += differ;
        }
        if (differ && promised)
            moe_int_ranks_fail(k->found, MOE_VERDICT_FAIL,
                               "%s: %lld of %lld elements have other bits than %s: element %lld is "
                               "%.9g, not %.9g",
                               moe_tensor_name(id), (long long)differ,
                               (long long)moe_tensor_count(a), than, (long long)at,
                               moe_load(a->data, a->dtype, (size_t)at),
                               moe_load(b->data, b->dtype, (size_t)at));
    }
}

static moe_ep_params one_rank(const moe_int_ranks *k) {
    moe_ep_params ep = *k->ep;
    ep.ranks = 1;
    ep.wire = MOE_EP_WIRE_OWN;
    ep.tokens = NULL;
    ep.tp = 1;
    ep.n_replicas = 0;
    ep.padding = MOE_EP_PAD_NONE;
    ep.transport = NULL;
    ep.fault = NULL;
    return ep;
}

/* Stages too, as far as the backend has them: causes are made of them. */
static void fetch_stages(const moe_int_ranks *k, moe_int_run *run) {
    static const moe_tensor_id stages[] = {MOE_T_A, MOE_T_Y, MOE_T_DH, MOE_T_DXP};
    moe_check_result *scratch = calloc(1, sizeof *scratch);
    for (size_t i = 0; scratch && i < sizeof stages / sizeof *stages; i++) {
        moe_int_guarded *g = &run->first[stages[i]];
        moe_tensor t = {0};
        if (moe_int_run_stage(run, k->problem, scratch, stages[i], &t))
            continue;
        if (!moe_int_guard_alloc(&t, t.dtype, g))
            memcpy(g->tensor.data, t.data, (size_t)moe_tensor_bytes(&t));
        moe_tensor_destroy(&t);
    }
    moe_check_result_destroy(&scratch);
}

static void view(const moe_int_run *run, moe_tensors *ret) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->t[id] = run->first[id].tensor;
}

/* Did the ranks choose as one does? Rows are compared pair by pair. */
static bool is_same_choice(const moe_int_ranks *k, const moe_int_run *got, const moe_plan *plan) {
    const size_t bytes = ((size_t)plan->n_experts + 1) * sizeof *plan->offsets;
    return k->problem->plan || (got->plan && got->plan->n_experts == plan->n_experts &&
                                got->plan->n_pairs == plan->n_pairs &&
                                memcmp(got->plan->offsets, plan->offsets, bytes) == 0);
}

static void find_cause(const moe_int_ranks *k, const moe_layer *layer, const moe_int_run *got,
                       moe_int_run *right, moe_check_result *result) {
    const moe_plan *plan = k->problem->plan ? k->problem->plan : right->plan;
    moe_tensors is = {0}, due = {0};
    moe_ep_layout layout;
    moe_ep_wire wire;
    if (!plan || !is_same_choice(k, got, plan) || moe_ep_layout_of(layer, &layout, &wire))
        return;
    fetch_stages(k, right);
    view(got, &is);
    view(right, &due);
    const moe_int_compared c = {.problem = k->problem,
                                .layout = &layout,
                                .plan = plan,
                                .got = &is,
                                .right = &due,
                                .tp = k->ep->tp > 1 ? k->ep->tp : 1,
                                .plain = k->ep->tp <= 1 && !k->ep->n_replicas,
                                .low = moe_int_is_low((moe_dtype)got->support.arithmetic)};
    moe_int_ranks_cause(&c, result);
    moe_ep_layout_destroy(&layout);
}

/* One rank's results, for their bits or, after a failure, to find its cause. */
static moe_status run_alone(const moe_int_ranks *k, const moe_layer *layer, const moe_int_run *got,
                            bool failed, moe_check_result *result) {
    const moe_ep_params ep = one_rank(k);
    moe_backend *backend = NULL;
    moe_layer *alone = NULL;
    moe_int_run right = {.layer = NULL};
    moe_status status = moe_ep_open(k->inner, k->count, &ep, k->log, &backend);
    if (!status)
        status = run(k, backend, &right, &alone);
    if (!status && failed)
        find_cause(k, layer, got, &right, result);
    else if (!status)
        compare(k, got, &right, "one rank's",
                right.support.deterministic & MOE_PROMISE_BATCH_INVARIANT, true);
    moe_int_run_clear(&right);
    moe_layer_destroy(&alone);
    moe_backend_close(&backend);
    return status;
}

static moe_status run_delayed(const moe_int_ranks *k, const moe_int_run *want) {
    moe_ep_params ep = *k->ep;
    moe_backend *backend = NULL;
    moe_layer *layer = NULL;
    moe_int_run got = {.layer = NULL};
    ep.delay_us = delay_us;
    moe_status status = moe_ep_open(k->inner, k->count, &ep, k->log, &backend);
    if (!status)
        status = run(k, backend, &got, &layer);
    if (!status && got.support.deterministic) {
        compare(k, &got, want, "without delays", true, false);
        k->found->repeats++;
    }
    moe_int_run_clear(&got);
    moe_layer_destroy(&layer);
    moe_backend_close(&backend);
    return status;
}

moe_status moe_int_ranks_same(const moe_int_ranks *k, moe_backend *backend,
                              moe_check_result *result) {
    const bool exact = k->ep->combine == MOE_EP_PAIRS && k->ep->tp <= 1 &&
                       (k->ep->wire < 0 || k->ep->wire == MOE_EP_WIRE_E4M3);
    const bool failed = result->verdict >= MOE_VERDICT_FAIL;
    moe_layer *layer = NULL;
    moe_int_run first = {.layer = NULL};
    moe_status status = run(k, backend, &first, &layer);
    if (!status && (failed || exact))
        status = run_alone(k, layer, &first, failed, result);
    if (!status && !failed)
        status = run_delayed(k, &first);
    if (exact)
        list_sums_of_parts(k);
    moe_int_run_clear(&first);
    moe_layer_destroy(&layer);
    return status;
}
