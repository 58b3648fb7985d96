/* A product of which a block of terms reads a factor a few elements beside its own: a tile of the
 * matrix, or of the operand, whose address is off by a row or a column. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 128, MOST_OUTS = 512 };

/* Where a term reads instead: so many columns (outs) and terms on in the matrix, terms and rows on
 * in the operand. */
typedef struct beside {
    int64_t out, term, x_term, x_row;
    bool x_first; /* the operand's row is the expert's first */
    bool added;   /* beside its own term, as where the sum runs on into what lies behind */
} beside;

typedef struct blocks {
    moe_int_product_view v;
    int64_t block, count; /* terms of a block; blocks */
    int64_t *column, columns;
    double *w, *x, *other; /* [outs][depth], [depth] twice */
    double *part, *error;  /* [count], [rows][columns] */
    double *g, *rhs;       /* normal equations */
    double d2;             /* of the equations */
} blocks;

/* The wrong columns alone; all where they are few, or are not this tensor's. */
static void choose_columns(const moe_int_local *l, blocks *k) {
    const bool all = k->v.outs != l->p->width;
    const int64_t step = k->v.outs / MOST_OUTS + 1;
    for (int64_t c = 0; c < k->v.outs; c += step)
        if (all || moe_int_sight_wrong_column(l->p, c))
            k->column[k->columns++] = c;
}

static bool blocks_make(const moe_int_local *l, blocks *k) {
    memset(k, 0, sizeof *k);
    if (!moe_int_product_view_make(l, false, &k->v) || k->v.depth < 16)
        return false;
    const int64_t depth = k->v.depth, outs = k->v.outs;
    k->block = depth <= BLOCKS ? 2 : 4;
    while ((depth + k->block - 1) / k->block > BLOCKS)
        k->block *= 2;
    k->count = (depth + k->block - 1) / k->block;
    k->column = malloc((size_t)outs * sizeof *k->column);
    k->w = malloc((size_t)((outs + 2) * depth + k->count * (k->count + 2) + k->v.rows * outs) *
                  sizeof *k->w);
    if (!k->column || !k->w)
        return false;
    k->x = k->w + outs * depth;
    k->other = k->x + depth;
    k->part = k->other + depth;
    k->rhs = k->part + k->count;
    k->g = k->rhs + k->count;
    k->error = k->g + k->count * k->count;
    choose_columns(l, k);
    return k->v.rows * k->columns >= 2 * k->count;
}

static void blocks_destroy(blocks *k) {
    free(k->column);
    free(k->w);
    moe_int_product_view_destroy(&k->v);
}

/* The source of the operand's row beside row i's, -1. */
static int64_t source_beside(const blocks *k, int64_t i, const beside *at) {
    const moe_int_product_view *v = &k->v;
    const moe_plan *plan = v->e->routing->plan;
    const int64_t first = v->experts ? plan->offsets[moe_int_product_expert(v, i)] : 0;
    const int64_t p = at->x_first ? first : v->pair[i] + at->x_row;
    if (p == v->pair[i])
        return v->own[i];
    if (v->experts ? p < 0 || p >= plan->offsets[v->experts] ||
                         moe_int_plan_expert_of(plan, p) != moe_int_product_expert(v, i)
                   : p < 0 || p >= v->sources)
        return -1;
    return v->tokens && v->experts ? plan->token[p] : p;
}

/* part[b]: what block b of row i, column c has more with the factors beside. */
static void make_parts(const blocks *k, const beside *at, int64_t c, double *part) {
    const int64_t depth = k->v.depth, row = c + at->out;
    memset(part, 0, (size_t)k->count * sizeof *part);
    for (int64_t t = 0; t < depth; t++) {
        const int64_t x = t + at->x_term, w = t + at->term;
        if (x >= 0 && x < depth && w >= 0 && w < depth)
            part[t / k->block] += k->other[x] * k->w[row * depth + w] -
                                  (at->added ? 0 : k->x[t] * k->w[c * depth + t]);
    }
}

static void add_equation(blocks *k, double error) {
    k->d2 += error * error;
    for (int64_t a = 0; a < k->count; a++) {
        k->rhs[a] += error * k->part[a];
        for (int64_t b = 0; b <= a; b++)
            k->g[a * k->count + b] += k->part[a] * k->part[b];
    }
}

/* The errors of all rows against their own factors, once. */
static void make_errors(blocks *k) {
    int64_t of = -1;
    for (int64_t i = 0; i < k->v.rows; i++) {
        if (moe_int_product_expert(&k->v, i) != of)
            moe_int_product_matrix(&k->v, of = moe_int_product_expert(&k->v, i), k->w);
        moe_int_product_source(&k->v, i, k->v.own[i], k->x);
        for (int64_t n = 0; n < k->columns; n++) {
            const int64_t c = k->column[n];
            const double error = k->v.out[i * k->v.outs + c] -
                                 moe_int_inner(k->w + c * k->v.depth, k->x, k->v.depth);
            k->error[i * k->columns + n] = error;
        }
    }
}

/* Adds up the equations of all elements of the first rows that have a factor there. What one at an
 * edge reads is anybody's guess. */
