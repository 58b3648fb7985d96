/* What is wrong with the gradients of the logits: they follow from dX, less what the experts made.
 */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct slopes {
    const moe_int_local *l;
    int64_t R, d, T;
    double *w_r;      /* [R][d] */
    double *dz, *off; /* [T][R]: right, and what the subject has more, of the scene's tokens */
    bool *wrong;      /* [T] */
    double left, d2;
} slopes;

static bool slopes_make(const moe_int_local *l, slopes *k) {
    const moe_int_scene *s = l->scene;
    const moe_tensor *w_r = &s->evidence->problem->in.t[MOE_T_W_R];
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    *k = (slopes){.l = l, .R = s->sub->n_experts, .d = desc->d, .T = s->n_tokens};
    if (!w_r->data || !s->evidence->routing->logits || 2 * k->R > k->d ||
        !l->right->value[MOE_T_DX])
        return false;
    k->w_r = moe_int_doubles(w_r, 0, k->R * k->d);
    k->dz = calloc((size_t)(3 * k->T * k->R), sizeof *k->dz);
    k->wrong = calloc((size_t)k->T, sizeof *k->wrong);
    if (!k->w_r || !k->dz || !k->wrong)
        return false;
    k->off = k->dz + k->T * k->R;
    double *z = k->off + k->T * k->R;
    for (int64_t i = 0; i < k->T; i++)
        memcpy(z + i * k->R, s->evidence->routing->logits + s->tokens[i] * k->R,
               (size_t)k->R * sizeof *z);
    return !moe_route_backward(desc, z, s->sub, l->right->routed.dS, k->dz);
}

static void slopes_destroy(slopes *k) {
    free(k->w_r);
    free(k->dz);
    free(k->wrong);
}

/* off of token i, from dX's error there. False: it is not the router's alone. */
static bool take_token(slopes *k, int64_t i) {
    const moe_int_sight *p = k->l->p;
    const double *right = k->l->right->value[MOE_T_DX] + i * k->d;
    double *error = malloc((size_t)k->d * sizeof *error), d2 = 0;
    const int64_t at = k->l->scene->tokens[i] * k->d;
    for (int64_t c = 0; error && c < k->d; c++) {
        error[c] = moe_load(p->got->data, p->got->dtype, (size_t)(at + c)) - right[c];
        d2 += error[c] * error[c];
    }
    k->wrong[i] = d2 > 10 * p->e->gate[MOE_T_DX] * moe_int_inner(right, right, k->d);
    double left = 0;
    if (error && k->wrong[i]) {
        left = moe_int_fit(k->w_r, k->R, k->d, error, k->off + i * k->R);
        k->left += left;
        k->d2 += d2;
    }
    free(error);
    return left >= 0 && left <= d2 / 20; /* that of a projection is R/d of the rounding too */
}

/* Is pair q of the scene's token its best expert? */
static bool is_best(const moe_plan *plan, const double *z, int64_t t, int64_t q) {
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
        if (z[moe_int_plan_expert_of(plan, plan->pair_of_token[j])] >
            z[moe_int_plan_expert_of(plan, q)])
            return false;
    return true;
}

/* What the subject's gradients are at experts of three kinds: 0 or not. */
typedef struct kinds {
    int64_t zero[3], count[3]; /* not chosen, chosen but not the best, the best */
} kinds;

static kinds count_kinds(const slopes *k) {
    const moe_plan *sub = k->l->scene->sub;
    kinds n = {{0}, {0}};
    for (int64_t i = 0; i < k->T; i++) {
        const double *z = k->l->scene->evidence->routing->logits + k->l->scene->tokens[i] * k->R;
        const double *dz = k->dz + i * k->R;
        const double unit = sqrt(moe_int_inner(dz, dz, k->R) / (double)k->R);
        for (int64_t e = 0; k->wrong[i] && e < k->R; e++) {
            int kind = 0;
            for (int64_t j = sub->token_offsets[i]; j < sub->token_offsets[i + 1]; j++)
                if (moe_int_plan_expert_of(sub, sub->pair_of_token[j]) == e)
                    kind = is_best(sub, z, i, sub->pair_of_token[j]) ? 2 : 1;
            if (fabs(dz[e]) < 1e-3 * unit)
                continue;
            n.count[kind]++;
            n.zero[kind] += fabs(dz[e] + k->off[i * k->R + e]) < 0.05 * fabs(dz[e]) + 0.01 * unit;
        }
    }
    return n;
}

static bool all_zero(const kinds *n, int kind) {
    return n->count[kind] > 0 && 10 * n->zero[kind] >= 9 * n->count[kind];
}

