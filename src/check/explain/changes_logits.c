/* Hypotheses about the logits. */
#include "check/explain/bank.h"

#include <stdlib.h>
#include <string.h>

bool moe_int_change_router_bias_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    const moe_tensor *b = &s->evidence->problem->in.t[MOE_T_B_R];
    int64_t R = c->plan->n_experts, count = s->evidence->problem->T * R;
    if (trial > 1 || !c->logits || !moe_int_layer_of(s)->router.bias)
        return false;
    double *bias = moe_int_selection_bias(s);
    c->own_logits = malloc((size_t)count * sizeof *c->own_logits);
    for (int64_t i = 0; c->own_logits && i < count; i++)
        c->own_logits[i] = c->logits[i] - moe_load(b->data, b->dtype, (size_t)(i % R));
    if (c->own_logits)
        c->logits = c->own_logits;
    if (trial)
        moe_int_finding_say(f, " of weights; those that choose have it");
    bool done = c->own_logits && (trial ? moe_int_reweigh(c) : moe_int_reroute(s, bias, c));
    free(bias);
    return done;
}

/* Takes the last elements' share from the logits. */
bool moe_int_change_router_k_dropped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    static const int64_t dropped[] = {8, 16, 32, 64, 128};
    const moe_problem *p = s->evidence->problem;
    int64_t R = c->plan->n_experts, d = p->layer.d;
    if (trial > 4 || dropped[trial] >= d)
        return false;
    int64_t k = dropped[trial];
    double *w = malloc((size_t)(R + 1) * (size_t)k * sizeof *w), *x = w ? w + R * k : NULL;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t e = 0; w && c->own_logits && e < R; e++)
        moe_int_load(&p->in.t[MOE_T_W_R], e * d + d - k, k, w + e * k);
    for (int64_t t = 0; w && c->own_logits && t < p->T; t++) {
        moe_int_load(&p->in.t[MOE_T_X], t * d + d - k, k, x);
        for (int64_t e = 0; e < R; e++)
            for (int64_t i = 0; i < k; i++)
                c->own_logits[t * R + e] -= w[e * k + i] * x[i];
    }
    bool made = w != NULL;
    free(w);
    moe_int_finding_say(f, ": %lld of %lld", (long long)k, (long long)d);
    moe_int_finding_param(f, "dropped", (double)k);
    if (s->evidence->first == MOE_INT_CHOICE)
        return made && moe_int_reroute_own(s, c);
    c->logits = c->own_logits ? c->own_logits : c->logits;
    return made && moe_int_reweigh(c);
}
