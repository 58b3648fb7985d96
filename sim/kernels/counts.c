/* Tokens per expert without drawing every pair: a sweep needs thousands of layers a second. Tokens
 * are spread over `bins`, the experts and the zero experts behind them. */
#include "core/streams.h"
#include "moeref/model.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
        bool again = false;
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
        const double x =
            mean[e] + spread * moe_rng_normal(seed, MOE_INT_STREAM_COUNTS, (uint64_t)e);
        counts[e] = (int64_t)fmin((double)tokens, fmax(0, round(x)));
    }
    settle_sum(counts, experts, tokens, pairs);
}

/* The routing's own rule, applied to the drawn counts. */
static moe_status round_counts(const moe_case *c, int64_t bins, const moe_log *log,
                               int64_t *counts) {
    const moe_router_desc *r = &c->layer.router;
    int64_t *drawn = malloc((size_t)bins * sizeof *drawn);
    if (!drawn)
        return moe_fail(log, MOE_E_NOMEM, "tokens per expert: out of memory");
    memcpy(drawn, counts, (size_t)bins * sizeof *drawn);
    moe_int_warn_rounding(r->tile, c->T * c->layer.K, bins, log);
    moe_status status =
        moe_int_round_counts(r->rounding, r->tile, c->seed, drawn, bins, c->T, counts);
    free(drawn);
    return status;
}

/* What the router's selection makes of the drawn popularity. */
static moe_status apply_selection(const moe_case *c, int64_t bins, const moe_log *log,
                                  int64_t *counts) {
    const moe_router_desc *r = &c->layer.router;
    const int64_t chosen = (c->T * c->layer.K + bins - 1) / bins;
    /* Groups are taken to have equal shares of what an expert is chosen for. */
    const int64_t groups = r->capacity_group ? (c->T - 1) / r->capacity_group + 1 : 1;
    const int64_t room = r->capacity * groups;
    switch ((moe_select)r->select) {
    case MOE_SELECT_TOPK:
    case MOE_SELECT_GROUP_TOPK:
    case MOE_SELECT_GROUP_MAX:
    case MOE_SELECT_GROUP_ZERO:
    case MOE_SELECT_COUNT: /* none: moe_layer_desc_check */
        break;
    case MOE_SELECT_EXPERT_CHOICE:
        for (int64_t e = 0; e < bins; e++)
            counts[e] = chosen < c->T ? chosen : c->T;
        break;
    case MOE_SELECT_CAPACITY:
        for (int64_t e = 0; e < bins; e++)
            counts[e] = counts[e] < room ? counts[e] : room;
        break;
    case MOE_SELECT_TOKEN_ROUNDING:
        return round_counts(c, bins, log, counts);
    }
    return MOE_OK;
}

static double popularity(const moe_case *c, int64_t e) {
    return c->route == MOE_ROUTE_ZIPF ? pow((double)e + 1, -c->route_arg) : 1;
}

static bool is_balanced(const moe_case *c) {
    return c->route == MOE_ROUTE_BALANCED || c->route == MOE_ROUTE_HOT ||
           (c->route == MOE_ROUTE_ROUTER && c->layer.router.select != MOE_SELECT_TOKEN_ROUNDING);
}

static moe_status draw_route(const moe_case *c, int64_t bins, const moe_log *log, int64_t *counts) {
    const int64_t pairs = c->T * c->layer.K;
    double *mean = malloc((size_t)bins * sizeof *mean);
    if (!mean)
        return moe_fail(log, MOE_E_NOMEM, "tokens per expert: out of memory");
    for (int64_t e = 0; e < bins; e++)
        mean[e] = popularity(c, e) / (double)bins;
    fill_shares(mean, bins, (double)c->T, (double)pairs);
    draw(mean, bins, c->T, pairs, c->seed, counts);
    free(mean);
    return MOE_OK;
}

static void spread(int64_t pairs, int64_t bins, int64_t *counts) {
    for (int64_t e = 0; e < bins; e++)
        counts[e] = pairs / bins + (e < pairs % bins);
}

static void draw_hot(const moe_case *c, int64_t bins, int64_t *counts) {
    const int64_t hot = (int64_t)c->route_arg;
    spread(c->T * (c->layer.K - 1), bins - 1, counts);
    memmove(counts + hot + 1, counts + hot, (size_t)(bins - 1 - hot) * sizeof *counts);
    counts[hot] = c->T;
}

static moe_status draw_bins(const moe_case *c, int64_t bins, const moe_log *log, int64_t *counts) {
    moe_status status = MOE_OK;
    if (c->route == MOE_ROUTE_HOT && bins > 1)
        draw_hot(c, bins, counts);
    else if (is_balanced(c))
        spread(c->T * c->layer.K, bins, counts);
    else
        status = draw_route(c, bins, log, counts);
    return !status && c->route == MOE_ROUTE_ROUTER ? apply_selection(c, bins, log, counts) : status;
}

/* Of the tokens that have experts, less the pairs that are left out. */
static moe_status draw_unmasked(const moe_case *c, int64_t bins, const moe_log *log,
                                int64_t *counts) {
    moe_case unmasked = *c;
    unmasked.T = c->T - c->masked;
    memset(counts, 0, (size_t)bins * sizeof *counts);
    moe_status status = unmasked.T > 0 ? draw_bins(&unmasked, bins, log, counts) : MOE_OK;
    if (!status && c->drop)
        settle_sum(counts, bins, unmasked.T, unmasked.T * c->layer.K - c->drop);
    return status;
}

moe_status moe_counts_draw(const moe_case *c, const moe_log *log, int64_t *ret_counts) {
    const int64_t E = c->layer.E, bins = E + c->layer.n_zero;
    moe_status status = moe_layer_desc_check(&c->layer, c->T, log);
    if (!status && c->route == MOE_ROUTE_COUNTS && c->n_counts != bins)
        status = moe_fail(log, MOE_E_INVALID, "route=counts has %lld numbers for %lld experts",
                          (long long)c->n_counts, (long long)bins);
    if (status)
        return status;
    int64_t *counts = malloc((size_t)bins * sizeof *counts);
    if (!counts)
        return moe_fail(log, MOE_E_NOMEM, "tokens per expert: out of memory");
    if (c->route == MOE_ROUTE_COUNTS)
        memcpy(counts, c->counts, (size_t)bins * sizeof *counts);
    else
        status = draw_unmasked(c, bins, log, counts);
    if (!status)
        memcpy(ret_counts, counts, (size_t)E * sizeof *counts);
    free(counts);
    return status;
}
