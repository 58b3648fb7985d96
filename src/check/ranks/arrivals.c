/* Every row that came to a rank of this process, beside the token that it should be. */
#include "check/ranks/ranks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int32_t moe_int_ranks_home_of(const moe_ep_layout *l, int64_t token) {
    int32_t r = 0;
    for (int64_t end = l->tokens[0]; token >= end; end += l->tokens[r])
        r++;
    return r;
}

typedef struct looker {
    const moe_ep_slots *slots;
    const moe_plan *due; /* of all tokens over all slots */
    const moe_ep_params *ep;
    moe_dtype weight; /* of weights on the wire */
    moe_int_arrival_fn look;
    void *user;
} looker;

/* Rows that a slot should have, those of nobody included. */
static int64_t rows_due(const looker *k, int64_t slot) {
    const int64_t count = k->due->offsets[slot + 1] - k->due->offsets[slot];
    const int64_t pad = k->ep->pad > 0 ? k->ep->pad : 1;
    return k->ep->padding == MOE_EP_PAD_OWNER ? (count + pad - 1) / pad * pad : count;
}

/* More or fewer pairs came for a slot than are due. */
static void say_count(const looker *k, int32_t rank, int64_t slot, int64_t came, int64_t due,
                      moe_ranks *found) {
    char twice[96] = "";
    const int32_t expert = k->slots->expert[slot];
    if (came > due && k->slots->replicas[expert] > 1)
        snprintf(twice, sizeof twice, ": a replica of expert %d gets pairs that another one has",
                 (int)expert);
    moe_int_ranks_fail(found, MOE_VERDICT_FAIL,
                       "rank %d received %lld pairs of expert %d, %lld are due%s", (int)rank,
                       (long long)came, (int)expert, (long long)due, twice);
}

static bool is_zero(const moe_tensor *rows, int64_t row) {
    const int64_t d = rows->shape[1];
    for (int64_t i = 0; i < d; i++)
        if (moe_load(rows->data, rows->dtype, (size_t)(row * d + i)) != 0)
            return false;
    return true;
}

/* Rows that no pair of somebody's refers to are zeros, and weigh nothing. */
static void look_at_nobodys(const moe_plan *got, const moe_int_arrival *a,
                            const unsigned char *somebodys, moe_ranks *found) {
    const char *phase = moe_ep_phase_name(a->backward ? MOE_EP_DISPATCH_BACK : MOE_EP_DISPATCH);
    for (int64_t t = 0; t < got->n_tokens; t++) {
        const int64_t *pair = got->pair_of_token + got->token_offsets[t];
        const bool weighs =
            got->token_offsets[t + 1] > got->token_offsets[t] && got->weight[*pair] != 0;
        if (somebodys[t] || (is_zero(a->rows, t) && !weighs))
            continue;
        moe_int_ranks_fail(found, MOE_VERDICT_FAIL, "%s: row %lld on rank %d is nobody's, but %s",
                           phase, (long long)t, (int)a->rank,
                           weighs ? "has a weight" : "is not of zeros");
    }
}

static void look_at_slot(const looker *k, const moe_plan *got, int64_t own, moe_int_arrival *a,
                         unsigned char *somebodys, moe_ranks *found) {
    const int64_t slot = k->slots->first[a->rank] + own, base = k->due->offsets[slot];
    const int64_t count = k->due->offsets[slot + 1] - base;
    a->expert = k->slots->expert[slot];
    for (a->place = 0; a->place < count; a->place++, found->rows++) {
        a->token = k->due->token[base + a->place];
        a->row = got->token[got->offsets[own] + a->place];
        somebodys[a->row] = 1;
        k->look(a, found, k->user);
    }
}

/* The rows of the owner's plan are those of its slots in the plan of all tokens. */
static moe_status look_at_rank(const looker *k, const moe_plan *got, moe_int_arrival a,
                               moe_ranks *found) {
    const int64_t first = k->slots->first[a.rank], slots = k->slots->first[a.rank + 1] - first;
    for (int64_t s = 0; s < slots; s++) {
        const int64_t came = got ? got->offsets[s + 1] - got->offsets[s] : 0;
        const int64_t due = rows_due(k, first + s);
        if (came != due) {
            say_count(k, a.rank, first + s, came, due, found);
            return MOE_OK;
        }
    }
    unsigned char *somebodys = got ? calloc((size_t)got->n_tokens + 1, 1) : NULL;
    for (int64_t s = 0; somebodys && s < slots; s++)
        look_at_slot(k, got, s, &a, somebodys, found);
    if (somebodys)
        look_at_nobodys(got, &a, somebodys, found);
    free(somebodys);
    return somebodys || !got ? MOE_OK : MOE_E_NOMEM;
}

/* A pair's weight is its token's. (One of 0 leaves a pair out: what lacks it says so.) */
static void look_at_weights(const looker *k, const moe_plan *got, int32_t rank, moe_ranks *found) {
    for (int64_t s = 0; got && s < got->n_experts; s++) {
        const int64_t slot = k->slots->first[rank] + s, base = k->due->offsets[slot];
        for (int64_t i = 0; i < k->due->offsets[slot + 1] - base; i++) {
            const double is = got->weight[got->offsets[s] + i], due = k->due->weight[base + i];
            double rounded;
            moe_store(&rounded, k->weight, 0, due);
            if (is == 0 || isnan(due) || is == moe_load(&rounded, k->weight, 0))
                continue;
            moe_int_ranks_fail(found, MOE_VERDICT_FAIL,
                               "%s: row %lld of expert %d on rank %d, token %lld, has weight %.9g, "
                               "not %.9g: another row's",
                               moe_ep_phase_name(MOE_EP_WEIGHTS), (long long)i,
                               (int)k->slots->expert[slot], (int)rank,
                               (long long)k->due->token[base + i], is, due);
        }
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
    const looker who = {slots, due, k->ep, (moe_dtype)wire.weight, look, user};
    moe_ep_place(backend, &first, &count);
    for (int32_t r = first; !status && r < first + count; r++)
        for (int backward = 0; backward <= ((k->problem->pass & MOE_PASS_BWD) != 0); backward++) {
            moe_int_arrival a = {.layout = &layout, .rank = r, .backward = backward};
            const moe_plan *got = moe_ep_received(layer, r, backward, &a.rows);
            if (!status)
                status = look_at_rank(&who, got, a, k->found);
        }
    /* Where rows are in their places, and so as many as are due. */
    for (int32_t r = first; !status && r < first + count; r++) {
        const moe_tensor *rows;
        if (k->found->verdict < MOE_VERDICT_FAIL)
            look_at_weights(&who, moe_ep_received(layer, r, 0, &rows), r, k->found);
    }
    moe_plan_destroy(&due);
    moe_ep_layout_destroy(&layout);
    return status;
}
