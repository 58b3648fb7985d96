/* Of which rows is a wrong token of O the sum? Its pairs' rows are exchanged one by one, the one
 * first that takes away most of the error: for what another expert makes of the token, or its
 * expert of another, or for another row of the same rank. */
#include "check/ranks/rows.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Multiplications for all tokens; those that are left then are not looked at. */
static const double most_steps = 1e9;

typedef struct search {
    const moe_int_rank_scene *s;
    const double *Y;
    double *rest; /* [T][d] of O what the pairs' rows do not make, as they should be */
    double *off;  /* [d] of the token at hand */
    double steps;
    int64_t first, count;  /* pairs of the token, plan->pair_of_token[first ...] */
    moe_int_instead *made; /* [count] */
} search;

static const double *row_of(const search *k, int64_t expert, int64_t token) {
    return k->Y + (expert * k->s->T + token) * k->s->d;
}

/* off += scale * weight * the row that slot i has. */
static void add(const search *k, int64_t i, double scale) {
    const double *row = row_of(k, k->made[i].expert, k->made[i].token);
    const double w = scale * k->s->plan->weight[k->made[i].pair];
    for (int64_t c = 0; c < k->s->d; c++)
        k->off[c] += w * row[c];
}

/* Is it better with this row in slot i, which was taken out? */
static void try_row(search *k, int64_t i, int64_t expert, int64_t token, moe_int_instead *best,
                    double *least) {
    const double *row = row_of(k, expert, token), w = k->s->plan->weight[k->made[i].pair];
    double error = 0;
    for (int64_t c = 0; c < k->s->d && error < *least; c++) {
        const double left = k->off[c] - w * row[c];
        error += left * left;
    }
    k->steps += (double)k->s->d;
    if (error < *least) {
        *least = error;
        *best = (moe_int_instead){k->made[i].pair, token, expert};
    }
}

/* Tries all rows in slot i; `least` becomes the squared error of the best. */
static void try_slot(search *k, int64_t i, moe_int_instead *best, double *least) {
    const moe_int_rank_scene *s = k->s;
    const int64_t p = k->made[i].pair, t = s->plan->token[p], e = s->expert[p];
    const int64_t first = s->layout->first[s->owner[e]], end = s->layout->first[s->owner[e] + 1];
    add(k, i, 1);
    for (int64_t u = 0; u < s->T; u++)
        try_row(k, i, e, u, best, least);
    for (int64_t f = 0; f < s->E; f++)
        try_row(k, i, f, t, best, least);
    for (int64_t f = first; f < end; f++)
        for (int64_t q = s->plan->offsets[f]; q < s->plan->offsets[f + 1]; q++)
            try_row(k, i, f, s->plan->token[q], best, least);
    add(k, i, -1);
}

/* Exchanges rows of token t until no more than `enough` is left; returns what is. */
static double search_token(search *k, int64_t t, double enough) {
    const moe_plan *plan = k->s->plan;
    k->first = plan->token_offsets[t];
    k->count = 0;
    memcpy(k->off, k->rest + t * k->s->d, (size_t)k->s->d * sizeof *k->off);
    for (int64_t j = k->first; j < plan->token_offsets[t + 1]; j++) {
        const int64_t p = plan->pair_of_token[j];
        if (p >= k->s->P)
            continue;
        k->made[k->count] = (moe_int_instead){p, t, k->s->expert[p]};
        add(k, k->count++, -1);
    }
    double left = moe_int_inner(k->off, k->off, k->s->d);
    for (int64_t round = 0; left > enough && round < 2 * k->count && k->steps < most_steps;
         round++) {
        int64_t is = -1;
        moe_int_instead best = {0};
        double least = left;
        for (int64_t i = 0; i < k->count; i++) {
            const double before = least;
            try_slot(k, i, &best, &least);
            is = least < before ? i : is;
        }
        if (is < 0)
            break;
        add(k, is, 1);
        k->made[is] = best;
        add(k, is, -1);
        left = moe_int_inner(k->off, k->off, k->s->d);
    }
    return left;
}

static int64_t most_pairs(const moe_plan *plan) {
    int64_t most = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        most = (int64_t)fmax((double)most,
                             (double)(plan->token_offsets[t + 1] - plan->token_offsets[t]));
    return most;
}

static bool search_make(const moe_int_rank_scene *s, const double *Y, search *k) {
    *k = (search){.s = s, .Y = Y};
    k->rest = moe_int_rank_rest(s);
    k->off = malloc((size_t)(s->d + 1) * sizeof *k->off);
    k->made = malloc((size_t)(most_pairs(s->plan) + 1) * sizeof *k->made);
    for (int64_t i = 0; k->rest && i < s->T * s->d; i++)
        k->rest[i] = s->got[i] - k->rest[i];
    return k->rest && k->off && k->made;
}

/* Takes over the rows of the token at hand that are others'. */
static void keep(const search *k, moe_int_rows_found *ret) {
    for (int64_t i = 0; i < k->count; i++) {
        const moe_int_instead *a = &k->made[i];
        if (a->expert != k->s->expert[a->pair] || a->token != k->s->plan->token[a->pair])
            ret->made[ret->count++] = *a;
    }
}

static double error_of(const moe_int_rank_scene *s, int64_t t) {
    double error = 0;
    for (int64_t i = t * s->d; i < (t + 1) * s->d; i++)
        error += (s->got[i] - s->right[i]) * (s->got[i] - s->right[i]);
    return error;
}

bool moe_int_rank_find_rows(const moe_int_rank_scene *s, const double *Y, moe_int_rows_found *ret) {
    search k;
    int64_t told = 0, wrong = 0;
    *ret = (moe_int_rows_found){.made = malloc((size_t)(s->P + 1) * sizeof *ret->made)};
    const bool ready = search_make(s, Y, &k) && ret->made;
    for (int64_t t = 0; ready && t < s->T; t++) {
        const double *right = s->right + t * s->d;
        const double enough = 10 * moe_int_rank_alike(s) * moe_int_inner(right, right, s->d);
        const double error = error_of(s, t);
        const bool is_wrong = moe_int_rank_is_wrong(s, t) && k.steps < most_steps;
        const double left = is_wrong ? search_token(&k, t, enough) : error;
        const bool explained = is_wrong && left <= enough;
        wrong += is_wrong;
        told += explained;
        ret->left += explained ? left : error;
        if (explained)
            keep(&k, ret);
    }
    free(k.rest);
    free(k.off);
    free(k.made);
    return ready && told > 1 && 4 * told >= 3 * wrong;
}
