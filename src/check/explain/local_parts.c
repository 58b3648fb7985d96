/* A sum of tokens' rows whose own stages cannot be seen: in some tiles of columns a part of a
 * product's sum counts otherwise than once, as one that a race between splits of K loses. O of
 * Y = A W2^T, dX of dX~ = dH W1. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

enum { SEEN = 4, MOST = 24 /* unknowns */ };

/* A way of cutting: columns in tiles, the sum's terms in parts. */
typedef struct cut {
    int64_t tile, parts;
} cut;

typedef struct parts {
    const moe_int_local *l;
    int64_t d, depth; /* of a row, of its sum */
    double *part;     /* [MOST][d]: of each pair, then of each part of its sum */
    double *error;    /* [d] */
    double *w;        /* [depth] */
    double left, d2;
    int64_t missing, twice, other, tiles, pair, of_part; /* parts by what is wrong; an example */
} parts;

static bool is_forward(const parts *k) {
    return k->l->p->id == MOE_T_O;
}

/* part += a row's terms first .. end-1 of the product with its expert's matrix, times scale. */
static void add_part(const parts *k, int64_t q, int64_t first, int64_t end, double scale,
                     double *part) {
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const moe_problem *problem = k->l->p->e->problem;
    const int64_t e = moe_int_plan_expert_of(k->l->scene->sub, q), size = k->depth * k->d;
    if (is_forward(k)) {
        for (int64_t c = 0; c < k->d; c++) {
            moe_int_load(&problem->in.t[MOE_T_W2], e * size + c * k->depth + first, end - first,
                         k->w);
            part[c] = scale * moe_int_inner(rows->A + q * k->depth + first, k->w, end - first);
        }
        return;
    }
    for (int64_t c = 0; c < k->d; c++)
        part[c] = 0;
    for (int64_t i = first; i < end; i++) {
        moe_int_load(&problem->in.t[MOE_T_W1], e * size + i * k->d, k->d, k->w);
        for (int64_t c = 0; c < k->d; c++)
            part[c] += scale * rows->dH[q * k->depth + i] * k->w[c];
    }
}

/* All parts of token i of the scene, and its error. Returns how many parts there are. */
static int64_t fill(const parts *k, const cut *by, int64_t i) {
    const moe_int_scene *s = k->l->scene;
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    const bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const moe_tensor *got = k->l->p->got;
    int64_t count = 0;
    for (int64_t j = s->sub->token_offsets[i]; j < s->sub->token_offsets[i + 1]; j++) {
        const int64_t q = s->sub->pair_of_token[j];
        if (moe_int_plan_expert_of(s->sub, q) >= desc->E || count + by->parts > MOST)
            return 0;
        for (int64_t n = 0; n < by->parts; n++)
            add_part(k, q, n * k->depth / by->parts, (n + 1) * k->depth / by->parts,
                     is_forward(k) == on_input ? 1 : s->sub->weight[q], k->part + count++ * k->d);
    }
    for (int64_t c = 0; c < k->d; c++)
        k->error[c] = moe_load(got->data, got->dtype, (size_t)(s->tokens[i] * k->d + c)) -
                      k->l->right->value[k->l->p->id][i * k->d + c];
    return count;
}

static void note(parts *k, const double *off, int64_t count, int64_t i, const cut *by) {
    const moe_plan *sub = k->l->scene->sub;
    for (int64_t n = 0; n < count; n++) {
        if (fabs(off[n]) < 0.02)
            continue;
        k->missing += fabs(off[n] + 1) < 0.02;
        k->twice += fabs(off[n] - 1) < 0.02;
        k->other += fabs(fabs(off[n]) - 1) >= 0.02;
        k->pair = sub->pair_of_token[sub->token_offsets[i] + n / by->parts];
        k->of_part = n % by->parts;
    }
}

