/* A whole problem through the reference. */
#include "layer/problem.h"
#include "moeref/reference.h"

moe_status moe_reference_problem(const moe_problem *problem, int32_t threads, const moe_log *log,
                                 moe_reference_result **ret) {
    moe_tensors in = problem->in;
    moe_plan *masked = NULL;
    moe_reference_params params = {.tokens = problem->T,
                                   .precision = MOE_F64,
                                   .threads = threads,
                                   .plan = problem->plan,
                                   .plan_given = problem->plan != NULL,
                                   .seed = problem->seed};
    moe_status status = MOE_OK;
    if (!(problem->pass & MOE_PASS_BWD))
        in.t[MOE_T_DO] = (moe_tensor){0};
    if (problem->masked && !problem->plan) {
        status = moe_reference_route(&problem->layer, &in, &params, log, NULL, &masked);
        if (!status)
            status = moe_int_mask_plan(problem, &masked);
        params.plan = masked;
    }
    if (!status)
        status = moe_reference_run(&problem->layer, &in, &params, log, ret);
    moe_plan_destroy(&masked);
    return status;
}
