/* Pairs that wrong indices lead to. */
#include "check/explain/pair_rules.h"
#include "check/explain/local.h"
#include "route/route.h"

/* Number of pair p among the slots of all tokens. */
static int64_t slot_of(const moe_plan *plan, int64_t p) {
    int64_t slot = plan->token_offsets[plan->token[p]];
    while (plan->pair_of_token[slot] != p)
        slot++;
    return slot;
}

static int64_t at_slot(const moe_plan *plan, int64_t slot) {
    return slot < plan->n_pairs ? plan->pair_of_token[slot] : -1;
}

static int64_t slot_for_row(const moe_plan *plan, int64_t p) {
    return slot_of(plan, p);
}

static int64_t row_for_slot(const moe_plan *plan, int64_t p) {
    return at_slot(plan, p);
}

/* Slots [K][T] for [T][K], and back: K is what all tokens have, or this layout is none. */
static int64_t slots_by_place(const moe_plan *plan, int64_t p) {
    const int64_t t = plan->token[p];
    return at_slot(plan, (slot_of(plan, p) - plan->token_offsets[t]) * plan->n_tokens + t);
}

static int64_t slots_by_token(const moe_plan *plan, int64_t p) {
    const int64_t slot = slot_of(plan, p), K = plan->n_pairs / plan->n_tokens;
    const int64_t to = slot % plan->n_tokens * K + slot / plan->n_tokens;
    return K > 0 && plan->n_pairs % plan->n_tokens == 0 ? at_slot(plan, to) : -1;
}

static int64_t token_for_slot(const moe_plan *plan, int64_t p) {
    return at_slot(plan, plan->token[p]);
}

static int64_t token_for_row(const moe_plan *plan, int64_t p) {
    return plan->token[p] < plan->n_pairs ? plan->token[p] : -1;
}

static int64_t mirrored(const moe_plan *plan, int64_t p) {
    const int64_t e = moe_int_plan_expert_of(plan, p);
    return plan->offsets[e] + plan->offsets[e + 1] - 1 - p;
}

/* How many slots each token has; 0: not all have as many. */
static int64_t slots_of_each(const moe_plan *plan) {
    const int64_t K = plan->n_tokens ? plan->n_pairs / plan->n_tokens : 0;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        if (plan->token_offsets[t + 1] - plan->token_offsets[t] != K)
            return 0;
    return K;
}

/* As slot_for_row and row_for_slot, where a token's slots come by weight, the largest first. */
static int64_t slot_for_row_by_weight(const moe_plan *plan, int64_t p) {
    const int64_t K = slots_of_each(plan);
    return K ? plan->token[p] * K + moe_int_rank_of(plan, p) : -1;
}

static int64_t row_for_slot_by_weight(const moe_plan *plan, int64_t p) {
    const int64_t K = slots_of_each(plan);
    for (int64_t k = 0; k < K; k++) {
        const int64_t q = plan->pair_of_token[p / K * K + k];
        if (moe_int_rank_of(plan, q) == p % K)
            return q;
    }
    return -1;
}

const moe_int_pair_rule moe_int_pair_rules[MOE_INT_PAIR_RULES] = {
    {"the row that has its number among the tokens' slots", slot_for_row},
    {"the slot that has the number of its row", row_for_slot},
    {"the slot at its place where all tokens' first slots come first", slots_by_place},
    {"the slot at its place where those of a token come together", slots_by_token},
    {"the slot that has the number of its token", token_for_slot},
    {"the row that has the number of its token", token_for_row},
    {"the row at its place from the other end of its expert's", mirrored},
    {"the row that has its number among the slots, a token's by weight", slot_for_row_by_weight},
    {"the slot, a token's by weight, that has the number of its row", row_for_slot_by_weight},
};