static void make_equations(blocks *k, const beside *at, int64_t rows) {
    int64_t of = -1;
    k->d2 = 0;
    memset(k->rhs, 0, (size_t)(k->count * (k->count + 1)) * sizeof *k->rhs);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t q = source_beside(k, i, at);
        if (q < 0)
            continue;
        if (moe_int_product_expert(&k->v, i) != of)
            moe_int_product_matrix(&k->v, of = moe_int_product_expert(&k->v, i), k->w);
        moe_int_product_source(&k->v, i, k->v.own[i], k->x);
        moe_int_product_source(&k->v, i, q, k->other);
        for (int64_t n = 0; n < k->columns; n++) {
            const int64_t row = k->column[n] + at->out;
            if (row < 0 || row >= k->v.outs)
                continue;
            make_parts(k, at, k->column[n], k->part);
            add_equation(k, k->error[i * k->columns + n]);
        }
    }
}

/* Which blocks are off, [count]: 0 or 1 each. Returns what is left. */
static double fit(const blocks *k, double *off) {
    const int64_t n = k->count;
    double *g = malloc((size_t)(n * n) * sizeof *g), left = k->d2;
    memcpy(off, k->rhs, (size_t)n * sizeof *off);
    for (int64_t a = 0; g && a < n; a++) {
        for (int64_t b = 0; b <= a; b++)
            g[a * n + b] = k->g[a * n + b];
        g[a * n + a] = g[a * n + a] * (1 + 1e-9) + 1e-300;
    }
    if (!g || !moe_int_solve(g, n, off, 1)) {
        free(g);
        return INFINITY;
    }
    free(g);
    for (int64_t a = 0; a < n; a++)
        off[a] = off[a] > 0.5 ? 1 : 0;
    for (int64_t a = 0; a < n; a++) {
        left -= 2 * off[a] * k->rhs[a];
        for (int64_t b = 0; b < n; b++)
            left += off[a] * off[b] * (b <= a ? k->g[a * n + b] : k->g[b * n + a]);
    }
    return left;
}

static void say(const blocks *k, const beside *at, const double *off, moe_int_finding *f) {
    int64_t first = -1, last = -1;
    for (int64_t b = 0; b < k->count; b++)
        if (off[b] > 0) {
            first = first < 0 ? b * k->block : first;
            last = (b + 1) * k->block - 1;
        }
    last = last < k->v.depth ? last : k->v.depth - 1;
    moe_int_finding_say(f, ": terms %lld to %lld of %lld in %s", (long long)first, (long long)last,
                        (long long)k->v.depth, k->v.equation);
    if (at->added)
        moe_int_finding_say(f, " are added again, with %s%s%s", at->x_row ? k->v.operand : "",
                            at->x_row && at->out ? " and " : "", at->out ? k->v.matrix : "");
    else
        moe_int_finding_say(f, " take %s", at->out || at->term ? k->v.matrix : k->v.operand);
    const int64_t by = at->out      ? at->out
                       : at->term   ? at->term
                       : at->x_term ? at->x_term
                                    : at->x_row;
    if (at->x_first)
        moe_int_finding_say(f, " of the expert's first row");
    else
        moe_int_finding_say(f, " from %lld %s %s", llabs(by),
                            at->out || at->x_row ? "row(s)" : "column(s)", by > 0 ? "on" : "back");
    moe_int_finding_param(f, "first_term", (double)first);
    moe_int_finding_param(f, "last_term", (double)last);
    moe_int_finding_param(f, "by", (double)by);
}

/* Trial number n. False: there is none. */
static bool trial_of(int n, beside *ret) {
    static const int64_t steps[] = {1, -1, 2, -2, 3, -3, 4, -4, 8, -8, 16, -16, 32, -32};
    static const beside others[] = {
        {.x_first = true},
        {.out = 1, .x_row = 1, .added = true},
        {.x_row = 1, .added = true},
        {.out = 1, .added = true},
        {.x_row = -1, .added = true},
        {.out = -1, .added = true},
    };
    enum { STEPS = 4 * sizeof steps / sizeof *steps, OTHERS = sizeof others / sizeof *others };
    if (n >= STEPS + OTHERS)
        return false;
    const int64_t by = steps[n < STEPS ? n / 4 : 0];
    const beside at = {.out = n % 4 == 0 ? by : 0,
                       .term = n % 4 == 1 ? by : 0,
                       .x_term = n % 4 == 2 ? by : 0,
                       .x_row = n % 4 == 3 ? by : 0};
    *ret = n < STEPS ? at : others[n - STEPS];
    return true;
}

/* Do a few rows leave it open that it is so? Most of what may be is refuted by them. */
static bool may_be(blocks *k, const beside *at, double *off) {
    enum { FEW = 3 };
    const int64_t rows = k->v.rows < FEW ? k->v.rows : FEW;
    make_equations(k, at, rows);
    return rows * k->columns < 2 * k->count || k->d2 == 0 || fit(k, off) < k->d2 / 4;
}

bool moe_int_local_block_beside(const moe_int_local *l, moe_int_finding *f) {
    blocks k;
    beside at;
    double off[BLOCKS];
    bool found = false;
    const bool made = blocks_make(l, &k);
    if (made)
        make_errors(&k);
    for (int n = 0; made && !found && trial_of(n, &at); n++) {
        if (!may_be(&k, &at, off))
            continue;
        make_equations(&k, &at, k.v.rows);
        const double left = fit(&k, off);
        found = k.d2 > 0 && left <= moe_int_local_limit(k.v.e, k.v.id, k.d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        say(&k, &at, off, f);
    }
    blocks_destroy(&k);
    return found;
}
