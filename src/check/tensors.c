/* All tensors of a trial, in the order of computation. */
#include "check/trial.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/elements.h"
#include "core/progress.h"

#include <math.h>
#include <string.h>

static bool has_any(const moe_tensor *t, bool (*is)(double)) {
    enum { CHUNK = 1024, MANY = 1 << 20 }; /* elements: worth a team of threads */
    const int64_t count = moe_tensor_count(t);
    bool any = false;
#pragma omp parallel for schedule(static) if (count >= MANY) reduction(|| : any)
    for (int64_t i = 0; i < count; i += CHUNK) {
        const int64_t n = any ? 0 : count - i < CHUNK ? count - i : CHUNK;
        double v[CHUNK];
        moe_int_load(t, i, n, v);
        for (int64_t k = 0; k < n; k++)
            any = any || is(v[k]);
    }
    return any;
}

/* Are there numbers of that kind among the inputs and parameters? */
static bool any_input(const moe_problem *problem, bool (*is)(double)) {
    bool any = false;
    for (int id = 0; !any && id < MOE_T_COUNT; id++)
        if (problem->in.t[id].data)
            any = has_any(&problem->in.t[id], is);
    return any;
}

static bool is_not_finite(double v) {
    return !isfinite(v);
}

static bool is_nan(double v) {
    return isnan(v);
}

moe_tensor_verdict *moe_int_first_failing(moe_check_result *r) {
    moe_tensor_verdict *v = moe_int_result_find(r, "topk_index");
    if (v && v->verdict == MOE_VERDICT_FAIL)
        return v;
    for (size_t i = 0; i < moe_int_order_count; i++) {
        v = moe_int_result_find(r, moe_tensor_name(moe_int_order[i]));
        if (v && v->verdict == MOE_VERDICT_FAIL)
            return v;
    }
    return NULL;
}

bool moe_int_inputs_finite(const moe_problem *problem) {
    return !any_input(problem, is_not_finite);
}

void moe_int_judge_tensors(moe_int_trial *b) {
    const moe_problem *problem = b->subject->problem;
    const bool scan = b->truth.sampled && b->finite;
    b->infinite_only = !b->finite && !any_input(problem, is_nan);
    for (size_t i = 0; i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        moe_int_progress(b->progress, "comparison", (int64_t)i, (int64_t)moe_int_order_count);
        if (b->subject->got.t[id].data && !(problem->plan && id == MOE_T_S))
            moe_int_judge_tensor(b, id, &b->subject->got.t[id], scan);
        if (b->first && moe_int_first_failing(b->result))
            return;
    }
}

/* The stages inside, as far as the subject has them: a wrong one is a failure even where what is
 * made of it is right, since backward and later fetches start from it. */
void moe_int_judge_stages(moe_int_trial *b) {
    for (size_t i = 0; b->subject->fetch && i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        moe_tensor stage;
        if (!moe_int_is_inner_stage(id) || b->subject->got.t[id].data ||
            !b->truth.oracle->out.t[id].data ||
            b->subject->fetch(b->subject->user, id, b->result, &stage) != MOE_OK)
            continue;
        moe_int_judge_tensor(b, id, &stage, false);
        moe_tensor_destroy(&stage);
    }
}
