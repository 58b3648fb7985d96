/* The routing of a subject that does not say which experts it chose: guessed from its O. */
#include "check/untold.h"
#include "check/routing/alternatives.h"
#include "check/verdict/result.h"

#include <stdlib.h>
#include <string.h>

/* The tokens and what is known of them; `drops` as in moe_int_guess_params. */
static moe_status guess(const moe_int_guess_params *params, const moe_log *log,
                        moe_check_result *result, moe_int_routing *ret) {
    moe_int_guess found;
    moe_status status = moe_int_routing_guess(params, log, &found);
    if (!status && found.plan)
        status = moe_int_routing_settle(params->problem, found.plan,
                                        found.partly ? MOE_INT_GUESSED_PARTLY : MOE_INT_GUESSED,
                                        params->reading, params->threads, log, result, ret);
    moe_plan_destroy(&found.plan);
    return status;
}

moe_status moe_int_untold_routing(const moe_int_subject *subject, const moe_int_routing *routing,
                                  const moe_int_truth *truth, const moe_int_reading *reading,
                                  int threads, const moe_log *log, moe_check_result *result,
                                  moe_int_routing *ret) {
    const moe_problem *problem = subject->problem;
    const moe_tensor *O = &subject->got.t[MOE_T_O];
    const moe_check_result before = *result;
    int64_t *suspects = NULL;
    moe_int_guess_params params = {.problem = problem,
                                   .routing = routing,
                                   .O = O,
                                   .reading = reading,
                                   .drops = !moe_int_chooses_by_token(&problem->layer),
                                   .threads = threads};
    memset(ret, 0, sizeof *ret);
    if (problem->plan || subject->plan || !O->data ||
        moe_tensor_count(O) != problem->T * problem->layer.d)
        return MOE_OK;
    moe_status status = moe_int_truth_suspects(problem, routing, truth, O, reading, threads,
                                               &suspects, &params.n_suspects);
    params.suspects = suspects;
    if (!status)
        status = guess(&params, log, result, ret);
    if (!status && params.drops && ret->wrong > 0) { /* a lost row is no routing: swaps alone */
        moe_int_routing_destroy(ret);
        moe_int_result_restore(result, &before);
        params.drops = false;
        status = guess(&params, log, result, ret);
    }
    free(suspects);
    return status;
}
