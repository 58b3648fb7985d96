#include "check/ranks/ranks.h"
#include "check/verdict/result.h"
#include "core/coded.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_LIMIT_S    10.0
#define LIMIT_S_PER_FLOP 3e-9 /* plain loops, forward twice */

void moe_int_ranks_fail(moe_ranks *found, moe_verdict verdict, const char *format, ...) {
    if (verdict <= found->verdict)
        return;
    found->verdict = verdict;
    va_list args;
    va_start(args, format);
    vsnprintf(found->why, sizeof found->why, format, args);
    va_end(args);
}

/* What ranks of all processes found: rows and bytes of all, and the worst verdict's sentence. Where
 * one has found something, the others must not go on and wait for it. */
static moe_status agree(const moe_int_ranks *k, const moe_backend *backend) {
    moe_ranks *found = k->found;
    int32_t first, count;
    moe_ep_place(backend, &first, &count);
    if (count == k->ep->ranks || moe_backend_fault(backend)[0])
        return MOE_OK;
    moe_ranks *all = calloc((size_t)k->ep->ranks, sizeof *all);
    moe_status status =
        all ? moe_ep_gather(backend, found, (int64_t)sizeof *found, all) : MOE_E_NOMEM;
    if (!status)
        found->rows = found->bytes = 0;
    for (int32_t q = 0; !status && q < k->ep->ranks; q++) {
        found->rows += all[q].rows;
        found->bytes += all[q].bytes;
        moe_int_ranks_fail(found, all[q].verdict, "%s", all[q].why);
    }
    free(all);
    return status;
}

static moe_status look(const moe_int_ranks *k, moe_backend *backend, const moe_check_params *params,
                       moe_check_result *r) {
    const bool failed = r->verdict >= MOE_VERDICT_FAIL;
    moe_status status = moe_int_ranks_payload(k, backend);
    if (!status && k->ep->wire == MOE_EP_WIRE_E4M3)
        status = moe_int_ranks_coded(k, backend);
    if (!status)
        status = agree(k, backend);
    if (!status && k->found->verdict < MOE_VERDICT_FAIL && !(failed && params->no_explanation))
        status = moe_int_ranks_same(k, backend, r);
    const char *fault = moe_backend_fault(backend);
    if (status && fault[0]) {
        moe_int_ranks_fail(k->found, MOE_VERDICT_FAIL, "%s", fault);
        return MOE_OK;
    }
    return status;
}

/* With tokens that their coding leaves as they are, a layer whose wire has 8 bits is the layer on
 * one device, and all that judges one judges it; golden results are those of other tokens. */
static moe_status settle(const moe_problem *problem, const moe_ep_params *ep, const moe_log *log,
                         moe_problem *ret) {
    const moe_tensor *X = &problem->in.t[MOE_T_X];
    *ret = *problem;
    ret->split.ranks = ep->ranks;
    ret->split.tp = 1;
    ret->split.combine = ep->combine;
    ret->in.t[MOE_T_X] = (moe_tensor){0};
    moe_status status = moe_tensor_cast(X, X->dtype, &ret->in.t[MOE_T_X]);
    if (status)
        return moe_fail(log, status, "no memory for another X of %lld tokens",
                        (long long)problem->T);
    if (ep->wire != MOE_EP_WIRE_E4M3)
        return MOE_OK;
    const moe_tensor *settled = &ret->in.t[MOE_T_X];
    moe_int_settle_rows(settled->data, settled->dtype, problem->T, problem->layer.d);
    if (memcmp(settled->data, X->data, (size_t)moe_tensor_bytes(X)) != 0) {
        ret->expected = (moe_tensors){0};
        ret->expected_plan = NULL;
        ret->block = NULL;
    }
    return status;
}

static double work_of(const moe_problem *p) {
    return moe_layer_flops(&p->layer, p->T, p->T * p->layer.K, 0) +
           moe_layer_flops(&p->layer, p->T, p->T * p->layer.K, 1);
}

moe_status moe_check_ranks(moe_backend *const *inner, int32_t count, const moe_ep_params *ep,
                           const moe_problem *problem, const moe_check_params *params,
                           const moe_log *log, moe_check_result **ret) {
    moe_backend *backend = NULL;
    moe_check_result *r = NULL;
    moe_problem settled;
    moe_ep_params own = *ep; /* time for the experts of ranks that take turns */
    moe_check_params how = params ? *params : (moe_check_params){0};
    how.unwatched = true;
    if (own.limit_s <= 0)
        own.limit_s = LEAST_LIMIT_S + LIMIT_S_PER_FLOP * work_of(problem);
    moe_status status = settle(problem, ep, log, &settled);
    if (!status)
        status = moe_ep_open(inner, count, &own, log, &backend);
    if (!status)
        status = moe_check_backend(backend, &settled, &how, log, &r);
    if (!status) {
        moe_ranks *found = &r->over_ranks;
        const moe_transport *transport = ep->transport ? ep->transport : moe_transport_threads();
        *found = (moe_ranks){.asked = true, .ranks = ep->ranks};
        snprintf(found->transport, sizeof found->transport, "%s", transport->name);
        snprintf(found->combine, sizeof found->combine, "%s", moe_ep_combine_name(ep->combine));
        const moe_int_ranks k = {inner, count, &own, &settled, log, found};
        if (r->verdict == MOE_VERDICT_SKIP)
            found->verdict = MOE_VERDICT_SKIP;
        else if (r->verdict < MOE_VERDICT_ERROR && !moe_backend_fault(backend)[0])
            status = look(&k, backend, &how, r);
        if (found->verdict >= MOE_VERDICT_FAIL)
            moe_int_result_set(r, found->verdict, "%s", found->why);
    }
    moe_backend_close(&backend);
    moe_tensor_destroy(&settled.in.t[MOE_T_X]);
    if (status)
        moe_check_result_destroy(&r);
    else
        *ret = r;
    return status;
}
