/* Weights that are right ones, of other pairs, are normalised over too few, or have few bits. */
#include "check/ranks/shares.h"

#include <math.h>
#include <stdio.h>

/* A weight that is known no better than so tells no other's from chance; among those of its own
 * token few come into question. */
static const double most_slack = 2e-3, most_slack_of_token = 0.1;

static double weight_of(const moe_int_share *a) {
    return a->times * a->weight;
}

static bool is_known(const moe_int_share *a) {
    return a->pair >= 0 && a->slack < most_slack_of_token;
}

static bool is_right(const moe_int_share *a) {
    return fabs(a->times - 1) <= a->slack;
}

/* Are weights divided by the sum of their token's on each rank, instead of by all of them? */
static bool sums_of_ranks(const moe_int_rank_scene *s, const moe_int_share *share, int64_t count) {
    const double due = s->problem->layer.router.scale;
    int64_t told = 0, partial = 0;
    for (int64_t i = 0, end; i < count; i = end) {
        double sum = 0, slack = 0;
        for (end = i; end < count && (end == i || !share[end].first); end++) {
            sum += weight_of(&share[end]);
            slack += share[end].slack * fabs(weight_of(&share[end]));
            partial += !is_right(&share[end]);
        }
        if (slack > most_slack * due)
            continue;
        if (fabs(sum - due) > 10 * slack + 1e-6)
            return false;
        told++;
    }
    return told > 1 && partial > 0;
}

/* Weights that are known so well show the type that they were rounded to. */
static const double slack_of_bits = 2e-4;

/* Are all of them right ones in a narrower type? */
static bool are_narrow(const moe_int_share *share, int64_t count, moe_dtype type) {
    int64_t told = 0;
    for (int64_t i = 0; i < count; i++) {
        const moe_int_share *a = &share[i];
        const double rounded = moe_round_to(a->weight, type);
        if (a->slack > slack_of_bits)
            continue;
        if (fabs(weight_of(a) - rounded) > a->slack * a->weight)
            return false;
        told += fabs(rounded - a->weight) > 2 * a->slack * a->weight;
    }
    return told > 2;
}

/* The pair of the same owner, or token, whose weight this one has; -1: none. */
static int64_t whose(const moe_int_rank_scene *s, const moe_int_share *a,
                     const moe_int_share *share, int64_t count) {
    const int32_t *token = s->plan->token;
    for (int64_t i = 0; i < count; i++)
        if (share[i].pair != a->pair &&
            (token[share[i].pair] == token[a->pair] ||
             (share[i].owner == a->owner && a->slack < most_slack)) &&
            fabs(weight_of(a) - share[i].weight) <= a->slack * fmax(a->weight, share[i].weight))
            return i;
    return -1;
}

bool moe_int_rank_others_weights(const moe_int_rank_scene *s, const moe_int_share *share,
                                 int64_t count, char *ret, size_t size) {
    static const moe_dtype narrow[] = {MOE_BF16, MOE_F16};
    int64_t wrong = 0, first = -1, other = -1;
    if (count == 0 || share[0].pair < 0)
        return false;
    if (sums_of_ranks(s, share, count)) {
        snprintf(ret, size, "weights are divided by the sum of a token's on each rank");
        return true;
    }
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (are_narrow(share, count, narrow[i])) {
            snprintf(ret, size, "weights are rounded to %s", moe_dtype_name(narrow[i]));
            return true;
        }
    for (int64_t i = 0; i < count; i++) {
        if (!is_known(&share[i]) || is_right(&share[i]))
            continue;
        const int64_t j = whose(s, &share[i], share, count);
        if (j < 0)
            return false;
        if (first < 0) {
            first = i;
            other = j;
        }
        wrong++;
    }
    if (wrong < 2)
        return false;
    const moe_int_share *a = &share[first], *b = &share[other];
    snprintf(ret, size,
             "rows count with the weights of others: row %lld of expert %lld on rank %d "
             "with that of row %lld of expert %lld; %lld rows",
             (long long)(a->pair - s->plan->offsets[a->expert]), (long long)a->expert,
             (int)a->owner, (long long)(b->pair - s->plan->offsets[b->expert]),
             (long long)b->expert, (long long)wrong);
    return true;
}
