/* Tokens per expert without drawing every pair: a sweep needs thousands of layers a second. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "moeref/model.h"
#include "route/route.h"

#define STREAM_COUNTS UINT64_C(1002) /* streams below 1002 belong to tensors and plans */

/* Scales `mean` so that it sums to `pairs` with no expert above T: a token goes to an expert once.
 * The excess of full experts is spread over the others, by their share, until nothing is left. */
static void fill_shares(double *mean, int64_t experts, double tokens, double pairs) {
    for (int round = 0; round < 64; round++) {
        double open = 0, full = 0;
        for (int64_t e = 0; e < experts; e++)
            *(mean[e] >= tokens ? &full : &open) += mean[e];
        if (open <= 0)
            return;
        const double scale = (pairs - full) / open;
        int again = 0;
        for (int64_t e = 0; e < experts; e++) {
            if (mean[e] < tokens) {
                mean[e] = fmin(tokens, mean[e] * scale);
                again |= mean[e] == tokens;
            }
        }
        if (!again)
            return;
    }
}

/* Moves single tokens until the counts sum to `pairs`; every expert takes its turn. */
static void settle_sum(int64_t *counts, int64_t experts, int64_t tokens, int64_t pairs) {
    int64_t sum = 0;
    for (int64_t e = 0; e < experts; e++)
        sum += counts[e];
    while (sum != pairs) {
        const int64_t step = sum < pairs ? 1 : -1, before = sum;
        for (int64_t e = 0; e < experts && sum != pairs; e++) {
            const int64_t next = counts[e] + step;
            if (next >= 0 && next <= tokens) {
                counts[e] = next;
                sum += step;
            }
        }
        if (sum == before)
            return;
    }
}

/* The count of expert e is nearly binomial: T draws with probability p = mean/T. */
static void draw(const double *mean, int64_t experts, int64_t tokens, int64_t pairs, uint64_t seed,
                 int64_t *counts) {
    for (int64_t e = 0; e < experts; e++) {
        const double p = mean[e] / (double)tokens;
        const double spread = sqrt(fmax(0, mean[e] * (1 - p)));
        const double x = mean[e] + spread * moe_rng_normal(seed, STREAM_COUNTS, (uint64_t)e);
        counts[e] = (int64_t)fmin((double)tokens, fmax(0, round(x)));
    }
    settle_sum(counts, experts, tokens, pairs);
}

/* The routing's own rule, applied to the drawn counts. */
static moe_status round_counts(const moe_case *c, const moe_log *log, int64_t *counts) {
    const moe_router_desc *r = &c->layer.router;
    const size_t size = (size_t)c->layer.E * sizeof *counts;
    int64_t *drawn = malloc(size);
    if (!drawn)
        return moe_fail(log, MOE_E_NOMEM, "tokens per expert: out of memory");
    memcpy(drawn, counts, size);
    moe_status st =
        moe_int_round_counts(r->rounding, r->tile, c->seed, drawn, c->layer.E, c->T, counts);
    free(drawn);
    return st;
}

/* What the router's selection makes of the drawn popularity. */
static moe_status apply_selection(const moe_case *c, const moe_log *log, int64_t *counts) {
    const moe_router_desc *r = &c->layer.router;
    const int64_t all = c->layer.E + c->layer.n_zero;
    const int64_t chosen = (c->T * c->layer.K + all - 1) / all;
    if (r->select == MOE_SELECT_TOKEN_ROUNDING)
        return round_counts(c, log, counts);
    for (int64_t e = 0; e < c->layer.E; e++) {
        if (r->select == MOE_SELECT_EXPERT_CHOICE)
            counts[e] = chosen < c->T ? chosen : c->T;
        else if (r->select == MOE_SELECT_CAPACITY && counts[e] > r->capacity)
            counts[e] = r->capacity;
    }
    return MOE_OK;
}

static moe_status copy_counts(const moe_case *c, const moe_log *log, int64_t *counts) {
    if (c->n_counts != c->layer.E)
        return moe_fail(log, MOE_E_INVALID, "route=counts has %lld numbers for E=%lld experts",
                        (long long)c->n_counts, (long long)c->layer.E);
    memcpy(counts, c->counts, (size_t)c->n_counts * sizeof *counts);
    return MOE_OK;
}

static double popularity(const moe_case *c, int64_t e) {
    return c->route == MOE_ROUTE_ZIPF ? pow((double)e + 1, -c->route_arg) : 1;
}

/* Zero experts take their share of a router's choices. pairs * E alone would not fit: a layer's
 * limits let it reach 2^67. */
static int64_t real_pairs(const moe_case *c) {
    const int64_t pairs = c->T * c->layer.K, E = c->layer.E, all = E + c->layer.n_zero;
    return c->route == MOE_ROUTE_ROUTER ? pairs / all * E + pairs % all * E / all : pairs;
}

static int is_balanced(const moe_case *c) {
    return c->route == MOE_ROUTE_BALANCED || c->route == MOE_ROUTE_HOT ||
           (c->route == MOE_ROUTE_ROUTER && c->layer.router.select != MOE_SELECT_TOKEN_ROUNDING);
}

static void draw_route(const moe_case *c, double *mean, int64_t *counts) {
    const int64_t E = c->layer.E, T = c->T, pairs = real_pairs(c);
    for (int64_t e = 0; e < E; e++)
        mean[e] = popularity(c, e) / (double)E;
    fill_shares(mean, E, (double)T, (double)pairs);
    draw(mean, E, T, pairs, c->seed, counts);
}

static void draw_hot(const moe_case *c, int64_t *counts) {
    const int64_t E = c->layer.E, rest = c->T * (c->layer.K - 1), hot = (int64_t)c->route_arg;
    for (int64_t e = 0, i = 0; e < E; e++) {
        const int64_t others = E - 1;
        counts[e] = e == hot ? c->T : rest / others + (i < rest % others);
        i += e != hot;
    }
}

moe_status moe_counts_draw(const moe_case *c, const moe_log *log, int64_t *ret_counts) {
    const int64_t E = c->layer.E;
    moe_status st = moe_layer_desc_check(&c->layer, c->T, log);
    if (st || c->route == MOE_ROUTE_COUNTS)
        return st ? st : copy_counts(c, log, ret_counts);
    if (c->route == MOE_ROUTE_HOT && E > 1) {
        draw_hot(c, ret_counts);
        return MOE_OK;
    }
    if (is_balanced(c)) {
        const int64_t mine = real_pairs(c);
        for (int64_t e = 0; e < E; e++)
            ret_counts[e] = mine / E + (e < mine % E);
        return c->route == MOE_ROUTE_ROUTER ? apply_selection(c, log, ret_counts) : MOE_OK;
    }
    double *mean = malloc((size_t)E * sizeof *mean);
    if (!mean)
        return moe_fail(log, MOE_E_NOMEM, "tokens per expert: out of memory");
    draw_route(c, mean, ret_counts);
    free(mean);
    return c->route == MOE_ROUTE_ROUTER ? apply_selection(c, log, ret_counts) : MOE_OK;
}
