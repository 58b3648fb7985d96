/* Which terms of a product count, and how often; what stands in the place of those that do not. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 128 };

/* Terms of a product in blocks: which of them count, and how often? */
typedef struct ranges {
    moe_int_product_view v;
    int64_t block, count; /* terms of a block; blocks */
    double *w, *x, *part; /* [outs][depth], [depth], [count][outs] */
    double *g, *rhs;      /* normal equations */
    double d2;
    int64_t of; /* the expert whose matrix w is */
} ranges;

static void load_matrix(ranges *k, int64_t e) {
    if (k->of != e)
        moe_int_product_matrix(&k->v, e, k->w);
    k->of = e;
}

static void add_equations(ranges *k, int64_t i) {
    const moe_int_product_view *v = &k->v;
    for (int64_t c = 0; c < v->outs; c++) {
        double error = v->out[i * v->outs + c];
        for (int64_t b = 0; b < k->count; b++) {
            const int64_t from = b * k->block, end = from + k->block;
            const int64_t n = (end < v->depth ? end : v->depth) - from;
            const double sum = moe_int_inner(k->w + c * v->depth + from, k->x + from, n);
            k->part[b * v->outs + c] = sum;
            error -= sum;
        }
        k->d2 += error * error;
        for (int64_t b = 0; b < k->count; b++)
            k->rhs[b] += error * k->part[b * v->outs + c];
    }
    for (int64_t a = 0; a < k->count; a++)
        for (int64_t b = 0; b <= a; b++)
            k->g[a * k->count + b] +=
                moe_int_inner(k->part + a * v->outs, k->part + b * v->outs, v->outs);
}

/* `single`: term by term, where they are few enough to tell. */
static bool ranges_make(const moe_int_local *l, bool single, ranges *k) {
    memset(k, 0, sizeof *k);
    if (!moe_int_product_view_make(l, false, &k->v) || k->v.depth < 8)
        return false;
    const int64_t depth = k->v.depth, outs = k->v.outs;
    k->block = single ? 1 : depth <= BLOCKS ? 4 : 8;
    if (single && depth > BLOCKS)
        return false;
    while ((depth + k->block - 1) / k->block > BLOCKS)
        k->block *= 2;
    k->count = (depth + k->block - 1) / k->block;
    k->w = malloc((size_t)((outs + 1) * depth + k->count * outs) * sizeof *k->w);
    k->g = calloc((size_t)(k->count * (k->count + 1)), sizeof *k->g);
    if (!k->w || !k->g || k->v.rows * outs < 2 * k->count)
        return false;
    k->x = k->w + outs * depth;
    k->part = k->x + depth;
    k->rhs = k->g + k->count * k->count;
    k->of = -1;
    for (int64_t i = 0; i < k->v.rows; i++) {
        load_matrix(k, moe_int_product_expert(&k->v, i));
        moe_int_product_source(&k->v, i, k->v.own[i], k->x);
        add_equations(k, i);
    }
    return true;
}

static void ranges_destroy(ranges *k) {
    free(k->w);
    free(k->g);
    moe_int_product_view_destroy(&k->v);
}

/* The run of blocks from `from` on that have its factor; returns its end. */
static int64_t run_end(const double *off, int64_t from, int64_t count) {
    int64_t end = from + 1;
    while (end < count && fabs(off[end] - off[from]) < 0.05)
        end++;
    return end;
}

static void say_range(const ranges *k, const double *off, int64_t from, int64_t end,
                      moe_int_finding *f) {
    const double factor = 1 + off[from];
    const int64_t first = from * k->block;
    int64_t last = end * k->block - 1;
    last = last < k->v.depth ? last : k->v.depth - 1;
    moe_int_finding_say(f, ": terms %lld to %lld of %lld in %s ", (long long)first, (long long)last,
                        (long long)k->v.depth, k->v.equation);
    if (fabs(factor) < 0.05)
        moe_int_finding_say(f, "are left out");
    else if (fabs(factor - 2) < 0.05)
        moe_int_finding_say(f, "count twice");
    else
        moe_int_finding_say(f, "have a factor of %.3g", factor);
    moe_int_finding_param(f, "first_term", (double)first);
    moe_int_finding_param(f, "last_term", (double)last);
    moe_int_finding_param(f, "factor", factor);
}