/* Is all that is wrong what raw scores get when the same is added to each of their gradients? That
 * is how a renormalisation's sum enters. */
static bool by_the_sum(const slopes *k) {
    const moe_int_scene *s = k->l->scene;
    moe_layer_desc raw = s->evidence->problem->layer;
    raw.router.renorm = 0;
    raw.router.scale = 1;
    double *ones = malloc((size_t)(s->sub->n_pairs + 1) * sizeof *ones), left = 0, d2 = 0;
    double *sum = malloc((size_t)(2 * k->T * k->R) * sizeof *sum);
    double *z = sum ? sum + k->T * k->R : NULL;
    for (int64_t p = 0; ones && p < s->sub->n_pairs; p++)
        ones[p] = 1;
    for (int64_t i = 0; z && i < k->T; i++)
        memcpy(z + i * k->R, s->evidence->routing->logits + s->tokens[i] * k->R,
               (size_t)k->R * sizeof *z);
    bool done = ones && z && !moe_route_backward(&raw, z, s->sub, ones, sum);
    for (int64_t i = 0; done && i < k->T; i++) {
        const double *off = k->off + i * k->R, *one = sum + i * k->R;
        const double oo = moe_int_inner(off, off, k->R), vv = moe_int_inner(one, one, k->R);
        const double ov = moe_int_inner(off, one, k->R);
        d2 += oo;
        left += vv > 0 ? oo - ov * ov / vv : oo;
    }
    free(ones);
    free(sum);
    return done && left < 0.02 * d2 && s->evidence->problem->layer.router.renorm;
}

/* Is it what a layer of another description gets? */
static bool as_layer(const slopes *k, const moe_layer_desc *other) {
    const moe_int_scene *s = k->l->scene;
    const int64_t count = k->T * k->R;
    double *dz = calloc((size_t)(2 * count), sizeof *dz), left = 0, d2 = 0;
    double *z = dz ? dz + count : NULL;
    for (int64_t i = 0; z && i < k->T; i++)
        memcpy(z + i * k->R, s->evidence->routing->logits + s->tokens[i] * k->R,
               (size_t)k->R * sizeof *z);
    const bool done = z && !moe_route_backward(other, z, s->sub, k->l->right->routed.dS, dz);
    for (int64_t i = 0; done && i < count; i++) {
        const double rest = dz[i] - k->dz[i] - k->off[i];
        left += k->wrong[i / k->R] ? rest * rest : 0;
        d2 += k->wrong[i / k->R] ? k->off[i] * k->off[i] : 0;
    }
    free(dz);
    return done && left < 0.02 * d2;
}

/* Which part of the way back is another one's? */
static void say_layer(const slopes *k, moe_int_finding *f) {
    moe_layer_desc other = k->l->p->e->problem->layer;
    if (other.router.renorm && other.router.renorm_eps > 0) {
        other.router.renorm_eps = 0;
        if (as_layer(k, &other))
            moe_int_finding_say(f, ": as if the renormalisation's sum had no eps");
    }
}

static void say_slopes(const slopes *k, moe_int_finding *f) {
    const kinds n = count_kinds(k);
    if (all_zero(&n, 0) && n.zero[2] == 0)
        moe_int_finding_say(f, ": in dX, logits that were not chosen get none");
    if (all_zero(&n, 1) && !all_zero(&n, 2))
        moe_int_finding_say(f, ": of a token's slots its first (best) expert alone has one");
    say_layer(k, f);
    if (by_the_sum(k))
        moe_int_finding_say(f, ": wrong by the term of the renormalisation's sum");
    for (int64_t i = 0; i < k->T; i++) {
        int64_t worst = 0;
        for (int64_t e = 1; k->wrong[i] && e < k->R; e++)
            worst = fabs(k->off[i * k->R + e]) > fabs(k->off[i * k->R + worst]) ? e : worst;
        if (!k->wrong[i])
            continue;
        const double dz = k->dz[i * k->R + worst];
        moe_int_finding_say(f, "; at token %lld logit %lld has %.4g, should have %.4g",
                            (long long)k->l->scene->tokens[i], (long long)worst,
                            dz + k->off[i * k->R + worst], dz);
        moe_int_finding_param(f, "token", (double)k->l->scene->tokens[i]);
        moe_int_finding_param(f, "expert", (double)worst);
        return;
    }
}

/* The pair at a place by weight among a token's. */
static int64_t pair_at(const moe_plan *plan, int64_t t, int64_t rank) {
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
        if (moe_int_rank_of(plan, plan->pair_of_token[j]) == rank)
            return plan->pair_of_token[j];
    return plan->pair_of_token[plan->token_offsets[t]];
}

