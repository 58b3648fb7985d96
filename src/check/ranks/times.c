/* How often a part counts instead of once. */
#include "check/ranks/shares.h"

#include <math.h>
#include <stdio.h>

/* Of shares that are known no better than so nothing is said. */
static const double most_slack = 0.2;

static double never(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)a, (void)factor;
    return 0;
}

static double twice(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)a, (void)factor;
    return 2;
}

static double ranks(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)a, (void)factor;
    return s->R;
}

static double over_ranks(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)a, (void)factor;
    return 1.0 / s->R;
}

static double over_own_ranks(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)factor;
    return a->ranks ? 1.0 / a->ranks : 1;
}

static double weight(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)factor;
    return a->pair < 0 ? 1 : a->weight;
}

static double over_weight(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)factor;
    return a->pair < 0 || a->weight == 0 ? 1 : 1 / a->weight;
}

static double replicas(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    const moe_split *split = &s->problem->split;
    (void)factor;
    return a->expert >= 0 && a->expert < split->n_replicas ? (double)split->replicas[a->expert] : 1;
}

static double given(const moe_int_rank_scene *s, const moe_int_share *a, double factor) {
    (void)s, (void)a;
    return factor;
}

const moe_int_times moe_int_times_rules[MOE_INT_TIMES] = {
    {"lacks", never, false},
    {"has twice", twice, false},
    {"has, times the number of ranks,", ranks, true},
    {"has, divided by the number of ranks,", over_ranks, true},
    {"has, divided by the number of ranks that a token goes to,", over_own_ranks, true},
    {"has, with the combine weight once more than it should,", weight, false},
    {"has, without the combine weight,", over_weight, false},
    {"has, times the number of an expert's replicas,", replicas, true},
    {"has, times %.4g,", given, false},
};

bool moe_int_share_known(const moe_int_share *a) {
    return a->slack < most_slack;
}

bool moe_int_share_near(const moe_int_share *a, double due) {
    return fabs(a->times - due) <= a->slack * fmax(1, fabs(due));
}

double moe_int_times_factor(const moe_int_share *share, int64_t count) {
    const moe_int_share *best = NULL;
    for (int64_t i = 0; i < count; i++)
        if (moe_int_share_known(&share[i]) && !moe_int_share_near(&share[i], 1) &&
            (!best || share[i].slack < best->slack))
            best = &share[i];
    return best ? best->times : 1;
}

void moe_int_times_verb(const moe_int_times *rule, double factor, char *ret, size_t size) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of the table above */
    snprintf(ret, size, rule->verb, factor);
#pragma GCC diagnostic pop
}

const moe_int_times *moe_int_times_of(const moe_int_rank_scene *s, const moe_int_share *share,
                                      int64_t count) {
    const double factor = moe_int_times_factor(share, count);
    for (int r = 0; r < MOE_INT_TIMES; r++) {
        int64_t i = 0;
        while (i < count &&
               (!moe_int_share_known(&share[i]) || moe_int_share_near(&share[i], 1) ||
                moe_int_share_near(&share[i], moe_int_times_rules[r].of(s, &share[i], factor))))
            i++;
        if (i == count)
            return &moe_int_times_rules[r];
    }
    return NULL;
}
