/* Tokens that hold their own numbers, in digits small enough for every type, so that a row in a
 * wrong place says which one it is. */
#include "check/ranks/ranks.h"

#include <stdlib.h>
#include <string.h>

/* X[t] = rank, then the token's number in three digits. */
enum { DIGITS = 4, BASE = 128 };

static int32_t rank_of(const moe_ep_layout *l, int64_t token) {
    int32_t r = 0;
    for (int64_t end = l->tokens[0]; token >= end; end += l->tokens[r])
        r++;
    return r;
}

static void write_token(const moe_tensor *X, int64_t t, int64_t digit_of_rank) {
    const int64_t d = X->shape[1];
    const int64_t digit[DIGITS] = {digit_of_rank, t / BASE / BASE % BASE, t / BASE % BASE,
                                   t % BASE};
    for (int i = 0; i < DIGITS; i++)
        moe_store(X->data, X->dtype, (size_t)(t * d + i), (double)digit[i]);
}

static int64_t read_token(const moe_tensor *rows, int64_t row) {
    int64_t t = 0;
    for (int i = 1; i < DIGITS; i++)
        t = t * BASE +
            (int64_t)moe_load(rows->data, rows->dtype, (size_t)(row * rows->shape[1] + i));
    return t;
}

/* The rows of the owner's plan are those of its experts in the plan of all tokens. */
static void look_at_rank(const moe_ep_layout *l, const moe_plan *all, const moe_plan *got,
                         const moe_tensor *rows, int32_t q, bool backward, moe_ranks *found) {
    const int64_t first = moe_ep_first_expert(l->experts, l->ranks, q);
    const int64_t base = all->offsets[first];
    const int64_t due = all->offsets[moe_ep_first_expert(l->experts, l->ranks, q + 1)] - base;
    const int64_t came = got ? got->n_pairs : 0;
    if (came != due)
        moe_int_ranks_fail(found, MOE_VERDICT_FAIL, "rank %d received %lld pairs, %lld are due",
                           (int)q, (long long)came, (long long)due);
    for (int64_t e = 0; came == due && got && e < got->n_experts; e++)
        for (int64_t i = got->offsets[e]; i < got->offsets[e + 1]; i++, found->rows++) {
            const int64_t want = all->token[base + i], is = read_token(rows, got->token[i]);
            if (want == is)
                continue;
            moe_int_ranks_fail(
                found, MOE_VERDICT_FAIL,
                "%s: row %lld of expert %lld on rank %d should be token %lld of "
                "rank %d, is token %lld of rank %d",
                moe_ep_phase_name(backward ? MOE_EP_DISPATCH_BACK : MOE_EP_DISPATCH),
                (long long)(i - got->offsets[e]), (long long)(first + e), (int)q, (long long)want,
                (int)rank_of(l, want), (long long)is,
                (int)moe_load(rows->data, rows->dtype, (size_t)(got->token[i] * rows->shape[1])));
        }
}

static void look_at_bytes(const moe_backend *backend, const moe_ep_layout *l,
                          const moe_ep_wire *wire, int32_t r, int32_t pass, moe_ranks *found) {
    moe_ep_traffic traffic;
    const int32_t last = pass & MOE_PASS_BWD ? MOE_EP_WEIGHT_GRADIENTS : MOE_EP_COMBINE;
    if (moe_ep_traffic_of(backend, r, &traffic))
        return;
    for (int32_t phase = 0; phase <= last; phase++) {
        int64_t due = 0;
        for (int32_t q = 0; q < l->ranks; q++)
            due += moe_ep_layout_bytes(l, wire, phase, r, q);
        found->bytes += traffic.bytes[phase];
        if (traffic.bytes[phase] != due)
            moe_int_ranks_fail(
                found, MOE_VERDICT_FAIL, "%s: rank %d sent %lld bytes, the plans make it %lld",
                moe_ep_phase_name(phase), (int)r, (long long)traffic.bytes[phase], (long long)due);
    }
}

static bool is_backward(const moe_int_ranks *k) {
    return (k->problem->pass & MOE_PASS_BWD) != 0;
}

static moe_status look(const moe_int_ranks *k, moe_backend *backend, moe_layer *layer,
                       bool numbered) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    const moe_plan *all;
    moe_status status = moe_layer_routing(layer, &all);
    if (!status)
        status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    for (int32_t r = 0; r < layout.ranks; r++) {
        int32_t first, count;
        const moe_tensor *rows = NULL;
        moe_ep_place(backend, &first, &count);
        if (r < first || r >= first + count)
            continue;
        for (int backward = 0; numbered && backward <= is_backward(k); backward++) {
            const moe_plan *got = moe_ep_received(layer, r, backward, &rows);
            look_at_rank(&layout, all, got, rows, r, backward, k->found);
        }
        look_at_bytes(backend, &layout, &wire, r, k->problem->pass, k->found);
    }
    moe_ep_layout_destroy(&layout);
    return MOE_OK;
}

/* The same rows as X and dO: what goes the same way must come to the same place. */
static moe_status run(const moe_int_ranks *k, moe_layer *layer, const moe_tensor *X) {
    const moe_problem *p = k->problem;
    moe_input input = {.tokens = p->T, .X = *X, .plan = p->plan, .seed = p->seed};
    if (is_backward(k))
        input.dO = *X;
    moe_status status = moe_layer_set_input(layer, &input);
    if (!status)
        status = moe_layer_forward(layer);
    if (!status && is_backward(k))
        status = moe_layer_backward(layer);
    return status;
}

/* Each token's rank is not known before a layout is: one is made of the problem's own tokens. */
static moe_status number_tokens(const moe_int_ranks *k, moe_layer *layer, moe_tensor *X) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    moe_status status = run(k, layer, &k->problem->in.t[MOE_T_X]);
    if (!status)
        status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    memset(X->data, 0, (size_t)moe_tensor_bytes(X));
    for (int64_t t = 0; t < k->problem->T; t++)
        write_token(X, t, rank_of(&layout, t) % BASE);
    moe_ep_layout_destroy(&layout);
    return MOE_OK;
}

moe_status moe_int_ranks_payload(const moe_int_ranks *k, moe_backend *backend) {
    const moe_problem *p = k->problem;
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    const moe_tensor *given = &p->in.t[MOE_T_X];
    const bool numbered = p->layer.d >= DIGITS && p->T < (int64_t)BASE * BASE * BASE;
    moe_layer *layer = NULL;
    moe_tensor X = {0};
    moe_status status = moe_tensor_alloc(given->dtype, given->ndim, given->shape, &X);
    if (!status)
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &layer);
    if (!status && numbered)
        status = number_tokens(k, layer, &X);
    if (!status)
        status = run(k, layer, numbered ? &X : given);
    if (!status)
        status = look(k, backend, layer, numbered);
    moe_layer_destroy(&layer);
    moe_tensor_destroy(&X);
    return status;
}
