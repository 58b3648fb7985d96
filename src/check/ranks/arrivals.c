/* Every row that came to a rank of this process, beside the token that it should be. */
#include "check/ranks/ranks.h"

int32_t moe_int_ranks_home_of(const moe_ep_layout *l, int64_t token) {
    int32_t r = 0;
    for (int64_t end = l->tokens[0]; token >= end; end += l->tokens[r])
        r++;
    return r;
}

typedef struct looker {
    const moe_ep_layout *layout;
    const moe_plan *all; /* of all tokens */
    moe_int_arrival_fn look;
    void *user;
} looker;

/* The rows of the owner's plan are those of its experts in the plan of all tokens. */
static void look_at_rank(const looker *k, const moe_plan *got, moe_int_arrival a,
                         moe_ranks *found) {
    const moe_ep_layout *l = k->layout;
    const int64_t first = moe_ep_first_expert(l->experts, l->ranks, a.rank);
    const int64_t base = k->all->offsets[first];
    const int64_t due =
        k->all->offsets[moe_ep_first_expert(l->experts, l->ranks, a.rank + 1)] - base;
    const int64_t came = got ? got->n_pairs : 0;
    if (came != due)
        moe_int_ranks_fail(found, MOE_VERDICT_FAIL, "rank %d received %lld pairs, %lld are due",
                           (int)a.rank, (long long)came, (long long)due);
    for (int64_t e = 0; came == due && got && e < got->n_experts; e++)
        for (int64_t i = got->offsets[e]; i < got->offsets[e + 1]; i++, found->rows++) {
            a.expert = first + e;
            a.place = i - got->offsets[e];
            a.token = k->all->token[base + i];
            a.row = got->token[i];
            k->look(&a, found, k->user);
        }
}

moe_status moe_int_ranks_arrivals(const moe_int_ranks *k, moe_backend *backend, moe_layer *layer,
                                  moe_int_arrival_fn look, void *user) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    int32_t first, count;
    looker who = {.layout = &layout, .look = look, .user = user};
    moe_status status = moe_layer_routing(layer, &who.all);
    if (!status)
        status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    moe_ep_place(backend, &first, &count);
    for (int32_t r = first; r < first + count; r++)
        for (int backward = 0; backward <= ((k->problem->pass & MOE_PASS_BWD) != 0); backward++) {
            moe_int_arrival a = {.layout = &layout, .rank = r, .backward = backward};
            const moe_plan *got = moe_ep_received(layer, r, backward, &a.rows);
            look_at_rank(&who, got, a, k->found);
        }
    moe_ep_layout_destroy(&layout);
    return MOE_OK;
}
