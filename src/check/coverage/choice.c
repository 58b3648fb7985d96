/* Tokens whose choice of experts a feature changes: the router is asked again without it. */
#include "check/coverage/coverage.h"
#include "layer/problem.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

enum { NO_MEMORY = -1 };

/* Experts of a plan, [T][n] of 0 and 1; the caller frees. */
static unsigned char *matrix_of(const moe_plan *plan) {
    unsigned char *m = calloc((size_t)(plan->n_tokens * plan->n_experts) + 1, 1);
    for (int64_t e = 0; m && e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++)
            m[plan->token[p] * plan->n_experts + e] = 1;
    return m;
}

moe_status moe_int_view_route(const moe_int_view *v, const moe_layer_desc *desc,
                              const double *logits, const double *b_select, moe_plan **ret) {
    moe_plan *plan = NULL;
    moe_status status = moe_route(desc, v->T, logits, b_select, v->seed, NULL, &plan);
    if (!status)
        status = moe_int_mask_plan(v->problem, &plan);
    if (status)
        moe_plan_destroy(&plan);
    else
        *ret = plan;
    return status;
}

typedef struct difference {
    int64_t tokens, gone, added; /* tokens that differ; pairs of `from` that `to` lacks, and back */
} difference;

static bool compare_plans(const moe_plan *from, const moe_plan *to, difference *ret) {
    const int64_t n = from->n_experts;
    unsigned char *a = matrix_of(from), *b = matrix_of(to);
    *ret = (difference){0};
    for (int64_t t = 0; a && b && t < from->n_tokens; t++) {
        ret->tokens += memcmp(a + t * n, b + t * n, (size_t)n) != 0;
        for (int64_t i = t * n; i < (t + 1) * n; i++) {
            ret->gone += a[i] > b[i];
            ret->added += a[i] < b[i];
        }
    }
    bool complete = a && b;
    free(a);
    free(b);
    return complete;
}

/* From the choice of another layer to the layer's own. */
static bool compare_with(const moe_int_view *v, const moe_layer_desc *other, const double *b_select,
                         difference *ret) {
    moe_plan *plan = NULL;
    *ret = (difference){0};
    if (moe_int_view_route(v, other, v->logits, b_select, &plan))
        return false;
    bool complete = compare_plans(plan, v->routed, ret);
    moe_plan_destroy(&plan);
    return complete;
}

/* The same from plain top-K. */
static bool compare_with_topk(const moe_int_view *v, difference *ret) {
    moe_layer_desc plain = *v->desc;
    plain.router.select = MOE_SELECT_TOPK;
    return compare_with(v, &plain, v->b_select, ret);
}

static bool selects_by(const moe_int_view *v, int64_t select) {
    return v->logits && v->desc->router.select == select;
}

int64_t moe_int_count_selection(const moe_int_view *v, int64_t select) {
    difference d;
    if (!selects_by(v, select))
        return 0;
    if (select == MOE_SELECT_TOPK)
        return v->desc->K < v->plan->n_experts ? v->T : 0;
    return compare_with_topk(v, &d) ? d.tokens : NO_MEMORY;
}

int64_t moe_int_count_dropped(const moe_int_view *v, int64_t select) {
    difference d;
    if (!selects_by(v, select))
        return 0;
    return compare_with_topk(v, &d) ? d.gone : NO_MEMORY;
}

int64_t moe_int_count_added(const moe_int_view *v, int64_t select) {
    difference d;
    if (!selects_by(v, select))
        return 0;
    return compare_with_topk(v, &d) ? d.added : NO_MEMORY;
}

int64_t moe_int_count_select_bias(const moe_int_view *v, int64_t arg) {
    (void)arg;
    difference d;
    if (!v->logits || !v->b_select)
        return 0;
    return compare_with(v, v->desc, NULL, &d) ? d.tokens : NO_MEMORY;
}

/* Experts in force: does top-K among `score` choose others? */
static bool chooses_others(const moe_int_view *v, int64_t t, const double *score, int32_t *best,
                           const unsigned char *allowed, const unsigned char *chosen) {
    const int64_t n = v->plan->n_experts;
    if (v->routed->token_offsets[t] == v->routed->token_offsets[t + 1])
        return false; /* masked */
    int64_t found = moe_int_topk(score, allowed, n, v->desc->K, best), same = 0;
    for (int64_t k = 0; k < found; k++)
        same += chosen[t * n + best[k]];
    return same != v->desc->K;
}

/* One token with its groups masked in another way: writes score[n] or allowed[n]. */
typedef void (*mask_fn)(const moe_int_selection *in, double *score, unsigned char *allowed);

/* A mask that multiplies: scores outside become 0, and stay in the contest. */
static void mask_by_zero(const moe_int_selection *in, double *score, unsigned char *allowed) {
    moe_int_mask_groups(in, score, allowed);
    for (int64_t i = 0; i < in->n; i++)
        score[i] = allowed[i] ? score[i] : 0;
    memset(allowed, 1, (size_t)in->n);
}

