/* Is a large layer's run wrong at the tokens and hidden units that will be judged first? Then runs
 * of other inputs, which take as long as everything else there, would tell nothing more. */
#include "check/trial.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/progress.h"
#include "reference/run.h"

#include <stdlib.h>
#include <string.h>

static moe_status sample(moe_int_trial *b, int threads) {
    const moe_problem *problem = b->subject->problem;
    const moe_int_rounding rounding = moe_int_rounding_at(b->reading.arithmetic, b->reading.points);
    b->truth = (moe_int_truth){.in = problem->in, .sampled = true};
    const bool backward = problem->pass & MOE_PASS_BWD;
    if (!backward)
        b->truth.in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = moe_int_sample_tokens(problem, &b->routing, &rounding, threads, NULL,
                                              &b->subject->got, b->log, &b->truth);
    if (!status && backward)
        status = moe_int_sample_units(problem, &b->routing, &rounding, threads, &b->truth);
    return status ? status : moe_int_add_router_part(b);
}

static moe_status judge(moe_int_trial *b) {
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        const moe_tensor *got = &b->subject->got.t[id];
        if (!got->data || b->truth.part[id].layout.groups == 0)
            continue;
        moe_int_judge_tensor(b, id, got, false);
        const moe_tensor_verdict *v = moe_int_result_entry(b->result, moe_tensor_name(id));
        if (v->verdict == MOE_VERDICT_ERROR)
            return moe_fail(b->log, MOE_E_NOMEM, "%s: %s", v->name, v->why);
    }
    return MOE_OK;
}

/* Another recipe may explain what only rounding makes; other inputs are then still worth a run. */
static bool is_wrong(moe_int_trial *b) {
    const moe_dtype arithmetic = b->reading.arithmetic;
    moe_int_truth_range(arithmetic, &b->truth);
    return !b->truth.out_of_range[0] && moe_int_first_failing(b->result) &&
           !(moe_int_is_low(arithmetic) && moe_int_may_be_rounding(b->result, b->subject->problem));
}

moe_status moe_int_glance(const moe_int_subject *subject, const moe_check_params *params,
                          const moe_log *log, bool *ret_wrong, moe_int_truth *ret_truth) {
    const moe_problem *problem = subject->problem;
    const moe_plan *plan = problem->plan ? problem->plan : subject->plan;
    const int threads = moe_int_thread_count(params->threads);
    moe_int_trial b = {.subject = subject,
                       .reading = {subject->arithmetic, moe_int_recipe_points(params, problem)},
                       .log = log};
    *ret_wrong = false;
    if (problem->cancels || !plan || !moe_int_wants_sample(problem, plan, params))
        return MOE_OK;
    moe_int_progress(params->progress, "oracle", 0, 0);
    moe_status status = moe_int_result_create(problem, "", "", log, &b.result);
    if (!status)
        status = moe_int_routing_settle(problem, subject->plan, MOE_INT_TOLD, &b.reading, threads,
                                        log, b.result, &b.routing);
    if (!status && b.routing.plan)
        status = sample(&b, threads);
    if (!status && b.truth.oracle)
        status = judge(&b);
    if (!status && b.truth.oracle)
        *ret_wrong = is_wrong(&b);
    *ret_truth = b.truth;
    moe_int_routing_destroy(&b.routing);
    moe_check_result_destroy(&b.result);
    return status;
}
