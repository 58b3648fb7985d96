#include "check/subject/inputs.h"
#include "backend/front.h"
#include "check/verdict/result.h"

static bool is_input(moe_tensor_id id) {
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

moe_int_inputs moe_int_inputs_of(const moe_problem *problem) {
    moe_int_inputs all = {.plan = moe_int_hash_plan(problem->plan)};
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (is_input((moe_tensor_id)id))
            all.tensor[id] = hash_tensor(&problem->in.t[id]);
    return all;
}

/* An isolated backend could only change the copy that it works with. */
static bool is_unchanged(uint64_t before, const moe_tensor *t, const moe_tensor *seen) {
    return before == hash_tensor(t) && (!seen || before == hash_tensor(seen));
}

static bool plan_is_unchanged(uint64_t before, const moe_plan *plan, const moe_plan *seen) {
    return before == moe_int_hash_plan(plan) && (!seen || before == moe_int_hash_plan(seen));
}

bool moe_int_inputs_unchanged(const moe_int_inputs *before, const moe_problem *problem,
                              const moe_int_run *run, moe_check_result *result) {
    bool unchanged = true;
    for (int i = 0; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        const moe_tensor *seen = run->layer ? moe_int_layer_seen(run->layer, id) : NULL;
        if (!is_input(id) || is_unchanged(before->tensor[id], &problem->in.t[id], seen))
            continue;
        const char *name = moe_tensor_name(id);
        moe_int_entry_fail(moe_int_result_entry(result, name), "the backend changed this input");
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: the backend changed this input", name);
        unchanged = false;
    }
    const moe_plan *seen = run->layer ? moe_int_layer_seen_plan(run->layer) : NULL;
    if (plan_is_unchanged(before->plan, problem->plan, seen))
        return unchanged;
    moe_int_result_set(result, MOE_VERDICT_FAIL, "the backend changed the given plan");
    return false;
}
