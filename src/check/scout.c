#include "check/scout.h"
#include "check/scout/farthest.h"
#include "check/scout/fast.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/progress.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>

static void judge(moe_int_trial *k) {
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        if (k->subject->got.t[id].data && k->truth.part[id].layout.groups > 0)
            moe_int_judge_tensor(k, id, &k->subject->got.t[id], false);
    }
}

/* Judges at the farthest places; what is right there too leaves the first sample's figures. */
static moe_status judge_farthest(moe_int_trial *b, const moe_int_farthest *far, int threads) {
    const moe_check_result before = *b->result;
    const moe_int_rounding rounding = moe_int_rounding_at(b->reading.arithmetic, b->reading.points);
    moe_int_trial k = *b;
    moe_status status =
        moe_int_truth_at(b->subject->problem, &b->routing, &rounding, &far->places, threads,
                         b->first ? &b->first->truth : NULL, b->log, &k.truth);
    if (!status)
        judge(&k);
    if (status || !moe_int_first_failing(b->result)) {
        moe_int_result_restore(b->result, &before);
        moe_int_truth_destroy(&k.truth);
        return status;
    }
    b->sample = b->truth;
    b->truth = k.truth;
    return k.truth.oracle ? moe_int_add_router_part(b) : MOE_OK;
}

static moe_status look(moe_int_trial *b, const moe_int_fast *fast, int threads) {
    b->far = malloc(sizeof *b->far);
    moe_status status = b->far ? moe_int_farthest_find(b->subject->problem, b->routing.plan,
                                                       &b->subject->got, &fast->out, b->far)
                               : MOE_E_NOMEM;
    if (!status)
        status = judge_farthest(b, b->far, threads);
    if (!status)
        snprintf(b->result->scouted, sizeof b->result->scouted, "%s: %s",
                 moe_backend_name(fast->backend), b->far->tensors);
    return status;
}

moe_status moe_int_scout(moe_int_trial *b, const moe_check_params *params) {
    const int threads = moe_int_thread_count(params->threads);
    moe_int_fast fast;
    if (moe_int_first_failing(b->result))
        return MOE_OK;
    if (b->first)
        return b->first->far ? judge_farthest(b, b->first->far, threads) : MOE_OK;
    const moe_int_fast_task task = {b->subject->problem, &b->routing, &b->truth, params, b->log};
    if (!b->finite || !moe_int_fast_wanted(&task, b->result->backend))
        return MOE_OK;
    moe_int_progress(b->progress, "fast run", 0, 2);
    moe_status status = moe_int_fast_run(&task, &fast);
    moe_int_progress(b->progress, "farthest places", 1, 2);
    if (!status)
        status = look(b, &fast, threads);
    moe_int_fast_destroy(&fast);
    return status == MOE_E_UNSUPPORTED ? MOE_OK : status;
}