/* What stands in a block of terms in place of its own: another block of the operand's row, the
 * block of a row beside it, or the matrix's block of the next expert or the one before. */
typedef struct stand_in {
    int64_t block, row, expert; /* -1; by how much */
} stand_in;

/* ret [outs] = row i's part of block b with the stand-in. False: there is none. */
static bool part_with(ranges *k, int64_t i, int64_t b, const stand_in *in, double *ret) {
    const moe_int_product_view *v = &k->v;
    const int64_t from = b * k->block, take = in->block >= 0 ? in->block * k->block : from;
    const int64_t e = moe_int_product_expert(v, i) + in->expert, q = v->own[i] + in->row;
    const int64_t most = from > take ? from : take;
    const int64_t n = most + k->block < v->depth ? k->block : v->depth - most;
    if (q < 0 || q >= v->sources || (in->expert && (e < 0 || e >= v->experts)))
        return false;
    moe_int_product_source(v, i, q, k->x);
    load_matrix(k, e);
    for (int64_t c = 0; c < v->outs; c++)
        ret[c] = moe_int_inner(k->w + c * v->depth + from, k->x + take, n);
    return true;
}

/* Replaces block b of row i by the stand-in in error [outs]. Returns the square that is left. */
static double replaced(ranges *k, int64_t i, int64_t b, const stand_in *in, double *error,
                       double *room) {
    static const stand_in own = {-1, 0, 0};
    const int64_t outs = k->v.outs;
    if (!part_with(k, i, b, in, room) || !part_with(k, i, b, &own, room + outs))
        return INFINITY;
    for (int64_t c = 0; c < outs; c++)
        error[c] += room[outs + c] - room[c];
    return moe_int_inner(error, error, outs);
}

/* Row i's error against the product of its own operands. */
static void own_error(ranges *k, int64_t i, double *ret) {
    const moe_int_product_view *v = &k->v;
    moe_int_product_source(v, i, v->own[i], k->x);
    load_matrix(k, moe_int_product_expert(v, i));
    for (int64_t c = 0; c < v->outs; c++)
        ret[c] = v->out[i * v->outs + c] - moe_int_inner(k->w + c * v->depth, k->x, v->depth);
}

/* With `shift` blocks on (or the row or expert beside) in all blocks that are missing. */
static double left_with_all(ranges *k, const double *off, int64_t rows, const stand_in *rule,
                            double *room) {
    double left = 0;
    for (int64_t i = 0; i < rows; i++) {
        double *error = room + 2 * k->v.outs, rest = INFINITY;
        own_error(k, i, error);
        for (int64_t b = 0; b < k->count; b++) {
            stand_in in = *rule;
            if (fabs(off[b] + 1) > 0.4)
                continue;
            in.block = rule->block ? moe_int_around(b + rule->block, k->count) : -1;
            rest = replaced(k, i, b, &in, error, room);
        }
        left += rest;
    }
    return left;
}

static void say_stand_in(const ranges *k, const double *off, const stand_in *rule,
                         moe_int_finding *f) {
    int64_t first = 0, count = 0;
    for (int64_t b = k->count; b-- > 0;)
        if (fabs(off[b] + 1) <= 0.4) {
            first = b;
            count++;
        }
    const int64_t from = first * k->block, terms = count * k->block;
    moe_int_finding_say(f, ": %lld terms from %lld on of %lld in %s take ", (long long)terms,
                        (long long)from, (long long)k->v.depth, k->v.equation);
    if (rule->block)
        moe_int_finding_say(f, "columns of %s that are %lld %s", k->v.operand,
                            (long long)llabs(rule->block * k->block),
                            rule->block > 0 ? "further on" : "before");
    else if (rule->row)
        moe_int_finding_say(f, "%s of the %s %s", k->v.operand, k->v.tokens ? "token" : "row",
                            rule->row > 0 ? "after" : "before");
    else
        moe_int_finding_say(f, "%s of the %s", k->v.matrix,
                            rule->expert > 0 ? "next expert" : "expert before");
    moe_int_finding_param(f, "first_term", (double)from);
}

