/* Hypotheses about combine weights. */
#include "check/explain/bank.h"
#include "check/explain/pair_rules.h"
#include "route/route.h"

#include <stdlib.h>

bool moe_int_change_renorm_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    if (trial > 1 || !moe_int_layer_of(s)->router.renorm)
        return false;
    c->desc.router.renorm = 0;
    c->back.router.renorm = trial;
    if (trial)
        moe_int_finding_say(f, "; gradients pass as if they were");
    return moe_int_reweigh(c);
}

bool moe_int_change_renorm_added(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    (void)f;
    if (trial > 0 || moe_int_layer_of(s)->router.renorm)
        return false;
    c->desc.router.renorm = c->back.router.renorm = 1;
    return moe_int_reweigh(c);
}

bool moe_int_change_scale_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)f;
    if (trial > 0 || moe_int_layer_of(s)->router.scale == 1)
        return false;
    c->desc.router.scale = c->back.router.scale = 1;
    return moe_int_reweigh(c);
}

bool moe_int_change_scale_twice(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    (void)f;
    if (trial > 0 || moe_int_layer_of(s)->router.scale == 1)
        return false;
    c->desc.router.scale *= c->desc.router.scale;
    c->back.router.scale = c->desc.router.scale;
    return moe_int_reweigh(c);
}

bool moe_int_change_scale_on_shared(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    (void)f;
    if (trial > 0 || moe_int_layer_of(s)->router.scale == 1 || !moe_int_layer_of(s)->n_shared)
        return false;
    c->shared_factor = moe_int_layer_of(s)->router.scale;
    return true;
}

static double sum_of(const moe_plan *plan, int64_t t) {
    double sum = 0;
    for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++)
        sum += plan->weight[plan->pair_of_token[k]];
    return sum;
}

static void divide(const moe_plan *plan, int64_t t, double by) {
    for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++)
        plan->weight[plan->pair_of_token[k]] /= by != 0 ? by : 1;
}

/* Twice in a row, with the layer's eps; or after everything else, as `used`, so that the plan's
 * weights stay those that are told. */
bool moe_int_change_renorm_twice(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const moe_plan *plan = c->plan;
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    if (trial > 1)
        return false;
    if (trial == 1) {
        for (int64_t t = 0; r->renorm && t < plan->n_tokens; t++)
            divide(plan, t, r->renorm_eps + sum_of(plan, t) / r->scale);
        return true;
    }
    moe_int_finding_say(f, ", after everything else");
    c->used = malloc(((size_t)plan->n_pairs + 1) * sizeof *c->used);
    for (int64_t t = 0; c->used && t < plan->n_tokens; t++) {
        double sum = sum_of(plan, t);
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++)
            c->used[plan->pair_of_token[k]] =
                plan->weight[plan->pair_of_token[k]] / (sum != 0 ? sum : 1);
    }
    return c->used != NULL;
}

/* The eps that the subject's own weights have: with raw weights r, w = c r / (sum r + eps). */
static double fitted_eps(const moe_int_scene *s, moe_int_change *c) {
    const moe_tensor *got = &s->evidence->got.t[MOE_T_S];
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    double sum = 0;
    c->desc.router.renorm = 0;
    if (!got->data || moe_tensor_count(got) != c->plan->n_pairs || !moe_int_reweigh(c))
        return -1;
    for (int64_t t = 0; t < c->plan->n_tokens; t++) {
        double w = 0, raw = sum_of(c->plan, t);
        for (int64_t k = c->plan->token_offsets[t]; k < c->plan->token_offsets[t + 1]; k++)
            w += moe_load(got->data, got->dtype, (size_t)c->plan->pair_of_token[k]);
        sum += w != 0 ? raw / w - raw / r->scale : 0;
    }
    c->desc.router.renorm = 1;
    return sum / (double)c->plan->n_tokens;
}

/* Those that families use, none, and the one that fits. */
bool moe_int_change_renorm_eps(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    static const double eps[] = {0, 1e-20, 1e-12, 1e-9, 1e-6, 1e-5, 1e-3};
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    enum { KNOWN = sizeof eps / sizeof *eps };
    if (!r->renorm || !c->logits || trial > KNOWN)
        return false;
    double other = trial < KNOWN ? eps[trial] : fitted_eps(s, c);
    if (!(other >= 0))
        return false;
    c->desc.router.renorm_eps = c->back.router.renorm_eps = other;
    moe_int_finding_say(
        f, trial ? ": %.4g, not %.4g" : ": %.4g (or the larger of sum and eps), not %.4g", other,
        r->renorm_eps);
    moe_int_finding_param(f, "eps", other);
    return moe_int_reweigh(c);
}

/* The sum of all experts' scores, or the largest of the chosen. */
bool moe_int_change_renorm_other_sum(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    const moe_plan *plan = c->plan;
    int64_t R = plan->n_experts;
    if (trial > 1 || !r->renorm || !c->logits)
        return false;
    double *score = malloc((size_t)(plan->n_tokens * R) * sizeof *score);
    moe_layer_desc desc = c->desc;
    desc.router.select_bias = 1; /* then scores are scores, and not their logits */
    c->desc.router.renorm = 0;
    bool done = score && moe_int_reweigh(c);
    if (score)
        moe_route_selection_scores(&desc, plan->n_tokens, c->logits, NULL, score);
    for (int64_t t = 0; done && t < plan->n_tokens; t++) {
        double by = r->renorm_eps, most = 0;
        for (int64_t e = 0; e < R; e++)
            by += score[t * R + e];
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            double w = plan->weight[plan->pair_of_token[k]] / r->scale;
            most = w > most ? w : most;
        }
        divide(plan, t, trial ? most : by);
    }
    free(score);
    c->desc.router.renorm = 1;
    moe_int_finding_say(f, trial ? ": by the largest" : ": that of all experts' scores");
    return done;
}

