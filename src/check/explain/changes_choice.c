/* Hypotheses about the choice of experts. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The weights of the changed description for the plan's choice. */
bool moe_int_reweigh(moe_int_change *c) {
    return c->logits && moe_route_weigh(&c->desc, c->logits, c->plan) == MOE_OK;
}

void moe_int_take_choice(moe_plan *plan, moe_int_change *c) {
    moe_plan_destroy(&c->plan);
    c->plan = plan;
    c->rerouted = true;
}

/* The choice of the changed description; weights follow. Without memory, or without a router: no
 * trial. */
bool moe_int_reroute(const moe_int_scene *s, const double *b_select, moe_int_change *c) {
    const moe_problem *p = s->evidence->problem;
    moe_plan *plan = NULL;
    if (!c->logits ||
        moe_route(&c->desc, p->T, c->logits, b_select, p->seed, NULL, &plan) != MOE_OK)
        return false;
    moe_int_take_choice(plan, c);
    return true;
}

/* b_select in float64, which the caller frees; NULL where there is none. */
double *moe_int_selection_bias(const moe_int_scene *s) {
    const moe_tensor *b = &s->evidence->problem->in.t[MOE_T_B_SELECT];
    return moe_int_layer_of(s)->router.select_bias ? moe_int_doubles(b, 0, moe_tensor_count(b))
                                                   : NULL;
}

/* Reverses the order of every token's experts. */
static void reverse(double *v, int64_t tokens, int64_t R) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < R / 2; i++) {
            double *a = v + t * R + i, *b = v + t * R + R - 1 - i, keep = *a;
            *a = *b;
            *b = keep;
        }
}

/* The plan with every expert called by its number from the other end. */
static moe_status renumber(const moe_plan *plan, moe_plan **ret) {
    size_t n = (size_t)plan->n_pairs + 1;
    int32_t *token = malloc(n * sizeof *token), *expert = malloc(n * sizeof *expert);
    moe_status status = token && expert ? MOE_OK : MOE_E_NOMEM;
    for (int64_t p = 0; !status && p < plan->n_pairs; p++) {
        token[p] = plan->token[p];
        expert[p] = (int32_t)(plan->n_experts - 1 - moe_int_plan_expert_of(plan, p));
    }
    if (!status)
        status = moe_plan_create(plan->n_tokens, plan->n_experts, plan->n_pairs, token, expert,
                                 plan->weight, NULL, ret);
    free(token);
    free(expert);
    return status;
}

/* A router that is run again knows of no mask. */
bool moe_int_change_mask_ignored(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    (void)f;
    if (trial > 0 || !s->evidence->problem->masked)
        return false;
    double *b = moe_int_selection_bias(s);
    const bool done = moe_int_reroute(s, b, c);
    free(b);
    return done;
}

/* Routing the experts in reverse order makes the higher index win. */
bool moe_int_change_ties_high(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    const moe_problem *p = s->evidence->problem;
    int64_t R = c->plan->n_experts, count = p->T * R;
    (void)f;
    if (trial > 0 || !c->logits)
        return false;
    double *z = malloc((size_t)count * sizeof *z), *b = moe_int_selection_bias(s);
    moe_plan *reversed = NULL, *plan = NULL;
    moe_status status = z ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        memcpy(z, c->logits, (size_t)count * sizeof *z);
        reverse(z, p->T, R);
        if (b)
            reverse(b, 1, R);
        status = moe_route(&c->desc, p->T, z, b, p->seed, NULL, &reversed);
    }
    if (!status)
        status = renumber(reversed, &plan);
    if (!status)
        moe_int_take_choice(plan, c);
    moe_plan_destroy(&reversed);
    free(z);
    free(b);
    return !status && moe_int_reweigh(c);
}

bool moe_int_change_select_bias_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    double *b = moe_int_selection_bias(s);
    if (trial > 1 || !b) {
        free(b);
        return false;
    }
    for (int64_t i = 0; i < c->plan->n_experts; i++)
        b[i] = -b[i];
    if (trial)
        moe_int_finding_say(f, " but subtracted");
    bool done = moe_int_reroute(s, trial ? b : NULL, c);
    free(b);
    return done;
}

/* Routes by the logits that the caller has put into own_logits. */
bool moe_int_reroute_own(const moe_int_scene *s, moe_int_change *c) {
    double *b = moe_int_selection_bias(s);
    c->logits = c->own_logits;
    bool done = c->own_logits && moe_int_reroute(s, b, c);
    free(b);
    return done;
}

double *moe_int_copy_logits(const moe_int_scene *s, const moe_int_change *c) {
    size_t count = (size_t)(s->evidence->problem->T * c->plan->n_experts);
    double *z = c->logits ? malloc(count * sizeof *z) : NULL;
    if (z)
        memcpy(z, c->logits, count * sizeof *z);
    return z;
}

/* Is there an expert that the subject chose for no token? Their logits become the least. */
static bool forbid_unchosen(const moe_int_scene *s, moe_int_change *c, moe_int_finding *f) {
    const moe_plan *got = s->evidence->routing->plan;
    int64_t R = got->n_experts, first = -1, count = 0;
    for (int64_t e = 0; e < R; e++) {
        if (got->offsets[e + 1] > got->offsets[e])
            continue;
        first = first < 0 ? e : first;
        count++;
        for (int64_t t = 0; c->own_logits && t < s->evidence->problem->T; t++)
            c->own_logits[t * R + e] = -1e300;
    }
    moe_int_finding_say(f, ": expert %lld and %lld more are never chosen", (long long)first,
                        (long long)(count - 1));
    moe_int_finding_param(f, "expert", (double)first);
    return count > 0;
}

bool moe_int_change_choose_unseen(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    if (trial > 0)
        return false;
    c->own_logits = moe_int_copy_logits(s, c);
    return forbid_unchosen(s, c, f) && moe_int_reroute_own(s, c);
}

bool moe_int_change_choose_capped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const int64_t caps[] = {32, 64, 128, 256};
    int64_t R = c->plan->n_experts;
    if (trial > 3 || caps[trial] >= R)
        return false;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t i = 0; c->own_logits && i < s->evidence->problem->T * R; i++)
        if (i % R >= caps[trial])
            c->own_logits[i] = -1e300;
    moe_int_finding_say(f, ": %lld", (long long)caps[trial]);
    moe_int_finding_param(f, "experts", (double)caps[trial]);
    return moe_int_reroute_own(s, c);
}

bool moe_int_change_choose_lowest(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)f;
    if (trial > 0)
        return false;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t i = 0; c->own_logits && i < s->evidence->problem->T * c->plan->n_experts; i++)
        c->own_logits[i] = -c->own_logits[i];
    const double *right = c->logits;
    bool done = moe_int_reroute_own(s, c);
    c->logits = right;
    return done && moe_int_reweigh(c);
}

/* K - 1, 8, 1 experts. */
bool moe_int_change_choose_fewer(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    int64_t K = moe_int_layer_of(s)->K;
    const int64_t fewer[] = {K - 1, 8, 1};
    if (trial > 2 || K < 2 || fewer[trial] >= K)
        return false;
    double *b = moe_int_selection_bias(s);
    c->desc.K = fewer[trial];
    moe_int_finding_say(f, ": %lld", (long long)c->desc.K);
    moe_int_finding_param(f, "K", (double)c->desc.K);
    bool done = moe_int_reroute(s, b, c);
    free(b);
    return done;
}
