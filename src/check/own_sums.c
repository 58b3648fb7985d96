/* Results beside the subject's own stages: sums, and runs that differ. */
#include "check/precision.h"
#include "check/trial.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"

#include <string.h>

/* The subject's own stage, which it may have to be asked for. MOE_E_UNSUPPORTED: it has none. */
static moe_status own_stage(const moe_int_trial *b, moe_tensor_id id, bool *fetched,
                            moe_tensor *ret) {
    *ret = b->subject->got.t[id];
    *fetched = !ret->data && b->subject->fetch && !b->subject->drifts &&
               b->subject->fetch(b->subject->user, id, b->result, ret) == MOE_OK;
    return ret->data ? MOE_OK : MOE_E_UNSUPPORTED;
}

/* A tensor that may be held against the subject's own terms. */
static moe_tensor_verdict *passed(const moe_int_trial *b, moe_tensor_id id) {
    moe_tensor_verdict *v = moe_int_result_find(b->result, moe_tensor_name(id));
    return v && v->verdict == MOE_VERDICT_PASS ? v : NULL;
}

static const moe_plan *plan_of(const moe_int_trial *b) {
    return b->subject->problem->plan ? b->subject->problem->plan : b->subject->plan;
}

moe_status moe_int_judge_own_O(const moe_int_trial *b) {
    const moe_problem *problem = b->subject->problem;
    const moe_tensor *got = b->subject->got.t;
    moe_tensor_verdict *O = passed(b, MOE_T_O);
    moe_tensor Y;
    bool fetched;
    if (problem->layer.n_shared || problem->layer.n_zero)
        return MOE_OK;
    if (!O || !plan_of(b) || !got[MOE_T_S].data || (b->reading.points & MOE_POINT_ADD_O) ||
        own_stage(b, MOE_T_Y, &fetched, &Y))
        return MOE_OK;
    moe_status status = moe_int_judge_combine(problem, &b->reading, plan_of(b), &got[MOE_T_S], &Y,
                                              &got[MOE_T_O], O);
    if (fetched)
        moe_tensor_destroy(&Y);
    return status;
}

static moe_status judge_dX(const moe_int_trial *b) {
    const moe_problem *problem = b->subject->problem;
    const moe_tensors *got = &b->subject->got;
    moe_tensor_verdict *dX = passed(b, MOE_T_DX);
    const uint32_t rounded = MOE_POINT_ADD_DX | MOE_POINT_DLOGITS;
    moe_tensor dXp;
    bool fetched;
    if (!dX || !plan_of(b) || !got->t[MOE_T_S].data || (b->reading.points & rounded) ||
        (!problem->plan && !got->t[MOE_T_DS].data) || own_stage(b, MOE_T_DXP, &fetched, &dXp))
        return MOE_OK;
    moe_status status =
        moe_int_judge_dX(problem, &b->reading, plan_of(b), &b->routing, got, &dXp, dX);
    if (fetched)
        moe_tensor_destroy(&dXp);
    return status;
}

/* Sums against the subject's own terms, where those can be had. */
moe_status moe_int_judge_sums(const moe_int_trial *b) {
    const moe_tensor *got = b->subject->got.t;
    const moe_problem *problem = b->subject->problem;
    moe_tensor_verdict *dW_r = passed(b, MOE_T_DW_R);
    moe_status status = MOE_OK;
    if (!moe_int_is_low(b->reading.arithmetic))
        return MOE_OK;
    if (dW_r && got[MOE_T_DS].data && !(b->reading.points & MOE_POINT_DLOGITS))
        status = moe_int_judge_dlogits(problem, &b->reading, &b->routing, &got[MOE_T_DS],
                                       &got[MOE_T_DW_R], dW_r);
    if (!status)
        status = moe_int_judge_own_O(b);
    if (!status && !problem->layer.n_shared && !problem->layer.n_zero)
        status = judge_dX(b);
    return status;
}

/* Are results right, and the stages that are not of another run than theirs? Then it is that run
 * which has to be explained. */
bool moe_int_only_drifts(const moe_int_trial *b) {
    for (size_t i = 0; b->subject->drifts && i < b->result->n_tensors; i++) {
        const moe_tensor_verdict *v = &b->result->tensor[i];
        bool inner = false;
        for (size_t k = 0; k < moe_int_order_count; k++)
            inner |= strcmp(v->name, moe_tensor_name(moe_int_order[k])) == 0 &&
                     moe_int_is_inner_stage(moe_int_order[k]);
        if (v->verdict == MOE_VERDICT_FAIL && !inner)
            return false;
    }
    return b->subject->drifts;
}