/* What dS may be taken for: slots are in order of their weights. */
typedef enum ds_taken {
    DS_OWN,
    DS_BESIDE,
    DS_NEXT,
    DS_BEFORE,
    DS_FIRST,
    DS_WEIGHTED,
    DS_OVER_WEIGHT,
    DS_WAYS
} ds_taken;

static const char *const ds_words[DS_WAYS] = {"",
                                              "dS of the other slot of a pair of slots",
                                              "dS of the next slot",
                                              "dS of the slot before",
                                              "dS of the first slot",
                                              "dS times the combine weight",
                                              "dS over the combine weight"};

static double ds_as(const moe_plan *plan, const double *dS, ds_taken how, int64_t p) {
    const int64_t t = plan->token[p], n = plan->token_offsets[t + 1] - plan->token_offsets[t];
    const int64_t rank = moe_int_rank_of(plan, p), beside = (rank ^ 1) < n ? rank ^ 1 : rank;
    switch (how) {
    case DS_BESIDE:
        return dS[pair_at(plan, t, beside)];
    case DS_NEXT:
        return dS[pair_at(plan, t, (rank + 1) % n)];
    case DS_BEFORE:
        return dS[pair_at(plan, t, (rank + n - 1) % n)];
    case DS_FIRST:
        return dS[pair_at(plan, t, 0)];
    case DS_WEIGHTED:
        return dS[p] * plan->weight[p];
    case DS_OVER_WEIGHT:
        return plan->weight[p] != 0 ? dS[p] / plan->weight[p] : 0;
    case DS_OWN:
    case DS_WAYS:
        break;
    }
    return dS[p];
}

/* How much of the subject's gradients is left beside a number, which is set, times `other` [T][R];
 * in parts of what is wrong with them. */
static double left_beside(const slopes *k, const double *other, double *factor) {
    double gg = 0, gv = 0, vv = 0, wrong = 0;
    for (int64_t i = 0; i < k->T * k->R; i++) {
        const double got = k->dz[i] + k->off[i];
        if (!k->wrong[i / k->R])
            continue;
        gg += got * got;
        gv += got * other[i];
        vv += other[i] * other[i];
        wrong += k->off[i] * k->off[i];
    }
    *factor = vv > 0 ? gv / vv : 0;
    return wrong > 0 ? (gg - *factor * gv) / wrong : 1;
}

/* Are they a multiple of the right ones, or those of another dS? */
static bool say_taken(const slopes *k, moe_int_finding *f) {
    const moe_int_scene *s = k->l->scene;
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    const int64_t P = s->sub->n_pairs;
    double *dS = malloc((size_t)(P + 2 * k->T * k->R) * sizeof *dS), factor = 1;
    double *z = dS ? dS + P : NULL, *other = z ? z + k->T * k->R : NULL;
    bool found = false;
    for (int64_t i = 0; z && i < k->T; i++)
        memcpy(z + i * k->R, s->evidence->routing->logits + s->tokens[i] * k->R,
               (size_t)k->R * sizeof *z);
    for (int how = 0; z && !found && how < DS_WAYS; how++) {
        for (int64_t p = 0; p < P; p++)
            dS[p] = ds_as(s->sub, k->l->right->routed.dS, (ds_taken)how, p);
        memset(other, 0, (size_t)(k->T * k->R) * sizeof *other);
        found = !moe_route_backward(desc, z, s->sub, dS, other) &&
                left_beside(k, other, &factor) < 0.02;
        if (!found)
            continue;
        if (how)
            moe_int_finding_say(f, ": it is that of %s", ds_words[how]);
        if (fabs(factor - 1) > 0.02)
            moe_int_finding_say(
                f, ": it is times %.4g%s", factor,
                fabs(factor / desc->router.scale - 1) < 0.01 ? ", the routed scale once more" : "");
        moe_int_finding_param(f, "factor", factor);
    }
    free(dS);
    return found;
}

bool moe_int_local_router_slope(const moe_int_local *l, moe_int_finding *f) {
    slopes k;
    if (l->p->id != MOE_T_DX || l->p->odd > 0)
        return false;
    bool found = slopes_make(l, &k);
    for (int64_t i = 0; found && i < k.T; i++)
        found = take_token(&k, i);
    found = found && k.d2 > 0;
    if (found) {
        moe_int_local_residuals(l->p, k.left, k.d2, f);
        f->rough = true;
        if (!say_taken(&k, f))
            say_slopes(&k, f);
    }
    slopes_destroy(&k);
    return found;
}
