#include "check/scout/fast.h"
#include "check/verdict/result.h"
#include "core/available.h"
#include "core/elements.h"
#include "reference/run.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Unless it is asked for by name, a run may take so long, where a thread multiplies at so many
 * FLOP/s, and a third of the memory. */
#define SECONDS    60.0
#define FLOP_RATE  2e10
#define MOST_SHARE (1.0 / 3)
/* NMSE: fp32 makes some 1e-13 of sums, 1e-11 of many tokens' sums. */
#define NEAR 1e-8

/* Not what it multiplies 16-bit types by where the processor can, which errs as much as they do. */
static const char usual[] = "openblas:fp32";

static const char *name_of(const moe_check_params *params) {
    return params->scout ? params->scout : usual;
}

/* Are they one backend, whatever their variants? */
static bool is_same(const char *a, const char *b) {
    const size_t length = strcspn(a, ":");
    return length == strcspn(b, ":") && strncmp(a, b, length) == 0;
}

static bool is_usable(const moe_backends *all, const char *spec) {
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        const moe_backend_info info = moe_backends_info(all, i);
        if (is_same(info.name, spec))
            return info.status == MOE_OK;
    }
    return false;
}

/* Three copies of the parameters in fp32: the backend's, its gradients, those gradients here. */
static double bytes_of(const moe_layer_desc *desc) {
    const double n = (double)(moe_h_width(desc, desc->n) + desc->n) * (double)desc->E;
    const double shared = (double)(moe_h_width(desc, desc->n_shared) + desc->n_shared);
    return 12 * (n + shared) * (double)desc->d;
}

static bool is_affordable(const moe_int_fast_task *k) {
    const moe_problem *problem = k->problem;
    const int64_t pairs = k->routing->plan->offsets[problem->layer.E];
    double flops = moe_layer_flops(&problem->layer, problem->T, pairs, 0);
    if (problem->pass & MOE_PASS_BWD)
        flops += moe_layer_flops(&problem->layer, problem->T, pairs, 1);
    const int64_t memory = moe_int_available_bytes();
    return flops <= SECONDS * FLOP_RATE * moe_int_thread_count(k->params->threads) &&
           (memory < 0 || bytes_of(&problem->layer) <= MOST_SHARE * (double)memory);
}

bool moe_int_fast_wanted(const moe_int_fast_task *k, const char *judged) {
    const moe_check_params *params = k->params;
    if (!params->backends || !k->truth->sampled || is_same(judged, name_of(params)))
        return false;
    return params->scout ? strcmp(params->scout, "none") != 0
                         : is_usable(params->backends, usual) && is_affordable(k);
}

/* Adds what passes back through the router, dz W_r, where the backend was given the plan: dX is
 * [T][d] in fp32. */
static moe_status add_router(const moe_int_fast_task *k, const moe_tensor *dS, moe_tensor *dX) {
    const moe_problem *problem = k->problem;
    const moe_plan *plan = k->routing->plan;
    const int64_t T = problem->T, d = problem->layer.d, R = plan->n_experts;
    double *dz = malloc((size_t)(T * R) * sizeof *dz);
    double *own = moe_int_doubles(dS, 0, plan->n_pairs);
    double *w = moe_int_doubles(&problem->in.t[MOE_T_W_R], 0, R * d);
    moe_status status = dz && own && w ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = moe_route_backward(&problem->layer, k->routing->logits, plan, own, dz);
    const int64_t rows = status ? 0 : T;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        float *row = (float *)dX->data + t * d;
        for (int64_t e = 0; e < R; e++)
            for (int64_t i = 0; dz[t * R + e] != 0 && i < d; i++)
                row[i] += (float)(dz[t * R + e] * w[e * d + i]);
    }
    free(dz);
    free(own);
    free(w);
    return status;
}

/* NMSE of the fast results where the sample has the truth. */
static moe_status distance(const moe_int_part *part, const moe_tensor *fast, double *ret) {
    moe_tensor got;
    moe_status status = moe_int_part_gather(fast, part, &got);
    double d2 = 0, r2 = 0;
    for (int64_t i = 0; !status && i < moe_tensor_count(&got); i++) {
        const double want = ((const double *)part->want.data)[i];
        const double d = moe_load(got.data, got.dtype, (size_t)i) - want;
        if (isnan(want)) /* on the edge of a branch */
            continue;
        d2 += d * d;
        r2 += want * want;
    }
    moe_tensor_destroy(&got);
    *ret = d2 > 0 ? d2 / r2 : 0;
    return status;
}

static moe_status check_near(const moe_int_fast_task *k, const moe_int_fast *f) {
    static const moe_tensor_id ids[] = {MOE_T_O, MOE_T_DS, MOE_T_DX, MOE_T_DW1, MOE_T_DW2};
    const moe_dtype arithmetic = (moe_dtype)f->run.support.arithmetic;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const moe_int_part *part = &k->truth->part[ids[i]];
        double far;
        if (!f->out.t[ids[i]].data || part->layout.groups == 0)
            continue;
        if (distance(part, &f->out.t[ids[i]], &far))
            return MOE_E_NOMEM;
        if (far <= fmax(NEAR, moe_gate_for(ids[i], arithmetic).nmse))
            continue;
        moe_log_send(k->log, MOE_LOG_WARN,
                     "%s is not right itself (%s: NMSE %.1e): what lies far from it is not sought",
                     moe_backend_name(f->backend), moe_tensor_name(ids[i]), far);
        return MOE_E_UNSUPPORTED;
    }
    return MOE_OK;
}

static moe_status refused(const moe_int_fast_task *k, const moe_int_fast *f) {
    if (k->params->scout)
        moe_log_send(k->log, MOE_LOG_WARN, "%s cannot say where to look: %s",
                     moe_backend_name(f->backend), f->notes->why);
    return MOE_E_UNSUPPORTED;
}

static moe_status complete_dX(const moe_int_fast_task *k, moe_int_fast *f) {
    moe_tensor *dX = &f->out.t[MOE_T_DX], *dS = &f->out.t[MOE_T_DS];
    if (!dX->data || !k->routing->logits)
        return MOE_OK;
    moe_status status = moe_tensor_cast(dX, MOE_F32, &f->dX);
    *dX = (moe_tensor){0}; /* without dS there is no knowing what is missing in it */
    if (status || !dS->data)
        return status;
    status = add_router(k, dS, &f->dX);
    *dX = f->dX;
    return status;
}

moe_status moe_int_fast_run(const moe_int_fast_task *k, moe_int_fast *ret) {
    const moe_open_params open = {.threads = k->params->threads, .log = k->log};
    *ret = (moe_int_fast){.problem = *k->problem};
    ret->problem.plan = k->routing->plan;
    ret->problem.masked = NULL; /* the plan has no pairs of theirs */
    moe_status status = moe_int_result_create(&ret->problem, "", "", k->log, &ret->notes);
    if (!status)
        status =
            moe_backend_open(k->params->backends, name_of(k->params), &open, k->log, &ret->backend);
    if (status)
        return status;
    moe_int_run_make(ret->backend, &ret->problem, ret->notes, &ret->run);
    if (!ret->run.usable || ret->notes->verdict >= MOE_VERDICT_FAIL)
        return refused(k, ret);
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->out.t[id] = ret->run.first[id].tensor;
    status = complete_dX(k, ret);
    return status ? status : check_near(k, ret);
}

void moe_int_fast_destroy(moe_int_fast *f) {
    moe_int_run_destroy(&f->run);
    moe_tensor_destroy(&f->dX);
    if (f->backend)
        moe_backend_close(&f->backend);
    moe_check_result_destroy(&f->notes);
}