/* Groups ranked by their best expert alone. */
static void mask_by_best(const moe_int_selection *in, double *score, unsigned char *allowed) {
    const moe_router_desc *r = &in->desc->router;
    const int64_t size = in->n / r->groups;
    memset(allowed, 0, (size_t)in->n);
    for (int kept = 0; kept < r->topk_groups; kept++) {
        int64_t best = -1;
        for (int64_t i = 0; i < in->n; i++)
            if (!allowed[i] && (best < 0 || score[i] > score[best]))
                best = i;
        memset(allowed + best / size * size, 1, (size_t)size);
    }
}

static int64_t count_masked(const moe_int_view *v, mask_fn mask) {
    const int64_t n = v->plan->n_experts;
    if (!selects_by(v, MOE_SELECT_GROUP_TOPK))
        return 0;
    double *scores = malloc((size_t)(v->T * n) * sizeof *scores);
    unsigned char *allowed = malloc((size_t)n), *chosen = matrix_of(v->routed);
    int32_t *best = malloc((size_t)n * sizeof *best);
    bool complete = scores && allowed && chosen && best;
    int64_t tokens = 0;
    if (complete)
        moe_route_selection_scores(v->desc, v->T, v->logits, v->b_select, scores);
    moe_int_selection in = {v->desc, v->T, n, scores, v->seed, NULL};
    for (int64_t t = 0; complete && t < v->T; t++) {
        mask(&in, scores + t * n, allowed);
        tokens += chooses_others(v, t, scores + t * n, best, allowed, chosen);
    }
    free(scores);
    free(allowed);
    free(chosen);
    free(best);
    return complete ? tokens : NO_MEMORY;
}

int64_t moe_int_count_mask_by_zero(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return count_masked(v, mask_by_zero);
}

int64_t moe_int_count_group_by_best(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return count_masked(v, mask_by_best);
}

/* Row t of experts, or where an expert chooses its tokens column e, in the other order. */
static int64_t mirrored(const moe_int_view *v, bool tokens, int64_t t, int64_t e) {
    const int64_t n = v->plan->n_experts;
    return tokens ? (v->T - 1 - t) * n + e : t * n + n - 1 - e;
}

static bool experts_choose(const moe_int_view *v) {
    return v->desc->router.select == MOE_SELECT_EXPERT_CHOICE ||
           v->desc->router.select == MOE_SELECT_TOKEN_ROUNDING;
}

/* The choice with everything mirrored, mirrored back, differs where ties decide. */
static int64_t compare_mirrored(const moe_int_view *v, bool tokens, const double *z,
                                const double *b_select) {
    const int64_t n = v->plan->n_experts;
    moe_plan *plan = NULL;
    if (moe_int_view_route(v, v->desc, z, b_select, &plan))
        return NO_MEMORY;
    unsigned char *a = matrix_of(v->routed), *b = matrix_of(plan);
    int64_t count = a && b ? 0 : NO_MEMORY;
    for (int64_t t = 0; a && b && t < v->T; t++) {
        bool other = false;
        for (int64_t e = 0; e < n; e++)
            other |= a[t * n + e] != b[mirrored(v, tokens, t, e)];
        count += other;
    }
    free(a);
    free(b);
    moe_plan_destroy(&plan);
    return count;
}

int64_t moe_int_count_ties(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const int64_t n = v->plan->n_experts;
    const bool tokens = experts_choose(v);
    if (!v->logits)
        return 0;
    double *z = malloc((size_t)(v->T * n) * sizeof *z), *b = malloc((size_t)n * sizeof *b);
    int64_t count = NO_MEMORY;
    for (int64_t t = 0; z && t < v->T; t++)
        for (int64_t e = 0; e < n; e++)
            z[mirrored(v, tokens, t, e)] = v->logits[t * n + e];
    for (int64_t e = 0; b && v->b_select && e < n; e++)
        b[tokens ? e : n - 1 - e] = v->b_select[e];
    if (z && b)
        count = compare_mirrored(v, tokens, z, v->b_select ? b : NULL);
    free(z);
    free(b);
    return count;
}

/* Pairs that the rule most like this one places in another way. */
int64_t moe_int_count_rounding(const moe_int_view *v, int64_t rule) {
    int64_t least = -1;
    if (!selects_by(v, MOE_SELECT_TOKEN_ROUNDING) || v->desc->router.rounding != rule)
        return 0;
    for (int32_t other = 0; other < MOE_ROUND_COUNT; other++) {
        moe_layer_desc desc = *v->desc;
        difference d;
        desc.router.rounding = other;
        if (other == rule)
            continue;
        if (!compare_with(v, &desc, NULL, &d))
            return NO_MEMORY;
        if (least < 0 || d.gone + d.added < least)
            least = d.gone + d.added;
    }
    return least;
}
