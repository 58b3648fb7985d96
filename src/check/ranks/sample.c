/* A scene of some of O's wrong tokens alone, where all are too many for every expert to be run on.
 */
#include "check/explain/local.h"
#include "check/ranks/scene.h"

#include <stdlib.h>
#include <string.h>

/* Up to `most` wrong tokens, evenly spread, in order; returns how many. */
static int64_t choose(const moe_int_rank_scene *s, int64_t most, int64_t *ret) {
    int64_t wrong = 0, kept = 0, seen = 0;
    for (int64_t t = 0; t < s->T; t++)
        wrong += moe_int_rank_is_wrong(s, t);
    for (int64_t t = 0; t < s->T; t++) {
        if (!moe_int_rank_is_wrong(s, t))
            continue;
        /* the seen-th of `wrong` is the first that passes another of `most` equal steps */
        if (wrong <= most || seen * most / wrong != (seen + 1) * most / wrong)
            ret[kept++] = t;
        seen++;
    }
    return kept;
}

/* Rows of d doubles. False: no memory. */
static bool take(const double *all, const int64_t *row, int64_t count, int64_t d, double **ret) {
    *ret = malloc((size_t)(count * d + 1) * sizeof **ret);
    for (int64_t i = 0; *ret && i < count; i++)
        memcpy(*ret + i * d, all + row[i] * d, (size_t)d * sizeof **ret);
    return *ret;
}

/* Pairs of the tokens, numbered anew: by expert and token, as they lay before. */
static bool take_pairs(const moe_int_rank_scene *s, const int64_t *number, int64_t *pair,
                       moe_int_rank_scene *ret, moe_plan **plan) {
    int32_t *token = malloc((size_t)(s->P + 1) * sizeof *token);
    int32_t *expert = malloc((size_t)(s->P + 1) * sizeof *expert);
    double *weight = malloc((size_t)(s->P + 1) * sizeof *weight);
    const bool ready = token && expert && weight && ret->expert;
    for (int64_t p = 0; ready && p < s->P; p++) {
        if (number[s->plan->token[p]] < 0)
            continue;
        token[ret->P] = (int32_t)number[s->plan->token[p]];
        expert[ret->P] = (int32_t)s->expert[p];
        weight[ret->P] = s->plan->weight[p];
        ret->expert[ret->P] = s->expert[p];
        pair[ret->P++] = p;
    }
    const bool made =
        ready && !moe_plan_create(ret->T, s->E, ret->P, token, expert, weight, NULL, plan);
    free(token);
    free(expert);
    free(weight);
    ret->plan = made ? *plan : NULL;
    return made;
}

static void measure(moe_int_rank_scene *s) {
    double error = 0;
    for (int64_t i = 0; i < s->count; i++)
        error += (s->got[i] - s->right[i]) * (s->got[i] - s->right[i]);
    s->before = error / moe_int_inner(s->right, s->right, s->count);
}

bool moe_int_rank_sample(const moe_int_rank_scene *s, int64_t most, moe_int_rank_scene *ret,
                         moe_plan **plan) {
    int64_t *token = calloc((size_t)s->T + 1, sizeof *token);
    int64_t *number = malloc((size_t)(s->T + 1) * sizeof *number);
    int64_t *pair = calloc((size_t)s->P + 1, sizeof *pair);
    *ret = (moe_int_rank_scene){.is = s->is,
                                .problem = s->problem,
                                .layout = s->layout,
                                .E = s->E,
                                .d = s->d,
                                .R = s->R,
                                .id = s->id};
    ret->expert = malloc((size_t)(s->P + 1) * sizeof *ret->expert);
    ret->home = malloc((size_t)(s->T + 1) * sizeof *ret->home);
    ret->owner = malloc((size_t)(s->E + 1) * sizeof *ret->owner);
    bool made = token && number && pair && ret->home && ret->owner;
    if (made) {
        ret->T = choose(s, most, token);
        ret->count = ret->T * s->d;
        memcpy(ret->owner, s->owner, (size_t)s->E * sizeof *ret->owner);
        for (int64_t t = 0; t < s->T; t++)
            number[t] = -1;
        for (int64_t t = 0; t < ret->T; t++) {
            number[token[t]] = t;
            ret->home[t] = s->home[token[t]];
        }
    }
    made = made && ret->T > 0 && take_pairs(s, number, pair, ret, plan) &&
           take(s->X, token, ret->T, s->d, &ret->X) &&
           take(s->got, token, ret->T, s->d, &ret->got) &&
           take(s->right, token, ret->T, s->d, &ret->right) &&
           (!s->Y || take(s->Y, pair, ret->P, s->d, &ret->Y));
    if (made)
        measure(ret);
    free(token);
    free(number);
    free(pair);
    return made && ret->before > 0;
}
