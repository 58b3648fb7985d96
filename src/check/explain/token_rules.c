/* Tokens that wrong indices lead to. */
#include "check/explain/token_rules.h"
#include "check/explain/local.h"
#include "check/explain/pair_rules.h"
#include "route/route.h"

static int64_t from_the_end(const moe_plan *plan, int64_t p, int64_t size) {
    (void)size;
    return plan->n_tokens - 1 - plan->token[p];
}

static int64_t row_over_slots(const moe_plan *plan, int64_t p, int64_t size) {
    (void)size;
    return plan->n_pairs >= plan->n_tokens ? p / (plan->n_pairs / plan->n_tokens) : -1;
}

static int64_t row_around(const moe_plan *plan, int64_t p, int64_t size) {
    (void)size;
    return p % plan->n_tokens;
}

/* The sort that was meant to lead from rows to slots, taken for the one that leads back: rule
 * number `size` is the slot's row. */
static int64_t inverse_over_slots(const moe_plan *plan, int64_t p, int64_t size) {
    const int64_t row = moe_int_pair_rules[size].of(plan, p);
    return row < 0 ? -1 : row_over_slots(plan, row, 0);
}

/* The number of p's slot, mod T, where its token should stand; rule number `size` leads to it. */
static int64_t slot_around(const moe_plan *plan, int64_t p, int64_t size) {
    const int64_t slot = moe_int_pair_rules[size].of(plan, p);
    return slot < 0 ? -1 : slot % plan->n_tokens;
}

static int64_t end_of_expert(const moe_plan *plan, int64_t p, int64_t size) {
    const int64_t e = moe_int_plan_expert_of(plan, p);
    (void)size;
    return plan->token[plan->offsets[e] + plan->offsets[e + 1] - 1 - p];
}

static int64_t end_of_rows(const moe_plan *plan, int64_t p, int64_t size) {
    (void)size;
    return plan->token[plan->n_pairs - 1 - p];
}

/* [size][rest] for [rest][size]. */
static int64_t turned(const moe_plan *plan, int64_t p, int64_t size) {
    const int64_t t = plan->token[p], rest = plan->n_tokens / size;
    return plan->n_tokens % size == 0 && rest > 1 ? t % size * rest + t / size : -1;
}

const moe_int_token_rule moe_int_token_rules[MOE_INT_TOKEN_RULES] = {
    {from_the_end, 0, "of the token at its place from the end"},
    {row_over_slots, 0, "of the token that its row's number over K is: rows are not sorted"},
    {row_around, 0, "of the token that its row's number is, mod T"},
    {inverse_over_slots, MOE_INT_RULE_SLOT_OF_ROW,
     "by the sort's inverse, from slots to rows, not from rows to slots"},
    {inverse_over_slots, MOE_INT_RULE_SLOT_OF_ROW_BY_WEIGHT,
     "by the sort's inverse, from slots (a token's by weight) to rows, not from rows to slots"},
    {slot_around, MOE_INT_RULE_ROW_OF_SLOT, "of the token that its slot's number is, mod T"},
    {slot_around, MOE_INT_RULE_ROW_OF_SLOT_BY_WEIGHT,
     "of the token that its slot's number is (a token's by weight), mod T"},
    {end_of_expert, 0, "of the row at its place from the other end of its expert's"},
    {end_of_rows, 0, "of the row at its place from the other end of all"},
    {turned, 2, "as if X were [2][T/2], turned"},
    {turned, 4, "as if X were [4][T/4], turned"},
    {turned, 8, "as if X were [8][T/8], turned"},
    {turned, 16, "as if X were [16][T/16], turned"},
};
