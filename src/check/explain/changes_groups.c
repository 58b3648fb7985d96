/* Hypotheses about groups of experts, which limit the choice. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

/* A group's `count` best scores together. */
static double group_score(const double *score, int64_t size, int64_t count) {
    double sum = 0;
    int32_t two[4]; /* the most that a rule asks for */
    if (count >= size) {
        for (int64_t i = 0; i < size; i++)
            sum += score[i];
        return sum;
    }
    int64_t found = moe_int_topk(score, NULL, size, count, two);
    for (int64_t i = 0; i < found; i++)
        sum += score[two[i]];
    return sum;
}

/* A group router as it might be written otherwise. */
typedef struct group_rule {
    int64_t best;  /* experts that a group counts by: 1 to 4, or all */
    double mask;   /* score of experts of the groups that are out */
    bool biasless; /* groups count by scores without the selection's bias */
    double plus;   /* what is added to the score of group `of` */
    int64_t of;
} group_rule;

/* One token's scores with the mask in the groups that are out. */
static void mask_groups(const moe_router_desc *r, const group_rule *rule, int64_t R,
                        const double *b, double *score, double *group) {
    int32_t kept[256];
    unsigned char in[256] = {0};
    int64_t size = R / r->groups;
    for (int64_t e = 0; rule->biasless && b && e < R; e++)
        score[e] -= b[e];
    for (int64_t g = 0; g < r->groups; g++)
        group[g] = group_score(score + g * size, size, rule->best);
    for (int64_t e = 0; rule->biasless && b && e < R; e++)
        score[e] += b[e];
    group[rule->of] += rule->plus;
    int64_t n = moe_int_topk(group, NULL, r->groups, r->topk_groups, kept);
    for (int64_t i = 0; i < n; i++)
        in[kept[i]] = 1;
    for (int64_t e = 0; e < R; e++)
        if (!in[e / size])
            score[e] = rule->mask;
}

static bool reroute_groups(const moe_int_scene *s, const group_rule *rule, moe_int_change *c) {
    const moe_router_desc *r = &moe_int_layer_of(s)->router;
    const moe_problem *p = s->evidence->problem;
    int64_t R = c->plan->n_experts, K = c->desc.K;
    if (!c->logits || r->select != MOE_SELECT_GROUP_TOPK || r->groups > 256)
        return false;
    double *score = malloc((size_t)(p->T * R + r->groups) * sizeof *score),
           *b = moe_int_selection_bias(s);
    int32_t *best = malloc((size_t)K * sizeof *best);
    moe_int_pairs pairs = {0};
    moe_plan *plan = NULL;
    moe_status status = score && best ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        moe_route_selection_scores(&c->desc, p->T, c->logits, b, score);
    for (int64_t t = 0; !status && t < p->T; t++) {
        mask_groups(r, rule, R, b, score + t * R, score + p->T * R);
        int64_t n = moe_int_topk(score + t * R, NULL, R, K, best);
        for (int64_t k = 0; !status && k < n; k++)
            status = moe_int_pairs_add(&pairs, t, best[k]);
    }
    if (!status)
        status =
            moe_plan_create(p->T, R, pairs.count, pairs.token, pairs.expert, NULL, NULL, &plan);
    if (!status)
        moe_int_take_choice(plan, c);
    moe_int_pairs_destroy(&pairs);
    free(score);
    free(best);
    free(b);
    return !status && moe_int_reweigh(c);
}

bool moe_int_change_groups_zero(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    const group_rule rule = {.best = 2, .mask = 0};
    (void)f;
    return trial == 0 && reroute_groups(s, &rule, c);
}

/* By its best expert alone, by all of them, or without the bias that the choice has. */
bool moe_int_change_groups_score(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    static const char *const words[] = {": its best one alone", ": all of its experts",
                                        ": those without the selection bias", ": its three best",
                                        ": its four best"};
    static const int64_t best[] = {1, INT64_MAX, 2, 3, 4};
    if (trial > 4)
        return false;
    const group_rule rule = {.best = best[trial], .mask = -INFINITY, .biasless = trial == 2};
    moe_int_finding_say(f, "%s", words[trial]);
    return reroute_groups(s, &rule, c);
}

/* Each group in turn, kept by every token, then by none. */
bool moe_int_change_groups_fixed(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const int64_t groups = moe_int_layer_of(s)->router.groups;
    if (trial >= 2 * groups)
        return false;
    const bool kept = trial < groups;
    const group_rule rule = {
        .best = 2, .mask = -INFINITY, .plus = kept ? INFINITY : -INFINITY, .of = trial % groups};
    moe_int_finding_say(f, ": group %lld is %s", (long long)rule.of,
                        kept ? "always kept" : "never");
    return reroute_groups(s, &rule, c);
}

bool moe_int_change_groups_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    (void)f;
    if (trial > 0 || moe_int_layer_of(s)->router.select != MOE_SELECT_GROUP_TOPK)
        return false;
    double *b = moe_int_selection_bias(s);
    c->desc.router.select = MOE_SELECT_TOPK;
    bool done = moe_int_reroute(s, b, c);
    free(b);
    return done;
}

/* One fewer, one more. */
bool moe_int_change_groups_number(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    moe_router_desc *r = &c->desc.router;
    int64_t E = moe_int_layer_of(s)->E + moe_int_layer_of(s)->n_zero;
    if (trial > 1 || r->select != MOE_SELECT_GROUP_TOPK)
        return false;
    r->topk_groups += trial ? 1 : -1;
    moe_int_finding_say(f, ": %d", (int)r->topk_groups);
    if (r->topk_groups < 1 || r->topk_groups > r->groups ||
        r->topk_groups * (E / r->groups) < moe_int_layer_of(s)->K)
        return true; /* no such router: the next trial */
    double *b = moe_int_selection_bias(s);
    bool done = moe_int_reroute(s, b, c);
    free(b);
    return done;
}
