/* One rank's bits, which `pairs` promises, and the same bits whatever rank is late. */
#include "check/ranks/ranks.h"
#include "check/subject/run.h"
#include "check/verdict/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t delay_us = 1500; /* most before each exchange */

/* Sums of parts that ranks made by themselves: of other associations than one rank's. */
static bool is_sum_of_parts(moe_tensor_id id) {
    return id == MOE_T_DW1_SHARED || id == MOE_T_DW2_SHARED;
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
        if (!a->data || !b->data || (counts && is_sum_of_parts(id)))
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

/* The same ranks, or one, with other delays. */
static moe_status run_other(const moe_int_ranks *k, bool alone, const moe_int_run *want) {
    moe_ep_params ep = *k->ep;
    moe_backend *backend = NULL;
    moe_layer *layer = NULL;
    moe_int_run run_of = {.layer = NULL};
    if (alone) {
        ep.ranks = 1;
        ep.tokens = NULL;
        ep.transport = NULL;
        ep.fault = NULL;
    } else {
        ep.delay_us = delay_us;
    }
    moe_status status = moe_ep_open(k->inner, k->count, &ep, k->log, &backend);
    if (!status)
        status = run(k, backend, &run_of, &layer);
    const int32_t promise = run_of.support.deterministic;
    if (!status && alone)
        compare(k, want, &run_of, "one rank's", promise & MOE_PROMISE_BATCH_INVARIANT, true);
    else if (!status)
        compare(k, &run_of, want, "without delays", promise & MOE_PROMISE_REPEATS, false);
    if (!status && !alone && promise)
        k->found->repeats++;
    moe_int_run_clear(&run_of);
    moe_layer_destroy(&layer);
    moe_backend_close(&backend);
    return status;
}

moe_status moe_int_ranks_same(const moe_int_ranks *k, moe_backend *backend) {
    moe_layer *layer = NULL;
    moe_int_run first = {.layer = NULL};
    moe_status status = run(k, backend, &first, &layer);
    if (!status && k->ep->combine == MOE_EP_PAIRS && k->ep->wire < 0)
        status = run_other(k, true, &first);
    if (!status)
        status = run_other(k, false, &first);
    if (k->problem->layer.n_shared && k->problem->pass & MOE_PASS_BWD)
        snprintf(k->found->not_same, sizeof k->found->not_same, "dW1_shared, dW2_shared");
    moe_int_run_clear(&first);
    moe_layer_destroy(&layer);
    return status;
}
