/* Every row that came to a rank of this process, beside the token that it should be. */
#include "check/ranks/ranks.h"

#include <stdio.h>

int32_t moe_int_ranks_home_of(const moe_ep_layout *l, int64_t token) {
    int32_t r = 0;
    for (int64_t end = l->tokens[0]; token >= end; end += l->tokens[r])
        r++;
    return r;
}

typedef struct looker {
    const moe_ep_slots *slots;
    const moe_plan *due; /* of all tokens over all slots */
    moe_int_arrival_fn look;
    void *user;
} looker;

/* More or fewer pairs came than are due: the first slot of which that is so. */
static void say_count(const looker *k, const moe_plan *got, const moe_int_arrival *a, int64_t came,
                      int64_t due, moe_ranks *found) {
    const int64_t first = k->slots->first[a->rank];
    int64_t slot = 0;
    char twice[96] = "";
    while (got && got->offsets[slot + 1] - got->offsets[slot] ==
                      k->due->offsets[first + slot + 1] - k->due->offsets[first + slot])
        slot++;
    const int32_t expert = k->slots->expert[first + slot];
    if (came > due && k->slots->replicas[expert] > 1)
        snprintf(twice, sizeof twice, ": a replica of expert %d gets pairs that another one has",
                 (int)expert);
    moe_int_ranks_fail(found, MOE_VERDICT_FAIL, "rank %d received %lld pairs, %lld are due%s",
                       (int)a->rank, (long long)came, (long long)due, twice);
}

/* The rows of the owner's plan are those of its slots in the plan of all tokens. */
static void look_at_rank(const looker *k, const moe_plan *got, moe_int_arrival a,
                         moe_ranks *found) {
    const int64_t first = k->slots->first[a.rank], base = k->due->offsets[first];
    const int64_t due = k->due->offsets[k->slots->first[a.rank + 1]] - base;
    const int64_t came = got ? got->n_pairs : 0;
    if (came != due)
        say_count(k, got, &a, came, due, found);
    for (int64_t s = 0; came == due && got && s < got->n_experts; s++)
        for (int64_t i = got->offsets[s]; i < got->offsets[s + 1]; i++, found->rows++) {
            a.expert = k->slots->expert[first + s];
            a.place = i - got->offsets[s];
            a.token = k->due->token[base + i];
            a.row = got->token[i];
            k->look(&a, found, k->user);
        }
}

moe_status moe_int_ranks_arrivals(const moe_int_ranks *k, moe_backend *backend, moe_layer *layer,
                                  moe_int_arrival_fn look, void *user) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    int32_t first, count;
    const moe_plan *all;
    moe_plan *due = NULL;
    moe_status status = moe_layer_routing(layer, &all);
    if (!status)
        status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    const moe_ep_slots *slots = moe_ep_slots_of(layer);
    status = moe_ep_slots_plan(slots, all, -1, 0, layout.tokens, &due);
    const looker who = {slots, due, look, user};
    moe_ep_place(backend, &first, &count);
    for (int32_t r = first; !status && r < first + count; r++)
        for (int backward = 0; backward <= ((k->problem->pass & MOE_PASS_BWD) != 0); backward++) {
            moe_int_arrival a = {.layout = &layout, .rank = r, .backward = backward};
            const moe_plan *got = moe_ep_received(layer, r, backward, &a.rows);
            look_at_rank(&who, got, a, k->found);
        }
    moe_plan_destroy(&due);
    moe_ep_layout_destroy(&layout);
    return status;
}
