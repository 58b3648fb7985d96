/* Inputs belong to the caller: their bits before and after. */
#include "check/subject/inputs.h"
#include "check/subject/guard.h"
#include "check/verdict/result.h"

static uint64_t hash_tensor(const moe_tensor *t) {
    return t->data ? moe_int_hash(t->data, (size_t)moe_tensor_bytes(t)) : 0;
}

uint64_t moe_int_hash_plan(const moe_plan *plan) {
    if (!plan)
        return 0;
    size_t pairs = (size_t)plan->n_pairs;
    uint64_t h[] = {
        moe_int_hash(plan->offsets, ((size_t)plan->n_experts + 1) * sizeof *plan->offsets),
        moe_int_hash(plan->token, pairs * sizeof *plan->token),
        moe_int_hash(plan->weight, pairs * sizeof *plan->weight),
        moe_int_hash(plan->token_offsets,
                     ((size_t)plan->n_tokens + 1) * sizeof *plan->token_offsets),
        moe_int_hash(plan->pair_of_token, pairs * sizeof *plan->pair_of_token)};
    return moe_int_hash(h, sizeof h);
}

void moe_int_inputs_note(const moe_problem *problem, moe_int_inputs_mark *ret) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->tensor[id] = hash_tensor(&problem->in.t[id]);
    ret->plan = moe_int_hash_plan(problem->plan);
}

bool moe_int_inputs_unchanged(const moe_problem *problem, const moe_int_inputs_mark *mark,
                              moe_check_result *result) {
    bool unchanged = true;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (mark->tensor[id] == hash_tensor(&problem->in.t[id]))
            continue;
        const char *name = moe_tensor_name((moe_tensor_id)id);
        moe_int_entry_fail(moe_int_result_entry(result, name), "the backend changed this input");
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: the backend changed this input", name);
        unchanged = false;
    }
    if (mark->plan == moe_int_hash_plan(problem->plan))
        return unchanged;
    moe_int_result_set(result, MOE_VERDICT_FAIL, "the backend changed the given plan");
    return false;
}
