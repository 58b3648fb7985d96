/* What is wrong with a product: whose rows, whose matrix. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIGNS = 8, FIRST_OUTS = 16 };

/* A few random signs of element c. */
static double sign_of(int64_t which, int64_t c) {
    uint64_t h = (uint64_t)(c * SIGNS + which) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return h >> 63 ? 1 : -1;
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
        const double rest = moe_int_product_distance(&v, i, w, x, v.outs);
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
        const int64_t by = moe_int_nearest(step);
        const int64_t e = moe_int_around(own + by, v->experts);
        moe_int_product_matrix(v, e, w);
        if (moe_int_product_distance(v, i, w, x, few) > 4 * limit)
            continue;
        *rest = moe_int_product_distance(v, i, w, x, v->outs);
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
