/* Routing plans drawn for a case: which experts each token goes to, and with what weight. Integer
 * and exactly rounded operations only, so that the plan is the same on every machine. */
#include "core/closed.h"
#include "core/streams.h"
#include "layer/cancel.h"
#include "layer/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws from the whole zipf distribution before the taken experts are left out of it explicitly. */
#define ZIPF_TRIES 64

/* The pairs being drawn. */
typedef struct drawing {
    const moe_case *c;
    int64_t bins;  /* experts, zero experts included */
    int64_t pairs; /* so far */
    int32_t *token, *expert;
} drawing;

static void add_pair(drawing *d, int64_t token, int64_t expert) {
    d->token[d->pairs] = (int32_t)token;
    d->expert[d->pairs] = (int32_t)expert;
    d->pairs++;
}

/* A uniform integer in [0, n), n < 2^31, from 32 random bits (bias below n / 2^32). */
static int64_t draw_below(const drawing *d, uint64_t index, int64_t n) {
    uint64_t bits = moe_rng_bits(d->c->seed, MOE_INT_STREAM_ROUTE, index) >> 32;
    return (int64_t)(bits * (uint64_t)n >> 32);
}

static int32_t *identity(int64_t n) {
    int32_t *list = malloc((size_t)(n > 0 ? n : 1) * sizeof *list);
    for (int64_t i = 0; list && i < n; i++)
        list[i] = (int32_t)i;
    return list;
}

/* Puts k random different elements of list[n] into its first k places (Fisher and Yates, stopped
 * early). The list may be in any order before: a random subset of a permutation is one too. */
static void shuffle(const drawing *d, uint64_t first_index, int32_t *list, int64_t n, int64_t k) {
    for (int64_t i = 0; i < k; i++) {
        int64_t j = i + draw_below(d, first_index + (uint64_t)i, n - i);
        int32_t swap = list[i];
        list[i] = list[j];
        list[j] = swap;
    }
}

static moe_status draw_uniform(drawing *d) {
    int64_t K = d->c->layer.K;
    int32_t *experts = identity(d->bins);
    if (!experts)
        return MOE_E_NOMEM;
    for (int64_t t = 0; t < d->c->T; t++) {
        shuffle(d, (uint64_t)(t * K), experts, d->bins, K);
        for (int64_t k = 0; k < K; k++)
            add_pair(d, t, experts[k]);
    }
    free(experts);
    return MOE_OK;
}

static moe_status draw_hot(drawing *d) {
    int64_t K = d->c->layer.K, hot = (int64_t)d->c->route_arg;
    int32_t *others = identity(d->bins - 1);
    if (!others)
        return MOE_E_NOMEM;
    for (int64_t i = hot; i < d->bins - 1; i++)
        others[i] = (int32_t)(i + 1);
    for (int64_t t = 0; t < d->c->T; t++) {
        add_pair(d, t, hot);
        shuffle(d, (uint64_t)(t * K), others, d->bins - 1, K - 1);
        for (int64_t k = 0; k < K - 1; k++)
            add_pair(d, t, others[k]);
    }
    free(others);
    return MOE_OK;
}

/* Shuffled tokens take shuffled experts in turn, K at a time. */
static moe_status draw_balanced(drawing *d) {
    int64_t T = d->c->T, K = d->c->layer.K;
    int32_t *tokens = identity(T), *experts = identity(d->bins);
    if (tokens && experts) {
        shuffle(d, 0, tokens, T, T);
        shuffle(d, (uint64_t)T, experts, d->bins, d->bins);
        for (int64_t i = 0; i < T * K; i++)
            add_pair(d, tokens[i / K], experts[i % d->bins]);
    }
    moe_status status = tokens && experts ? MOE_OK : MOE_E_NOMEM;
    free(tokens);
    free(experts);
    return status;
}