/* Tile by tile of a wrong token: which parts count otherwise? */
static bool fit_tiles(parts *k, const cut *by, int64_t i, int64_t count) {
    const moe_int_evidence *e = k->l->p->e;
    double *room = malloc((size_t)((MOST + 1) * by->tile) * sizeof *room), off[MOST];
    const double *right = k->l->right->value[k->l->p->id] + i * k->d;
    bool fits = room != NULL;
    for (int64_t c = 0; fits && c + by->tile <= k->d; c += by->tile) {
        const double d2 = moe_int_inner(k->error + c, k->error + c, by->tile);
        k->d2 += d2;
        if (d2 <= 10 * e->gate[e->first] * moe_int_inner(right + c, right + c, by->tile)) {
            k->left += d2;
            continue;
        }
        for (int64_t n = 0; n < count; n++)
            for (int64_t j = 0; j < by->tile; j++)
                room[n * by->tile + j] = k->part[n * k->d + c + j];
        const double left = moe_int_fit(room, count, by->tile, k->error + c, off);
        k->left += left;
        k->tiles++;
        fits = left >= 0 && left <= moe_int_local_limit(e, e->first, d2);
        note(k, off, fits ? count : 0, i, by);
    }
    free(room);
    return fits;
}

static bool fits_all(parts *k, const cut *by) {
    const moe_int_scene *s = k->l->scene;
    const moe_int_row *row = k->l->p->row;
    int64_t seen = 0;
    k->left = k->d2 = 0;
    k->missing = k->twice = k->other = k->tiles = 0;
    for (int64_t i = 0; i < s->n_tokens && seen < SEEN; i++) {
        if (!row[s->tokens[i]].wrong)
            continue;
        const int64_t count = fill(k, by, i);
        seen++;
        if (2 * count > by->tile || count == 0 || !fit_tiles(k, by, i, count))
            return false;
    }
    return k->tiles > 0 && k->other == 0 && k->missing + k->twice > 0;
}

static void say(const parts *k, const cut *by, moe_int_finding *f) {
    const moe_plan *sub = k->l->scene->sub;
    moe_int_finding_say(f, ": in %s, a part of %s is %s in tiles of %lld columns",
                        is_forward(k) ? "Y = A W2^T" : "dX~ = dH W1",
                        by->parts == 2 ? "half the terms" : "the terms, one of several",
                        k->missing ? "missing" : "there twice", (long long)by->tile);
    moe_int_finding_say(f, ", such as part %lld of %lld of expert %lld's row of token %lld",
                        (long long)k->of_part, (long long)by->parts,
                        (long long)moe_int_plan_expert_of(sub, k->pair),
                        (long long)k->l->scene->tokens[sub->token[k->pair]]);
    moe_int_finding_param(f, "parts", (double)by->parts);
    moe_int_finding_param(f, "tile", (double)by->tile);
}

bool moe_int_local_parts_of_sums(const moe_int_local *l, moe_int_finding *f) {
    static const cut cuts[] = {{64, 2}, {32, 2}, {16, 2}, {64, 4}, {64, 3}, {32, 4}};
    const moe_int_evidence *e = l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const bool forward = l->p->id == MOE_T_O;
    parts k = {.l = l, .d = desc->d, .depth = forward ? desc->n : moe_h_width(desc, desc->n)};
    bool found = false;
    if ((!forward && l->p->id != MOE_T_DX) || l->p->odd > 0 || !l->right->value[l->p->id] ||
        !moe_int_sight_is_whole(l->p) || e->got.t[forward ? MOE_T_Y : MOE_T_DXP].data)
        return false;
    k.part = malloc((size_t)((MOST + 1) * k.d + k.d + k.depth) * sizeof *k.part);
    k.error = k.part ? k.part + MOST * k.d : NULL;
    k.w = k.part ? k.error + k.d : NULL;
    for (size_t i = 0; k.part && !found && i < sizeof cuts / sizeof *cuts; i++) {
        found = cuts[i].tile <= k.d && fits_all(&k, &cuts[i]);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, k.left, k.d2, f);
        say(&k, &cuts[i], f);
    }
    free(k.part);
    return found;
}