/* Are blocks that seem to be missing others' instead? Of the first rows. */
static bool stands_in(const moe_int_local *l, ranges *k, const double *off, moe_int_finding *f) {
    enum { ROWS = 3, FEW = 16 };
    int64_t missing = 0;
    const int64_t outs = k->v.outs, rows = k->v.rows < ROWS ? k->v.rows : ROWS;
    for (int64_t b = 0; b < k->count; b++)
        missing += fabs(off[b] + 1) <= 0.4;
    if (missing == 0 || missing > FEW)
        return false;
    double *room = malloc(3 * (size_t)outs * sizeof *room), d2 = 0;
    bool found = false;
    for (int64_t i = 0; i < rows; i++)
        d2 += k->v.d2[i];
    for (int64_t n = 1; room && !found && n < k->count + 4; n++) {
        stand_in rule = {n < k->count ? n : 0, 0, 0};
        if (n >= k->count) {
            const int64_t by = (n - k->count) % 2 ? -1 : 1;
            rule = n - k->count < 2 ? (stand_in){0, by, 0} : (stand_in){0, 0, by};
        }
        const double left = left_with_all(k, off, rows, &rule, room);
        found = left <= moe_int_local_limit(k->v.e, k->v.id, d2);
        if (!found)
            continue;
        if (2 * rule.block > k->count)
            rule.block -= k->count;
        moe_int_local_residuals(l->p, left, d2, f);
        say_stand_in(k, off, &rule, f);
    }
    free(room);
    return found;
}

/* Do the fitted factors `off` explain it? */
static bool say_ranges(const moe_int_local *l, const ranges *k, const double *off, double left,
                       moe_int_finding *f) {
    int64_t runs = 0, first = -1, right = 0;
    if (left > moe_int_local_limit(k->v.e, k->v.id, k->d2))
        return false;
    for (int64_t b = 0; b < k->count; b++)
        right += fabs(off[b]) < 0.05;
    for (int64_t b = 0; b < k->count; b = run_end(off, b, k->count)) {
        const bool wrong = fabs(off[b]) >= 0.05;
        first = wrong && first < 0 ? b : first;
        runs += wrong;
    }
    if (first < 0 || 4 * runs > k->count + 4 || right == 0)
        return false;
    moe_int_local_residuals(l->p, left, k->d2, f);
    say_range(k, off, first, run_end(off, first, k->count), f);
    if (runs > 1)
        moe_int_finding_say(f, "; %lld more such ranges", (long long)runs - 1);
    return true;
}

/* Is every term there with a factor, be it of its own? Of single terms so few equations are left
 * that are not met by chance. */
static bool say_each(const moe_int_local *l, const ranges *k, const double *off, double left,
                     moe_int_finding *f) {
    double low = INFINITY, high = -INFINITY;
    int64_t period = 1;
    if (k->block != 1 || left > moe_int_local_limit(k->v.e, k->v.id, k->d2))
        return false;
    for (int64_t b = 0; b < k->count; b++) {
        low = fmin(low, 1 + off[b]);
        high = fmax(high, 1 + off[b]);
    }
    for (int64_t b = 0; b < k->count && period < k->count; b++)
        if (fabs(off[b] - off[b % period]) > 0.05) {
            period++;
            b = -1;
        }
    moe_int_local_residuals(l->p, left, k->d2, f);
    moe_int_finding_say(f, ": each term of %s in %s has a factor", k->v.operand, k->v.equation);
    moe_int_finding_range(f, low, high);
    if (2 * period <= k->count)
        moe_int_finding_say(f, ", the same for every %lldth", (long long)period);
    moe_int_finding_param(f, "least", low);
    moe_int_finding_param(f, "largest", high);
    return true;
}

static bool try_blocks(const moe_int_local *l, bool single, moe_int_finding *f) {
    ranges k;
    double rhs[BLOCKS];
    bool found = ranges_make(l, single, &k);
    if (found) {
        memcpy(rhs, k.rhs, (size_t)k.count * sizeof *rhs);
        found = moe_int_solve(k.g, k.count, k.rhs, 1);
    }
    if (found) {
        const double left = k.d2 - moe_int_inner(k.rhs, rhs, k.count);
        found = say_ranges(l, &k, k.rhs, left, f) || stands_in(l, &k, k.rhs, f) ||
                say_each(l, &k, k.rhs, left, f);
    }
    ranges_destroy(&k);
    return found;
}

bool moe_int_local_product_terms(const moe_int_local *l, moe_int_finding *f) {
    return try_blocks(l, false, f) || try_blocks(l, true, f);
}
