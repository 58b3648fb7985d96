/* What is wrong with a product: whose rows, whose matrix, which terms. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIGNS = 8, FIRST_OUTS = 16, BLOCKS = 128 };

/* A few random signs of element c. */
static double sign_of(int64_t which, int64_t c) {
    uint64_t h = (uint64_t)(c * SIGNS + which) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return h >> 63 ? 1 : -1;
}

/* Squared distance of row i from the product of x. */
static double distance(const moe_int_product_view *v, int64_t i, const double *w, const double *x,
                       int64_t outs) {
    double sum = 0;
    for (int64_t c = 0; c < outs; c++)
        sum += pow(v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth), 2);
    return sum;
}

/* The source whose product is nearest to row i along some random directions; x [depth] is room. */
static int64_t nearest_source(const moe_int_product_view *v, int64_t i, const double *w,
                              double *turned, double *x) {
    double to[SIGNS] = {0}, least = INFINITY;
    int64_t best = -1;
    memset(turned, 0, (size_t)(SIGNS * v->depth) * sizeof *turned);
    for (int64_t s = 0; s < SIGNS; s++)
        for (int64_t c = 0; c < v->outs; c++) {
            const double sign = sign_of(s, c);
            to[s] += sign * v->out[i * v->outs + c];
            for (int64_t k = 0; k < v->depth; k++)
                turned[s * v->depth + k] += sign * w[c * v->depth + k];
        }
    for (int64_t q = 0; q < v->sources; q++) {
        double sum = 0;
        moe_int_product_source(v, i, q, x);
        for (int64_t s = 0; s < SIGNS && sum < least; s++)
            sum += pow(moe_int_inner(turned + s * v->depth, x, v->depth) - to[s], 2);
        if (sum < least) {
            least = sum;
            best = q;
        }
    }
    return best;
}

bool moe_int_local_rows_of_others(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    moe_int_moved moved[MOE_INT_PRODUCT_ROWS];
    int64_t count = 0, of = -1;
    double left = 0, d2 = 0;
    bool made = moe_int_product_view_make(l, false, &v);
    double *w = made ? malloc((size_t)((v.outs + SIGNS + 1) * v.depth) * sizeof *w) : NULL;
    for (int64_t i = 0; w && v.sources > 1 && i < v.rows; i++) {
        double *turned = w + v.outs * v.depth, *x = turned + SIGNS * v.depth;
        if (moe_int_product_expert(&v, i) != of)
            moe_int_product_matrix(&v, of = moe_int_product_expert(&v, i), w);
        const int64_t q = nearest_source(&v, i, w, turned, x);
        moe_int_product_source(&v, i, q, x);
        const double rest = distance(&v, i, w, x, v.outs);
        d2 += v.d2[i];
        left += fmin(rest, v.d2[i]);
        if (q != v.own[i] && rest <= moe_int_local_limit(v.e, v.id, v.d2[i]))
            moved[count++] = (moe_int_moved){v.pair[i], v.own[i], q};
    }
    const bool found = count > 0 && count == v.rows;
    if (found) {
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, " of %s, in %s", v.operand, v.equation);
        if (v.experts)
            moe_int_say_moved(v.e, moved, count, v.tokens, f);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}

/* The expert whose matrix makes row i of its own source, -1. */
static int64_t owner_of(const moe_int_product_view *v, int64_t i, const double *x, double *w,
                        double *rest) {
    const double limit = moe_int_local_limit(v->e, v->id, v->d2[i]);
    const int64_t own = moe_int_product_expert(v, i);
    const int64_t few = v->outs < FIRST_OUTS ? v->outs : FIRST_OUTS;
    for (int64_t step = 1; step < v->experts; step++) {
        /* The neighbours first. */
        const int64_t by = step % 2 ? (step + 1) / 2 : -step / 2;
        const int64_t e = (own + by + v->experts) % v->experts;
        moe_int_product_matrix(v, e, w);
        if (distance(v, i, w, x, few) > 4 * limit)
            continue;
        *rest = distance(v, i, w, x, v->outs);
        if (*rest <= limit)
            return e;
    }
    return -1;
}

bool moe_int_local_matrix_of_others(const moe_int_local *l, moe_int_finding *f) {
    enum { ROWS = 6 };
    moe_int_product_view v;
    int64_t count = 0, first = -1, has = -1, shift = 0, seen = 0;
    double left = 0, d2 = 0;
    bool same = true, made = moe_int_product_view_make(l, false, &v);
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth) * sizeof *w) : NULL;
    for (int64_t i = 0; w && v.experts > 1 && i < v.rows; i += (v.rows + ROWS - 1) / ROWS) {
        double rest = 0, *x = w + v.outs * v.depth;
        moe_int_product_source(&v, i, v.own[i], x);
        const int64_t own = moe_int_product_expert(&v, i), e = owner_of(&v, i, x, w, &rest);
        seen++;
        if (e < 0)
            break;
        d2 += v.d2[i];
        left += rest;
        same &= count == 0 || e - own == shift;
        shift = e - own;
        first = count++ == 0 ? i : first;
        has = first == i ? e : has;
    }
    const bool found = count > 0 && count == seen;
    if (found) {
        const moe_plan *plan = v.e->routing->plan;
        const int64_t own = moe_int_product_expert(&v, first);
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": %s of %s", v.matrix,
                            same && shift == 1    ? "the next expert"
                            : same && shift == -1 ? "the expert before"
                                                  : "another expert");
        moe_int_finding_say(
            f, " in %s for %lld of %lld rows; expert %lld's row %lld has expert %lld's", v.equation,
            (long long)l->p->wrong_rows, (long long)l->p->rows, (long long)own,
            (long long)(v.pair[first] - plan->offsets[own]), (long long)has);
        moe_int_finding_param(f, "expert", (double)own);
        moe_int_finding_param(f, "has", (double)has);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}

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

static bool ranges_make(const moe_int_local *l, ranges *k) {
    memset(k, 0, sizeof *k);
    if (!moe_int_product_view_make(l, false, &k->v) || k->v.depth < 8)
        return false;
    const int64_t depth = k->v.depth, outs = k->v.outs;
    k->block = depth <= BLOCKS ? 4 : 8;
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
            in.block = rule->block ? (b + rule->block + k->count) % k->count : -1;
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

bool moe_int_local_product_terms(const moe_int_local *l, moe_int_finding *f) {
    ranges k;
    double rhs[BLOCKS];
    bool found = ranges_make(l, &k);
    if (found) {
        memcpy(rhs, k.rhs, (size_t)k.count * sizeof *rhs);
        found = moe_int_solve(k.g, k.count, k.rhs, 1);
    }
    if (found) {
        const double left = k.d2 - moe_int_inner(k.rhs, rhs, k.count);
        found = say_ranges(l, &k, k.rhs, left, f) || stands_in(l, &k, k.rhs, f);
    }
    ranges_destroy(&k);
    return found;
}