static moe_status draw_counts(drawing *d) {
    int32_t *tokens = identity(d->c->T);
    if (!tokens)
        return MOE_E_NOMEM;
    for (int64_t e = 0; e < d->bins; e++) {
        int64_t count = d->c->counts[e];
        shuffle(d, (uint64_t)d->pairs, tokens, d->c->T, count);
        for (int64_t i = 0; i < count; i++)
            add_pair(d, tokens[i], e);
    }
    free(tokens);
    return MOE_OK;
}

/* x^-s for x >= 1 from exactly rounded operations alone: a C library's pow may differ in the last
 * bit between machines. ln by its series in (m-1)/(m+1), exp by Taylor's; both to about 1e-15. */
static double inverse_power(double x, double s) {
    const double ln2 = 0.69314718055994530942;
    int exponent;
    double m = frexp(x, &exponent); /* in [0.5, 1): the series' argument is within 1/3 of 0 */
    double y = (m - 1) / (m + 1), ln_m = 0;
    for (int k = 41; k >= 1; k -= 2)
        ln_m = ln_m * y * y + 2.0 / k;
    double power = -s * (exponent * ln2 + ln_m * y);
    double whole = floor(power / ln2 + 0.5), rest = power - whole * ln2, sum = 1;
    for (int k = 20; k >= 1; k--)
        sum = 1 + sum * rest / k;
    return ldexp(sum, (int)whole);
}

typedef struct zipf {
    int64_t bins;
    double *share, *cumulated; /* (e+1)^-S and its running sum */
    int32_t *taken;            /* 1 + the last token that took the expert */
} zipf;

/* First expert whose cumulated share exceeds `level`; the last one if rounding says none. */
static int64_t find_level(const zipf *z, double level) {
    int64_t low = 0, high = z->bins - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (z->cumulated[middle] > level)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The same draw among the experts that `mark` has not taken. */
static int64_t walk_untaken(const zipf *z, int32_t mark, double uniform) {
    double left = 0, passed = 0;
    int64_t last = 0;
    for (int64_t e = 0; e < z->bins; e++)
        left += z->taken[e] == mark ? 0 : z->share[e];
    for (int64_t e = 0; e < z->bins; e++) {
        if (z->taken[e] == mark)
            continue;
        last = e;
        passed += z->share[e];
        if (passed > uniform * left)
            break;
    }
    return last;
}

/* One token's next expert: draws of taken experts are thrown away, which leaves the others'
 * proportions as they are. */
static int64_t draw_zipf_expert(const zipf *z, uint64_t seed, uint64_t pair, int32_t mark) {
    uint64_t index = pair * (ZIPF_TRIES + 1);
    for (int i = 0; i < ZIPF_TRIES; i++) {
        double u = moe_rng_uniform(seed, MOE_INT_STREAM_ROUTE, index++);
        int64_t e = find_level(z, u * z->cumulated[z->bins - 1]);
        if (z->taken[e] != mark)
            return e;
    }
    return walk_untaken(z, mark, moe_rng_uniform(seed, MOE_INT_STREAM_ROUTE, index));
}

static moe_status draw_zipf(drawing *d) {
    int64_t K = d->c->layer.K;
    size_t bins = (size_t)d->bins;
    zipf z = {d->bins, malloc(bins * sizeof *z.share), malloc(bins * sizeof *z.cumulated),
              calloc(bins, sizeof *z.taken)};
    moe_status status = z.share && z.cumulated && z.taken ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        double sum = 0;
        for (int64_t e = 0; e < d->bins; e++) {
            z.share[e] = inverse_power((double)(e + 1), d->c->route_arg);
            z.cumulated[e] = sum += z.share[e];
        }
        for (int64_t pair = 0; pair < d->c->T * K; pair++) {
            int32_t mark = (int32_t)(pair / K) + 1;
            int64_t e = draw_zipf_expert(&z, d->c->seed, (uint64_t)pair, mark);
            z.taken[e] = mark;
            add_pair(d, pair / K, e);
        }
    }
    free(z.share);
    free(z.cumulated);
    free(z.taken);
    return status;
}

