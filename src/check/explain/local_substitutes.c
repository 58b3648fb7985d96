/* O, where no stage of a pair can be seen: a pair's Y is what another expert's matrix, or another
 * token's row, would make of it; or a token has parts of experts that it has not chosen. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN = 4 };
static const double MOST_FLOPS = 8e9;

typedef enum substitute { OF_W2, OF_W1, OF_BOTH, KINDS, ADDED = KINDS } substitute;

/* What was found for a pair, or beside a token's pairs. */
typedef struct taken {
    substitute kind;
    int64_t pair, expert, token;
} taken;

typedef struct search {
    const moe_int_local *l;
    const moe_layer_desc *desc;
    int64_t d, n, hw;
    double *w, *A, *H; /* a matrix row, [n], [hw] */
    double *y;         /* [d] */
    double *rest;      /* [d] */
    double *best;      /* [d] */
} search;

static const double *h_of(const search *k, int64_t q, int64_t e) {
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const moe_tensor *in = k->l->p->e->problem->in.t;
    const bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    for (int64_t c = 0; c < k->hw; c++) {
        moe_int_load(&in[MOE_T_W1], (e * k->hw + c) * k->d, k->d, k->w);
        k->H[c] = (on_input ? rows->weight[q] : 1) * moe_int_inner(rows->x + q * k->d, k->w, k->d);
        if (in[MOE_T_B1].data)
            k->H[c] += moe_load(in[MOE_T_B1].data, in[MOE_T_B1].dtype, (size_t)(e * k->hw + c));
    }
    return k->H;
}

static const double *a_of(const search *k, const double *h) {
    const moe_int_change right = {.desc = *k->desc};
    for (int64_t j = 0; j < k->n; j++) {
        double unit[2] = {h[moe_h_column(k->desc->glu_layout, k->n, k->hw, j, 0)], 0}, slope[2];
        if (k->hw > k->n)
            unit[1] = h[moe_h_column(k->desc->glu_layout, k->n, k->hw, j, 1)];
        moe_int_changed_act(&right, unit, &k->A[j], slope);
    }
    return k->A;
}

/* y = what pair q makes with expert `other` in the place of its own, so far as `kind` says. */
static void make(const search *k, substitute kind, int64_t q, int64_t other) {
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const moe_tensor *in = k->l->p->e->problem->in.t;
    const int64_t own = moe_int_plan_expert_of(k->l->scene->sub, q);
    const int64_t e = kind == OF_W1 ? own : other;
    const double *a = kind == OF_W2 ? rows->A + q * k->n : a_of(k, h_of(k, q, other));
    for (int64_t c = 0; c < k->d; c++) {
        moe_int_load(&in[MOE_T_W2], (e * k->d + c) * k->n, k->n, k->w);
        k->y[c] = moe_int_inner(a, k->w, k->n);
        if (in[MOE_T_B2].data)
            k->y[c] += moe_load(in[MOE_T_B2].data, in[MOE_T_B2].dtype, (size_t)(e * k->d + c));
    }
}

/* Squared distance of the rest from a change of pair q's part, which is left in y. */
static double left_of(const search *k, int64_t q) {
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const double w = on_input ? 1 : rows->weight[q];
    double left = 0;
    for (int64_t c = 0; c < k->d; c++) {
        k->y[c] = w * (k->y[c] - rows->Y[q * k->d + c]);
        left += pow(k->rest[c] - k->y[c], 2);
    }
    return left;
}

/* The substitute that leaves least of token i's rest. */
static double find_one(const search *k, int64_t i, taken *ret) {
    const moe_int_scene *s = k->l->scene;
    double least = INFINITY;
    for (int64_t j = s->sub->token_offsets[i]; j < s->sub->token_offsets[i + 1]; j++) {
        const int64_t q = s->sub->pair_of_token[j], own = moe_int_plan_expert_of(s->sub, q);
        for (int64_t e = 0; own < k->desc->E && e < k->desc->E; e++)
            for (int kind = 0; kind < KINDS; kind++) {
                if (e == own)
                    continue;
                make(k, (substitute)kind, q, e);
                const double left = left_of(k, q);
                if (left >= least)
                    continue;
                least = left;
                *ret = (taken){(substitute)kind, q, e, s->tokens[i]};
                memcpy(k->best, k->y, (size_t)k->d * sizeof *k->y);
            }
    }
    return least;
}

/* Parts of experts that the token has not chosen, as many as there are, with any factors; returns
 * what they leave of its rest, negative: they do not tell. */
