/* Hypotheses about what orders the experts of a token: another score with the right bias, logits of
 * a range, or an expert that all tokens have. The weights are those of the right score. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Scores that take part in a choice: others are monotonous in the logits, or not of single ones. */
static const moe_score scores[] = {MOE_SCORE_SOFTMAX, MOE_SCORE_SIGMOID};

/* The choice by another score, where something is added to it or groups sum it. */
bool moe_int_change_choose_score(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const int32_t own = c->desc.router.score;
    if (trial >= (int64_t)(sizeof scores / sizeof *scores) || !c->logits)
        return false;
    double *b = moe_int_selection_bias(s);
    c->desc.router.score = scores[trial];
    moe_int_finding_say(f, ": by %s, which the weights are not made of",
                        moe_int_score_words[scores[trial]]);
    const bool done = moe_int_reroute(s, b, c);
    c->desc.router.score = own;
    free(b);
    return done && moe_int_reweigh(c);
}

/* What logits may be taken for. */
typedef enum logit_taken { CUT_BELOW_0, CUT_ABOVE_0, MAGNITUDE, TAKEN } logit_taken;

bool moe_int_change_choose_range(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    static const char *const words[TAKEN] = {"negative ones as 0, so that they tie",
                                             "positive ones as 0, so that they tie",
                                             "negative ones as positive"};
    if (trial >= TAKEN || !c->logits)
        return false;
    const double *right = c->logits;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t i = 0; c->own_logits && i < s->evidence->problem->T * c->plan->n_experts; i++) {
        const double z = c->own_logits[i];
        c->own_logits[i] = trial == CUT_BELOW_0   ? fmax(z, 0)
                           : trial == CUT_ABOVE_0 ? fmin(z, 0)
                                                  : fabs(z);
    }
    moe_int_finding_say(f, ": %s", words[trial]);
    const bool done = moe_int_reroute_own(s, c);
    c->logits = right;
    return done && moe_int_reweigh(c);
}

/* Every token has expert `e`: it takes a slot, or where it is chosen anyway another expert has it.
 */
static bool choose_with(const moe_int_scene *s, const double *key, int64_t e, moe_int_change *c) {
    const int64_t T = s->evidence->problem->T, R = c->plan->n_experts;
    const int64_t K = s->evidence->problem->layer.K;
    double *of = malloc((size_t)(T * R + 1) * sizeof *of);
    int32_t *best = malloc((size_t)K * sizeof *best);
    bool done = of && best;
    for (int64_t t = 0; done && t < T; t++) {
        memcpy(of + t * R, key + t * R, (size_t)R * sizeof *of);
        const int64_t n = moe_int_topk(key + t * R, NULL, R, K - 1, best);
        bool has = false;
        for (int64_t k = 0; k < n; k++) {
            of[t * R + best[k]] = INFINITY;
            has |= best[k] == e;
        }
        int64_t instead = has ? 0 : e; /* the first that it has not */
        while (has && isinf(of[t * R + instead]))
            instead++;
        of[t * R + instead] = INFINITY;
    }
    done = done && moe_int_choose_best(s, of, 1, c);
    free(of);
    free(best);
    return done;
}

bool moe_int_change_choose_always(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    const moe_plan *got = s->evidence->routing->plan;
    const int64_t T = s->evidence->problem->T, R = got->n_experts;
    int64_t e = 0;
    while (e < R && got->offsets[e + 1] - got->offsets[e] < T)
        e++;
    if (trial > 0 || e == R || !c->logits || s->evidence->problem->layer.K < 2 ||
        s->evidence->problem->layer.router.select != MOE_SELECT_TOPK)
        return false;
    double *b = moe_int_selection_bias(s), *key = malloc((size_t)(T * R) * sizeof *key);
    if (key)
        moe_route_selection_scores(&c->desc, T, c->logits, b, key);
    moe_int_finding_say(f, ": expert %lld, in the place of the last choice", (long long)e);
    moe_int_finding_param(f, "expert", (double)e);
    const bool done = key && choose_with(s, key, e, c);
    free(key);
    free(b);
    return done;
}
