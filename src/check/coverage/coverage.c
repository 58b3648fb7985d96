/* What one problem decides of every feature. */
#include "check/coverage/coverage.h"
#include "check/errors/exact.h"
#include "core/elements.h"

#include <stdio.h>
#include <stdlib.h>

static moe_status count_all(const moe_int_view *v, moe_coverage *ret) {
    for (int32_t i = 0; i < moe_int_feature_count; i++) {
        const moe_int_feature *f = &moe_int_features[i];
        ret->decided[i] = f->count(v, f->arg);
        ret->carried[i] = f->carries && f->carries(v, f->arg);
        if (ret->decided[i] < 0)
            return MOE_E_NOMEM;
    }
    ret->counted = true;
    return MOE_OK;
}

/* The router's own choice and b_select in float64. */
static moe_status ask_router(const moe_problem *problem, moe_int_view *v, moe_plan **ret_plan,
                             double **ret_bias) {
    const moe_tensor *b = &problem->in.t[MOE_T_B_SELECT];
    if (!v->logits)
        return MOE_OK;
    if (b->data && !(*ret_bias = moe_int_doubles(b, 0, moe_tensor_count(b))))
        return MOE_E_NOMEM;
    v->b_select = *ret_bias;
    moe_status status = moe_int_view_route(v, v->desc, v->logits, v->b_select, ret_plan);
    v->routed = *ret_plan;
    return status;
}

moe_status moe_int_coverage(const moe_problem *problem, const moe_reference_result *oracle,
                            const double *logits, moe_dtype arithmetic, moe_coverage *ret) {
    moe_case c;
    const bool has_case = moe_case_parse(problem->name, NULL, &c) == MOE_OK;
    moe_plan *routed = NULL;
    double *bias = NULL;
    moe_int_view v = {.problem = problem,
                      .c = has_case ? &c : NULL,
                      .desc = &problem->layer,
                      .T = problem->T,
                      .in = &problem->in,
                      .out = &oracle->out,
                      .logits = problem->plan ? NULL : logits,
                      .plan = oracle->plan,
                      .routed = oracle->plan,
                      .seed = problem->seed,
                      .arithmetic = arithmetic,
                      .exact_h = moe_int_exact_h(&problem->layer, &problem->in, oracle),
                      .exact =
                          moe_int_exact_layer(&problem->layer, &problem->in, oracle, arithmetic)};
    *ret = (moe_coverage){.dtype = problem->dtype};
    moe_status status = ask_router(problem, &v, &routed, &bias);
    if (!status)
        status = count_all(&v, ret);
    moe_plan_destroy(&routed);
    free(bias);
    if (has_case)
        moe_case_destroy(&c);
    return status;
}

void moe_int_coverage_missing(const moe_coverage *coverage, char *ret, size_t size) {
    size_t used = 0;
    ret[0] = '\0';
    for (int32_t i = 0; i < moe_int_feature_count && used < size; i++)
        if (coverage->carried[i] && coverage->decided[i] == 0)
            used += (size_t)snprintf(ret + used, size - used, "%s%s", used ? ", " : "",
                                     moe_int_features[i].name);
}