static double fit_added(const search *k, int64_t i, taken *ret) {
    const moe_int_scene *s = k->l->scene;
    const int64_t E = k->desc->E, from = s->sub->token_offsets[i];
    double *term = malloc((size_t)(E * (k->d + 1)) * sizeof *term);
    double *factor = term ? term + E * k->d : NULL;
    double left = -1, most = 0;
    const bool fits = term && 2 * E <= k->d && s->sub->token_offsets[i + 1] > from;
    for (int64_t e = 0; fits && e < E; e++) {
        make(k, OF_BOTH, s->sub->pair_of_token[from], e); /* any pair has the token's x */
        memcpy(term + e * k->d, k->y, (size_t)k->d * sizeof *term);
    }
    if (fits)
        left = moe_int_fit(term, E, k->d, k->rest, factor);
    for (int64_t e = 0; fits && e < E; e++) {
        bool own = false;
        for (int64_t j = from; j < s->sub->token_offsets[i + 1]; j++)
            own |= moe_int_plan_expert_of(s->sub, s->sub->pair_of_token[j]) == e;
        if (own || fabs(factor[e]) <= most)
            continue;
        most = fabs(factor[e]);
        *ret = (taken){ADDED, s->sub->pair_of_token[from], e, s->tokens[i]};
    }
    free(term);
    return most > 0.01 ? left : -1;
}

/* One substitute after the other, until the token's error is explained. False: it is not. */
static bool find_all(const search *k, int64_t i, double *left, double *d2, taken *ret) {
    const moe_int_evidence *e = k->l->p->e;
    const moe_tensor *got = k->l->p->got;
    const int64_t t = k->l->scene->tokens[i];
    const int64_t slots =
        k->l->scene->sub->token_offsets[i + 1] - k->l->scene->sub->token_offsets[i];
    double error = 0, rest;
    for (int64_t c = 0; c < k->d; c++) {
        k->rest[c] = moe_load(got->data, got->dtype, (size_t)(t * k->d + c)) -
                     k->l->right->value[MOE_T_O][i * k->d + c];
        error += k->rest[c] * k->rest[c];
    }
    rest = fit_added(k, i, ret);
    rest = rest >= 0 && rest <= moe_int_local_limit(e, MOE_T_O, error) ? rest : error;
    for (int64_t n = 0; n < slots && rest > moe_int_local_limit(e, MOE_T_O, error); n++) {
        const double least = find_one(k, i, ret);
        if (least > 0.9 * rest)
            return false;
        rest = least;
        for (int64_t c = 0; c < k->d; c++)
            k->rest[c] -= k->best[c];
    }
    *left += rest;
    *d2 += error;
    return rest <= moe_int_local_limit(e, MOE_T_O, error);
}

static void say(const search *k, const taken *is, moe_int_finding *f) {
    static const char *const words[] = {"W2", "W1", "W1 and W2"};
    const int64_t own = moe_int_plan_expert_of(k->l->scene->sub, is->pair);
    if (is->kind == ADDED)
        moe_int_finding_say(f, ": token %lld has a part of expert %lld added, which is none of its",
                            (long long)is->token, (long long)is->expert);
    else
        moe_int_finding_say(f, ": token %lld's row of expert %lld is made with %s of expert %lld",
                            (long long)is->token, (long long)own, words[is->kind],
                            (long long)is->expert);
    moe_int_finding_say(f, "; %lld of %lld tokens are wrong", (long long)k->l->p->wrong_rows,
                        (long long)k->l->p->rows);
    moe_int_finding_param(f, "token", (double)is->token);
    moe_int_finding_param(f, "expert", (double)is->expert);
}

static bool is_cheap(const search *k) {
    const double row = 2.0 * (double)(k->d * (k->hw + k->n));
    return (double)((int64_t)SEEN * KINDS * k->desc->K * k->desc->K * k->desc->E) * row <
           MOST_FLOPS;
}

bool moe_int_local_substitutes(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_evidence *e = l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    search k = {.l = l, .desc = desc, .d = desc->d, .n = desc->n, .hw = moe_h_width(desc, desc->n)};
    int64_t seen = 0;
    double left = 0, d2 = 0;
    taken is = {0};
    if (l->p->id != MOE_T_O || l->p->odd > 0 || !l->right->value[MOE_T_O] ||
        !moe_int_sight_is_whole(l->p) || e->got.t[MOE_T_Y].data || !is_cheap(&k))
        return false;
    const int64_t longest = k.d > k.n ? k.d : k.n;
    k.w = malloc((size_t)(longest + k.n + k.hw + 3 * k.d) * sizeof *k.w);
    if (!k.w)
        return false;
    k.A = k.w + longest;
    k.H = k.A + k.n;
    k.y = k.H + k.hw;
    k.rest = k.y + k.d;
    k.best = k.rest + k.d;
    bool found = true;
    for (int64_t i = 0; found && i < l->scene->n_tokens && seen < SEEN; i++) {
        if (!l->p->row[l->scene->tokens[i]].wrong)
            continue;
        seen++;
        found = find_all(&k, i, &left, &d2, &is);
    }
    found = found && seen > 0;
    if (found) {
        moe_int_local_residuals(l->p, left, d2, f);
        say(&k, &is, f);
    }
    free(k.w);
    return found;
}