const char *const moe_int_score_words[MOE_SCORE_COUNT] = {
    "a softmax over all experts",
    "a softmax over the chosen",
    "a sigmoid",
    "SparseMixer",
    "a sigmoid of the chosen logits",
    "sqrt(softplus)",
    "a capped sigmoid",
};

bool moe_int_change_score_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    if (trial >= MOE_SCORE_COUNT || !c->logits)
        return false;
    c->desc.router.score = c->back.router.score = (int32_t)trial;
    moe_int_finding_say(f, ", %s instead of %s", moe_int_score_words[trial],
                        moe_int_score_words[moe_int_layer_of(s)->router.score]);
    return moe_int_reweigh(c);
}

/* Raw weights score + b_select, renormalised and scaled as the layer says. */
bool moe_int_change_select_bias_weighs(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                       moe_int_finding *f) {
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    const moe_plan *plan = c->plan;
    (void)f;
    if (trial > 0 || !c->logits || !r->select_bias)
        return false;
    double *b = moe_int_selection_bias(s);
    c->desc.router.renorm = 0;
    c->desc.router.scale = 1;
    if (!b || !moe_int_reweigh(c)) {
        free(b);
        return false;
    }
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        double sum = r->renorm_eps;
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
            int64_t p = plan->pair_of_token[k];
            plan->weight[p] += b[moe_int_plan_expert_of(plan, p)];
            sum += plan->weight[p];
        }
        for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++)
            plan->weight[plan->pair_of_token[k]] *= r->scale / (r->renorm ? sum : 1);
    }
    c->desc.router = *r;
    free(b);
    return true;
}

bool moe_int_change_weight_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    (void)s;
    (void)f;
    c->terms &= ~(unsigned)(MOE_INT_ON_INPUT | MOE_INT_ON_OUTPUT);
    return trial == 0;
}

/* Squared where it belongs, or on the input and on the output. */
bool moe_int_change_weight_twice(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    (void)s;
    if (trial > 1)
        return false;
    if (trial == 1) {
        moe_int_finding_say(f, ", on the input and on the output");
        c->terms |= MOE_INT_ON_INPUT | MOE_INT_ON_OUTPUT;
        return true;
    }
    c->used = malloc(((size_t)c->plan->n_pairs + 1) * sizeof *c->used);
    for (int64_t p = 0; c->used && p < c->plan->n_pairs; p++)
        c->used[p] = c->plan->weight[p] * c->plan->weight[p];
    return c->used != NULL;
}

bool moe_int_change_weight_other_side(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                      moe_int_finding *f) {
    bool on_input = moe_int_layer_of(s)->router.weight_on == MOE_WEIGHT_ON_INPUT;
    if (trial > 0)
        return false;
    moe_int_finding_say(f, on_input ? ": its output" : ": its input");
    c->terms ^= MOE_INT_ON_INPUT | MOE_INT_ON_OUTPUT;
    return true;
}

/* The pair whose weight pair p, slot k of token t, takes. */
static int64_t neighbour(const moe_plan *plan, int64_t trial, int64_t t, int64_t k) {
    int64_t first = plan->token_offsets[t], n = plan->token_offsets[t + 1] - first;
    int64_t p = plan->pair_of_token[first + k], last = plan->n_pairs - 1;
    if (trial == 0)
        return p < last ? p + 1 : p;
    if (trial == 1)
        return p > 0 ? p - 1 : p;
    if (trial == 2)
        return plan->pair_of_token[first + (k + 1) % n];
    if (trial == 3)
        return plan->pair_of_token[first + (k + n - 1) % n];
    if (trial == 4)
        return plan->pair_of_token[first + n - 1 - k];
    if (trial == 5)
        return plan->pair_of_token[first];
    if (trial == 8)
        return t < plan->n_pairs ? t : p;
    if (trial == 9)
        return plan->pair_of_token[p];
    if (trial == 10)
        return first + k;
    if (trial >= 11) {
        const int64_t q = moe_int_pair_rules[trial - 11].of(plan, p);
        return q >= 0 ? q : p;
    }
    int64_t u = trial == 6 ? t + 1 : t - 1;
    if (u < 0 || u >= plan->n_tokens || plan->token_offsets[u] + k >= plan->token_offsets[u + 1])
        return p;
    return plan->pair_of_token[plan->token_offsets[u] + k];
}

bool moe_int_change_weight_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    static const char *const of[] = {"the next pair",
                                     "the pair before",
                                     "the token's next slot",
                                     "the token's slot before",
                                     "the token's slots in reverse order",
                                     "the token's first slot",
                                     "the next token",
                                     "the token before",
                                     "the pair that has the token's number",
                                     "the pair at this place in order of tokens",
                                     "the place of this pair in order of tokens"};
    enum { NAMED = sizeof of / sizeof *of };
    const moe_plan *plan = c->plan;
    (void)s;
    if (trial >= NAMED + MOE_INT_PAIR_RULES)
        return false;
    moe_int_finding_say(f, ": %s",
                        trial < NAMED ? of[trial] : moe_int_pair_rules[trial - NAMED].words);
    c->used = malloc(((size_t)plan->n_pairs + 1) * sizeof *c->used);
    for (int64_t t = 0; c->used && t < plan->n_tokens; t++)
        for (int64_t k = 0; k < plan->token_offsets[t + 1] - plan->token_offsets[t]; k++)
            c->used[plan->pair_of_token[plan->token_offsets[t] + k]] =
                plan->weight[neighbour(plan, trial, t, k)];
    return c->used != NULL;
}
