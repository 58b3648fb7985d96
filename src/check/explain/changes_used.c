/* Hypotheses about combine weights that are right, or not to be seen, and used otherwise. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A copy of the plan's weights, which becomes those that the experts use. */
static bool copy_weights(moe_int_change *c) {
    const size_t n = (size_t)c->plan->n_pairs;
    c->used = malloc((n + 1) * sizeof *c->used);
    if (c->used)
        memcpy(c->used, c->plan->weight, n * sizeof *c->used);
    return c->used != NULL;
}

bool moe_int_change_used_bits(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    static const int bits[] = {8, 11, 4, 3, 2, 5, 6, 7, 9, 10};
    if (trial >= (int64_t)(sizeof bits / sizeof *bits) || !moe_int_is_small(s) ||
        s->evidence->first == MOE_INT_CHOICE || !copy_weights(c))
        return false;
    for (int64_t p = 0; p < c->plan->n_pairs; p++)
        c->used[p] = moe_int_to_bits(bits[trial], c->used[p]);
    moe_int_finding_say(f, ": to %d bits", bits[trial]);
    moe_int_finding_param(f, "bits", bits[trial]);
    return true;
}

/* f of each of a token's weights, or of their scores, over the sum of that. */
typedef double again_fn(double w);

static double square(double w) {
    return w * w;
}

/* Each weight times its expert's part of a softmax over all logits. */
static void times_softmax(moe_int_change *c) {
    const moe_plan *plan = c->plan;
    const int64_t R = plan->n_experts;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const double *z = c->logits + t * R;
        double most = -INFINITY, sum = 0;
        for (int64_t e = 0; e < R; e++)
            most = fmax(most, z[e]);
        for (int64_t e = 0; e < R; e++)
            sum += exp(z[e] - most);
        for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
            const int64_t p = plan->pair_of_token[j];
            plan->weight[p] *= exp(z[moe_int_plan_expert_of(plan, p)] - most) / sum;
        }
    }
}

typedef struct again {
    again_fn *of;
    bool of_scores, scaled, times_all;
    const char *words;
} again;

static const again ways[] = {
    {exp, true, false, false, "the chosen scores go through a softmax"},
    {exp, false, false, false, "the weights go through a softmax"},
    {sqrt, false, false, false, "roots of the weights over their sum"},
    {square, false, false, false, "squares of the weights over their sum"},
    {exp, true, true, false, "the chosen scores go through a softmax, then the routed scale"},
    {NULL, false, false, true, "they are multiplied by a softmax over all experts"},
};

bool moe_int_change_weights_again(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    if (trial >= (int64_t)(sizeof ways / sizeof *ways) || !c->logits)
        return false;
    const again *way = &ways[trial];
    const moe_plan *plan = c->plan;
    if (way->of_scores) {
        c->desc.router.renorm = false;
        c->desc.router.scale = 1;
    }
    if (!moe_int_reweigh(c))
        return false;
    if (way->scaled && moe_int_layer_of(s)->router.scale == 1)
        return true; /* that is another trial's */
    if (way->times_all)
        times_softmax(c);
    for (int64_t t = 0; !way->times_all && t < plan->n_tokens; t++) {
        double sum = 0;
        for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
            sum += way->of(plan->weight[plan->pair_of_token[j]]);
        for (int64_t j = plan->token_offsets[t]; sum > 0 && j < plan->token_offsets[t + 1]; j++) {
            double *w = &c->plan->weight[plan->pair_of_token[j]];
            *w = way->of(*w) / sum * (way->scaled ? moe_int_layer_of(s)->router.scale : 1);
        }
    }
    moe_int_finding_say(f, ": %s", way->words);
    return true;
}

/* One slot of each token, by weight the last or the first, has what the others leave. */
bool moe_int_change_weight_of_rest(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    const double whole = moe_int_layer_of(s)->router.scale;
    moe_plan *plan = c->plan;
    if (trial > 1 || !c->logits || moe_int_layer_of(s)->router.renorm ||
        s->evidence->first == MOE_INT_CHOICE)
        return false;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const int64_t first = plan->token_offsets[t], end = plan->token_offsets[t + 1];
        int64_t is = -1;
        double sum = 0;
        for (int64_t j = first; j < end; j++) {
            const int64_t p = plan->pair_of_token[j];
            is = moe_int_rank_of(plan, p) == (trial ? 0 : end - first - 1) ? p : is;
            sum += plan->weight[p];
        }
        if (is >= 0)
            plan->weight[is] = whole - (sum - plan->weight[is]);
    }
    moe_int_finding_say(f, ": the %s weight", trial ? "largest" : "smallest");
    return true;
}

bool moe_int_change_logits_scaled(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    const double log2e = 1.4426950408889634, root = sqrt((double)moe_int_layer_of(s)->d);
    const struct {
        double by;
        const char *why;
    } ways_of[] = {
        {1 / log2e, "ln 2, as where 2^z stands for e^z"},
        {log2e, "log2 e, as where its factor is there twice"},
        {1.4453125 / log2e, "log2 e of bf16 over log2 e"},
        {1.4423828125 / log2e, "log2 e of fp16 over log2 e"},
        {1 / root, "1 / sqrt(d)"},
        {root, "sqrt(d)"},
        {0.5, "0.5"},
        {2, "2"},
        {0.1, "0.1"},
        {10, "10"},
    };
    const int64_t R = c->plan->n_experts;
    if (trial >= (int64_t)(sizeof ways_of / sizeof *ways_of) || !c->logits ||
        s->evidence->first == MOE_INT_CHOICE)
        return false;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t i = 0; c->own_logits && i < s->evidence->problem->T * R; i++)
        c->own_logits[i] *= ways_of[trial].by;
    c->logits = c->own_logits ? c->own_logits : c->logits;
    moe_int_finding_say(f, ": by %s", ways_of[trial].why);
    moe_int_finding_param(f, "factor", ways_of[trial].by);
    return c->own_logits && moe_int_reweigh(c);
}