static int64_t count_pairs(const moe_case *c) {
    int64_t pairs = 0;
    if (c->route != MOE_ROUTE_COUNTS)
        return c->T * c->layer.K;
    for (int64_t e = 0; e < c->n_counts; e++)
        pairs += c->counts[e];
    return pairs;
}

/* 1 or 1/2: powers of two keep exact data exact. */
static void draw_exact_weights(const moe_case *c, moe_plan *plan) {
    for (int64_t p = 0; p < plan->n_pairs; p++) {
        uint64_t bits = moe_rng_bits(c->seed, MOE_INT_STREAM_WEIGHT, (uint64_t)p);
        plan->weight[p] = bits & 1 ? 1.0 : 0.5;
    }
}

/* Weights uniform in (0, 1], then divided by their sum over the token. */
static void draw_weights(const moe_case *c, moe_plan *plan) {
    const bool cancels = c->data == MOE_FILL_CANCEL;
    for (int64_t e = 0; e < plan->n_experts; e++) {
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            const int64_t t = plan->token[p];
            const int64_t as = cancels ? moe_int_cancel_twin(t, plan->n_tokens) : t;
            uint64_t index = (uint64_t)(as * plan->n_experts + e);
            plan->weight[p] = 1.0 - moe_rng_uniform(c->seed, MOE_INT_STREAM_WEIGHT, index);
        }
    }
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const int64_t *begin = plan->pair_of_token + plan->token_offsets[t];
        const int64_t *end = plan->pair_of_token + plan->token_offsets[t + 1];
        double sum = 0;
        for (const int64_t *p = begin; p < end; p++)
            sum += plan->weight[*p];
        for (const int64_t *p = begin; p < end; p++)
            plan->weight[*p] /= sum;
    }
}

static moe_status draw_pairs(drawing *d) {
    switch ((moe_route_kind)d->c->route) {
    case MOE_ROUTE_ZIPF:
        return draw_zipf(d);
    case MOE_ROUTE_COUNTS:
        return draw_counts(d);
    case MOE_ROUTE_HOT:
        return draw_hot(d);
    case MOE_ROUTE_BALANCED:
        return draw_balanced(d);
    case MOE_ROUTE_UNIFORM:
        return draw_uniform(d);
    case MOE_ROUTE_ROUTER: /* makes no plan before it has run */
        break;
    }
    MOE_INT_NO_OTHER_VALUE();
}

/* Twins have the same experts, where tokens come one after the other with K pairs each. */
static void pair_twins(drawing *d) {
    const int64_t K = d->c->layer.K;
    if (d->c->route == MOE_ROUTE_COUNTS || d->c->route == MOE_ROUTE_BALANCED)
        return;
    for (int64_t i = 0; i < d->pairs; i++)
        d->expert[i] = d->expert[moe_int_cancel_twin(i / K, d->c->T) * K + i % K];
}

moe_status moe_int_draw_plan(const moe_case *c, const moe_log *log, moe_plan **ret) {
    drawing d = {c, c->layer.E + c->layer.n_zero, 0, NULL, NULL};
    size_t room = (size_t)count_pairs(c) + 1;
    moe_plan *plan = NULL;
    moe_status status = MOE_E_NOMEM;
    d.token = malloc(room * sizeof *d.token);
    d.expert = malloc(room * sizeof *d.expert);
    if (d.token && d.expert)
        status = draw_pairs(&d);
    if (!status && c->data == MOE_FILL_CANCEL)
        pair_twins(&d);
    if (!status)
        status = moe_int_leave_out(c, d.token, d.expert, &d.pairs);
    if (status)
        moe_fail(log, status, "out of memory for a plan of %zu pairs", room - 1);
    else
        status = moe_plan_create(c->T, d.bins, d.pairs, d.token, d.expert, NULL, log, &plan);
    free(d.token);
    free(d.expert);
    if (status)
        return status;
    if (c->data == MOE_FILL_EXACT)
        draw_exact_weights(c, plan);
    else
        draw_weights(c, plan);
    *ret = plan;
    return MOE_OK;
}
