/* Tokens that hold their own numbers, in digits small enough for every type, so that a row in a
 * wrong place says which one it is. */
#include "check/ranks/ranks.h"

#include <math.h>
#include <string.h>

/* X[t] = the digits of its rank, then those of its number, and a number that makes the scale of a
 * coded row 1: digits below 16 are then codes of e4m3. */
typedef struct numbering {
    int64_t base;
    int rank_digits, digits;
    double largest; /* 0: none */
} numbering;

static numbering numbering_for(const moe_ep_params *ep) {
    return ep->wire == MOE_EP_WIRE_E4M3 ? (numbering){16, 2, 6, 448} : (numbering){128, 1, 3, 0};
}

static int width_of(const numbering *n) {
    return n->rank_digits + n->digits + (n->largest > 0);
}

static void write_digits(const moe_tensor *X, int64_t at, int64_t base, int count, int64_t number) {
    for (int i = count - 1; i >= 0; i--, number /= base)
        moe_store(X->data, X->dtype, (size_t)(at + i), (double)(number % base));
}

static int64_t read_digits(const moe_tensor *X, int64_t at, int64_t base, int count) {
    int64_t number = 0;
    for (int i = 0; i < count; i++)
        number = number * base + (int64_t)moe_load(X->data, X->dtype, (size_t)(at + i));
    return number;
}

static void write_token(const numbering *n, const moe_tensor *X, int64_t t, int64_t rank) {
    const int64_t at = t * X->shape[1];
    write_digits(X, at, n->base, n->rank_digits, rank);
    write_digits(X, at + n->rank_digits, n->base, n->digits, t);
    if (n->largest > 0)
        moe_store(X->data, X->dtype, (size_t)(at + width_of(n) - 1), n->largest);
}

static void look_at_number(const moe_int_arrival *a, moe_ranks *found, void *user) {
    const numbering *n = user;
    const int64_t at = a->row * a->rows->shape[1];
    const int64_t is = read_digits(a->rows, at + n->rank_digits, n->base, n->digits);
    if (is == a->token)
        return;
    moe_int_ranks_fail(found, MOE_VERDICT_FAIL,
                       "%s: row %lld of expert %lld on rank %d should be token %lld of "
                       "rank %d, is token %lld of rank %d",
                       moe_ep_phase_name(a->backward ? MOE_EP_DISPATCH_BACK : MOE_EP_DISPATCH),
                       (long long)a->place, (long long)a->expert, (int)a->rank, (long long)a->token,
                       (int)moe_int_ranks_home_of(a->layout, a->token), (long long)is,
                       (int)read_digits(a->rows, at, n->base, n->rank_digits));
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

static moe_status look_at_traffic(const moe_int_ranks *k, moe_backend *backend,
                                  const moe_layer *layer) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    moe_status status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    for (int32_t r = 0; r < layout.ranks; r++)
        look_at_bytes(backend, &layout, &wire, r, k->problem->pass, k->found);
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
static moe_status number_tokens(const moe_int_ranks *k, const numbering *n, moe_layer *layer,
                                moe_tensor *X) {
    moe_ep_layout layout;
    moe_ep_wire wire;
    moe_status status = run(k, layer, &k->problem->in.t[MOE_T_X]);
    if (!status)
        status = moe_ep_layout_of(layer, &layout, &wire);
    if (status)
        return status;
    memset(X->data, 0, (size_t)moe_tensor_bytes(X));
    for (int64_t t = 0; t < k->problem->T; t++)
        write_token(n, X, t, moe_int_ranks_home_of(&layout, t));
    moe_ep_layout_destroy(&layout);
    return MOE_OK;
}

moe_status moe_int_ranks_payload(const moe_int_ranks *k, moe_backend *backend) {
    const moe_problem *p = k->problem;
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    const moe_tensor *given = &p->in.t[MOE_T_X];
    numbering n = numbering_for(k->ep);
    const bool numbered =
        p->layer.d >= width_of(&n) && (double)p->T < pow((double)n.base, n.digits);
    moe_layer *layer = NULL;
    moe_tensor X = {0};
    moe_status status = moe_tensor_alloc(given->dtype, given->ndim, given->shape, &X);
    if (!status)
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &layer);
    if (!status && numbered)
        status = number_tokens(k, &n, layer, &X);
    if (!status)
        status = run(k, layer, numbered ? &X : given);
    if (!status && numbered)
        status = moe_int_ranks_arrivals(k, backend, layer, look_at_number, &n);
    if (!status)
        status = look_at_traffic(k, backend, layer);
    moe_layer_destroy(&layer);
    moe_tensor_destroy(&X);
    return status;
}
