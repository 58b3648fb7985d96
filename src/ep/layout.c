/* Who sends how much to whom, from plans alone. */
#include "core/coded.h"
#include "moeref/ep.h"

#include <stdlib.h>
#include <string.h>

const char *moe_ep_combine_name(int32_t combine) {
    static const char *const names[MOE_EP_COMBINE_COUNT] = {"pairs", "ranks"};
    return combine >= 0 && combine < MOE_EP_COMBINE_COUNT ? names[combine] : "?";
}

const char *moe_ep_phase_name(int32_t phase) {
    static const char *const names[MOE_EP_PHASE_COUNT] = {
        [MOE_EP_COUNTS] = "counts",
        [MOE_EP_DISPATCH] = "dispatch",
        [MOE_EP_WEIGHTS] = "weights",
        [MOE_EP_COMBINE] = "combine",
        [MOE_EP_DISPATCH_BACK] = "backward dispatch",
        [MOE_EP_COMBINE_BACK] = "backward combine",
        [MOE_EP_WEIGHT_GRADIENTS] = "weight gradients",
        [MOE_EP_SUMS] = "sums",
        [MOE_EP_RESULTS] = "results",
    };
    return phase >= 0 && phase < MOE_EP_PHASE_COUNT ? names[phase] : "?";
}

int64_t moe_ep_first_expert(int64_t experts, int32_t ranks, int32_t rank) {
    return rank * experts / ranks;
}

/* Tokens of a plan with a slot of [first, end). */
static int64_t tokens_with(const moe_plan *plan, int64_t first, int64_t end) {
    int64_t count = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        bool found = false;
        for (int64_t k = plan->token_offsets[t]; !found && k < plan->token_offsets[t + 1]; k++) {
            const int64_t row = plan->pair_of_token[k];
            found = row >= plan->offsets[first] && row < plan->offsets[end];
        }
        count += found;
    }
    return count;
}

/* `plan` is over slots, and may have bins behind them. */
static void fill_rank(const moe_plan *plan, int32_t r, moe_ep_layout *l) {
    l->tokens[r] = plan->n_tokens;
    for (int64_t s = 0; s < l->slots; s++)
        l->counts[r * l->slots + s] = plan->offsets[s + 1] - plan->offsets[s];
    for (int32_t q = 0; q < l->ranks; q++) {
        const int64_t first = l->first[q], end = l->first[q + 1], at = (int64_t)r * l->ranks + q;
        l->pairs[at] = plan->offsets[end] - plan->offsets[first];
        l->copies[at] = l->combine == MOE_EP_PAIRS ? l->pairs[at] : tokens_with(plan, first, end);
    }
}

static moe_status make_room(int32_t ranks, int64_t slots, int32_t combine, moe_ep_layout *ret) {
    const size_t R = (size_t)ranks;
    moe_ep_layout l = {.ranks = ranks, .combine = combine, .slots = slots};
    l.first = calloc(R + 1, sizeof *l.first);
    l.tokens = calloc(R, sizeof *l.tokens);
    l.counts = calloc(R * (size_t)slots + 1, sizeof *l.counts);
    l.pairs = calloc(R * R, sizeof *l.pairs);
    l.copies = calloc(R * R, sizeof *l.copies);
    *ret = l;
    return l.first && l.tokens && l.counts && l.pairs && l.copies ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_ep_layout_make(const moe_plan *const *plans, int32_t ranks, int64_t experts,
                              int32_t combine, moe_ep_layout *ret) {
    moe_ep_layout l;
    moe_status status = make_room(ranks, experts, combine, &l);
    for (int32_t r = 0; !status && r <= ranks; r++)
        l.first[r] = moe_ep_first_expert(experts, ranks, r);
    for (int32_t r = 0; !status && r < ranks; r++)
        fill_rank(plans[r], r, &l);
    if (status)
        moe_ep_layout_destroy(&l);
    else
        *ret = l;
    return status;
}

moe_status moe_ep_layout_of_slots(const moe_plan *const *plans, const moe_ep_slots *slots,
                                  int32_t combine, moe_ep_layout *ret) {
    moe_ep_layout l;
    int64_t token = 0;
    moe_status status = make_room(slots->ranks, slots->count, combine, &l);
    if (!status)
        memcpy(l.first, slots->first, ((size_t)slots->ranks + 1) * sizeof *l.first);
    for (int32_t r = 0; !status && r < slots->ranks; r++) {
        moe_plan *plan = NULL;
        status = moe_ep_slots_plan(slots, plans[r], r, token, NULL, &plan);
        if (!status)
            fill_rank(plan, r, &l);
        token += plans[r]->n_tokens;
        moe_plan_destroy(&plan);
    }
    if (status)
        moe_ep_layout_destroy(&l);
    else
        *ret = l;
    return status;
}

void moe_ep_layout_destroy(moe_ep_layout *layout) {
    free(layout->first);
    free(layout->tokens);
    free(layout->counts);
    free(layout->pairs);
    free(layout->copies);
    *layout = (moe_ep_layout){0};
}

int64_t moe_ep_layout_bytes(const moe_ep_layout *l, const moe_ep_wire *wire, int32_t phase,
                            int32_t from, int32_t to) {
    const int64_t at = (int64_t)from * l->ranks + to, pairs = l->pairs[at], copies = l->copies[at];
    const int64_t own = l->first[to + 1] - l->first[to];
    const int64_t input = (int64_t)moe_dtype_size((moe_dtype)wire->input) * wire->d;
    const int64_t output = (int64_t)moe_dtype_size((moe_dtype)wire->output) * wire->d;
    const int64_t weight = (int64_t)moe_dtype_size((moe_dtype)wire->weight);
    const bool dedup = l->combine == MOE_EP_RANKS;
    const int64_t back = (int64_t)to * l->ranks + from; /* what came is what goes back */
    switch ((int)phase) {
    case MOE_EP_COUNTS:
        return (own + dedup) * (int64_t)sizeof(int64_t);
    case MOE_EP_DISPATCH:
        return copies * (wire->coded ? moe_int_coded_bytes(wire->d) : input);
    case MOE_EP_DISPATCH_BACK:
        return copies * input;
    case MOE_EP_WEIGHTS:
        return pairs * (weight + (dedup ? (int64_t)sizeof(int32_t) : 0));
    case MOE_EP_COMBINE:
    case MOE_EP_COMBINE_BACK:
        return l->copies[back] * output;
    case MOE_EP_WEIGHT_GRADIENTS:
        return l->pairs[back] * weight;
    default:
        return 0;
    }
}
