/* The router's part of dX, and its gradient: whose dS does not reach it? Both are linear in dS. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct router_part {
    const moe_int_rank_scene *s;
    double *logits, *dS, *dz; /* [T][E], [pairs], [T][E] */
    double *made;             /* [count] what the chosen dS make of the tensor at hand */
} router_part;

/* Which pairs' dS? */
typedef bool (*of_fn)(const moe_int_rank_scene *s, int64_t pair, int32_t rank);

static bool of_all(const moe_int_rank_scene *s, int64_t pair, int32_t rank) {
    (void)s, (void)pair, (void)rank;
    return true;
}

static int32_t home_of(const moe_int_rank_scene *s, int64_t pair) {
    return s->home[s->plan->token[pair]];
}

static bool of_others(const moe_int_rank_scene *s, int64_t pair, int32_t rank) {
    (void)rank;
    return s->owner[s->expert[pair]] != home_of(s, pair);
}

static bool of_own(const moe_int_rank_scene *s, int64_t pair, int32_t rank) {
    return !of_others(s, pair, rank);
}

static bool of_owner(const moe_int_rank_scene *s, int64_t pair, int32_t rank) {
    return s->owner[s->expert[pair]] == rank;
}

static bool of_home(const moe_int_rank_scene *s, int64_t pair, int32_t rank) {
    return home_of(s, pair) == rank;
}

static const struct {
    of_fn of;
    bool each;
    const char *whose;
} ways[] = {
    {of_all, false, ""},
    {of_others, false, " of what other ranks than a token's own made"},
    {of_own, false, " of what a token's own rank made"},
    {of_owner, true, " of what rank %d made"},
    {of_home, true, " of rank %d's tokens"},
};
enum { WAYS = sizeof ways / sizeof *ways };

static bool part_make(const moe_int_rank_scene *s, router_part *k) {
    const moe_tensor *logits = &s->is->right->t[MOE_T_LOGITS];
    *k = (router_part){.s = s};
    if (!s->dz || !logits->data || s->problem->layer.n_zero)
        return false;
    k->logits = malloc((size_t)(s->T * s->E + 1) * sizeof *k->logits);
    k->dS = malloc((size_t)(s->P + 1) * sizeof *k->dS);
    k->dz = malloc((size_t)(s->T * s->E + 1) * sizeof *k->dz);
    k->made = malloc((size_t)(s->count + 1) * sizeof *k->made);
    if (!k->logits || !k->dS || !k->dz || !k->made)
        return false;
    moe_convert(k->logits, MOE_F64, logits->data, logits->dtype, (size_t)(s->T * s->E));
    return true;
}

static void part_free(router_part *k) {
    free(k->logits);
    free(k->dS);
    free(k->dz);
    free(k->made);
}

/* dz W_r, or dz' X. */
static void multiply(const router_part *k) {
    const moe_int_rank_scene *s = k->s;
    const moe_tensor *W = &s->problem->in.t[MOE_T_W_R];
    const bool of_tokens = s->id == MOE_T_DX;
    memset(k->made, 0, (size_t)s->count * sizeof *k->made);
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t e = 0; e < s->E; e++) {
            const double dz = k->dz[t * s->E + e];
            double *to = k->made + (of_tokens ? t : e) * s->d;
            for (int64_t i = 0; dz != 0 && i < s->d; i++)
                to[i] += dz * (of_tokens ? moe_load(W->data, W->dtype, (size_t)(e * s->d + i))
                                         : s->X[t * s->d + i]);
        }
}

/* Squared error, over the square of what is right, of a tensor without that part, or with it twice.
 */
static double left_by(const router_part *k, int way, int32_t rank, double *ret_times) {
    const moe_int_rank_scene *s = k->s;
    double error = 0, times = 0;
    for (int64_t p = 0; p < s->P; p++)
        k->dS[p] = ways[way].of(s, p, rank) ? s->dS[p] : 0;
    memset(k->dz, 0, (size_t)(s->T * s->E) * sizeof *k->dz);
    if (moe_route_backward(&s->problem->layer, k->logits, s->plan, k->dS, k->dz))
        return INFINITY;
    multiply(k);
    for (int64_t i = 0; i < s->count; i++)
        times += (s->got[i] - s->right[i]) * k->made[i];
    *ret_times = times < 0 ? -1 : 1;
    for (int64_t i = 0; i < s->count; i++) {
        const double off = s->got[i] - s->right[i] - *ret_times * k->made[i];
        error += off * off;
    }
    return error / moe_int_inner(s->right, s->right, s->count);
}

static void say(const router_part *k, int way, int32_t rank, double times, double after,
                moe_explanation *ret) {
    char whose[80];
    const char *name = moe_tensor_name(k->s->id);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of the table above */
    snprintf(whose, sizeof whose, ways[way].whose, (int)rank);
#pragma GCC diagnostic pop
    if (way == 0 && times < 0)
        moe_int_rank_explain(k->s, "ranks_router_gradient", after, ret,
                             "no gradient reaches the router: %s has nothing of dS", name);
    else
        moe_int_rank_explain(k->s, "ranks_router_gradient", after, ret,
                             "the router's gradient in %s %s the dS%s", name,
                             times < 0 ? "lacks" : "has twice", whose);
}

bool moe_int_rank_router_gradient(const moe_int_rank_scene *s, moe_explanation *ret) {
    router_part k;
    bool found = false;
    const bool possible = part_make(s, &k);
    for (int way = 0; possible && !found && way < WAYS; way++)
        for (int32_t r = 0; !found && r < (ways[way].each ? s->R : 1); r++) {
            double times = 0;
            const double after = left_by(&k, way, r, &times);
            found = moe_int_rank_explains(s, after);
            if (found)
                say(&k, way, r, times, after, ret);
        }
    part_free(&k);
    return found;
}
