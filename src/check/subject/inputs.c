#include "check/subject/inputs.h"
#include "backend/front.h"
#include "check/verdict/result.h"
#include "core/bytes.h"

bool moe_int_is_given(moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    return role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM;
}

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

void moe_int_inputs_note(const moe_problem *problem, moe_int_inputs *ret) {
    *ret = (moe_int_inputs){.plan = moe_int_hash_plan(problem->plan)};
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (moe_int_is_given((moe_tensor_id)id))
            ret->tensor[id] = hash_tensor(&problem->in.t[id]);
}

static bool tensor_is_kept(const moe_int_inputs *before, const moe_problem *problem,
                           const moe_layer *layer, moe_tensor_id id) {
    const moe_tensor *seen = layer ? moe_int_layer_seen(layer, id) : NULL;
    return before->tensor[id] == hash_tensor(&problem->in.t[id]) &&
           (!seen || before->tensor[id] == hash_tensor(seen));
}

static bool plan_is_kept(const moe_int_inputs *before, const moe_problem *problem,
                         const moe_layer *layer) {
    const moe_plan *seen = layer ? moe_int_layer_seen_plan(layer) : NULL;
    return before->plan == moe_int_hash_plan(problem->plan) &&
           (!seen || before->plan == moe_int_hash_plan(seen));
}

bool moe_int_inputs_kept(const moe_int_inputs *before, const moe_problem *problem,
                         const moe_layer *layer, moe_check_result *result) {
    bool kept = true;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!moe_int_is_given((moe_tensor_id)id) ||
            tensor_is_kept(before, problem, layer, (moe_tensor_id)id))
            continue;
        const char *name = moe_tensor_name((moe_tensor_id)id);
        moe_int_entry_fail(moe_int_result_entry(result, name), "the backend changed this input");
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: the backend changed this input", name);
        kept = false;
    }
    if (plan_is_kept(before, problem, layer))
        return kept;
    moe_int_result_set(result, MOE_VERDICT_FAIL, "the backend changed the given plan");
    return false;
}
