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

static int32_t owner_of(int64_t experts, int32_t ranks, int64_t expert) {
    int32_t q = (int32_t)(expert * ranks / experts);
    while (moe_ep_first_expert(experts, ranks, q + 1) <= expert)
        q++;
    return q;
}

/* Tokens of a plan with an expert of [first, end). */
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

static void fill_rank(const moe_plan *plan, int32_t r, moe_ep_layout *l) {
    int64_t *pairs = l->pairs + (size_t)r * (size_t)l->ranks;
    int64_t *copies = l->copies + (size_t)r * (size_t)l->ranks;
    l->tokens[r] = plan->n_tokens;
    for (int64_t e = 0; e < l->experts; e++) {
        const int64_t count = plan->offsets[e + 1] - plan->offsets[e];
        l->counts[r * l->experts + e] = count;
        pairs[owner_of(l->experts, l->ranks, e)] += count;
    }
    for (int32_t q = 0; q < l->ranks; q++) {
        const int64_t first = moe_ep_first_expert(l->experts, l->ranks, q);
        const int64_t end = moe_ep_first_expert(l->experts, l->ranks, q + 1);
        copies[q] = l->combine == MOE_EP_PAIRS ? pairs[q] : tokens_with(plan, first, end);
    }
}

moe_status moe_ep_layout_make(const moe_plan *const *plans, int32_t ranks, int64_t experts,
                              int32_t combine, moe_ep_layout *ret) {
    const size_t R = (size_t)ranks;
    moe_ep_layout l = {.ranks = ranks, .combine = combine, .experts = experts};
    l.tokens = calloc(R, sizeof *l.tokens);
    l.counts = calloc(R * (size_t)experts, sizeof *l.counts);
    l.pairs = calloc(R * R, sizeof *l.pairs);
    l.copies = calloc(R * R, sizeof *l.copies);
    if (!l.tokens || !l.counts || !l.pairs || !l.copies) {
        moe_ep_layout_destroy(&l);
        return MOE_E_NOMEM;
    }
    for (int32_t r = 0; r < ranks; r++)
        fill_rank(plans[r], r, &l);
    *ret = l;
    return MOE_OK;
}

void moe_ep_layout_destroy(moe_ep_layout *layout) {
    free(layout->tokens);
    free(layout->counts);
    free(layout->pairs);
    free(layout->copies);
    *layout = (moe_ep_layout){0};
}

int64_t moe_ep_layout_bytes(const moe_ep_layout *l, const moe_ep_wire *wire, int32_t phase,
                            int32_t from, int32_t to) {
    const int64_t at = (int64_t)from * l->ranks + to, pairs = l->pairs[at], copies = l->copies[at];
    const int64_t own = moe_ep_first_expert(l->experts, l->ranks, to + 1) -
                        moe_ep_first_expert(l->experts, l->ranks, to);
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
