/* Rows of a product's operand that are no rows: read from an element on that is not a row's first,
 * as with a wrong step from row to row. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "route/route.h"

#include <stdlib.h>

enum { FEW = 12 };

/* Squared distance of row i's first `outs` elements from the product of w and x. */
static double distance(const moe_int_product_view *v, int64_t i, const double *w, const double *x,
                       int64_t outs, double limit) {
    double sum = 0;
    for (int64_t c = 0; c < outs && sum <= limit; c++) {
        const double d = v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth);
        sum += d * d;
    }
    return sum;
}

/* The rows before row i's source that a wrong step is made over: all of them, or those of its
 * expert, whose rows may begin where they should. */
static int64_t rows_before(const moe_int_product_view *v, int64_t i) {
    const int64_t e = moe_int_product_expert(v, i);
    return v->tokens ? v->own[i] : v->pair[i] - v->e->routing->plan->offsets[e];
}

/* The elements by which row i is read too far on; 0: none. all: the operand's elements; those of
 * `a_row` too many for each row before it are tried first. */
static int64_t shift_of(const moe_int_product_view *v, int64_t i, const double *w,
                        const double *all, int64_t a_row, double *left) {
    const double limit = moe_int_local_limit(v->e, v->id, v->d2[i]);
    const int64_t own = v->own[i] * v->depth, few = v->outs < FEW ? v->outs : FEW;
    for (int64_t step = a_row ? 1 : 2; step < 16 * v->depth; step++) {
        const int64_t by = step == 1 ? a_row * rows_before(v, i) : moe_int_nearest(step - 1);
        if (own + by < 0 || own + by + v->depth > v->sources * v->depth ||
            distance(v, i, w, all + own + by, few, limit) > limit)
            continue;
        *left = distance(v, i, w, all + own + by, v->outs, limit);
        if (*left <= limit)
            return by;
    }
    return 0;
}

static void say(const moe_int_product_view *v, int64_t i, int64_t by, moe_int_finding *f) {
    const int64_t e = moe_int_product_expert(v, i), first = v->e->routing->plan->offsets[e];
    const int64_t row = v->tokens ? v->own[i] : v->pair[i] - first;
    moe_int_finding_say(f, ": in %s row %lld of %s", v->equation, (long long)row, v->operand);
    if (!v->tokens)
        moe_int_finding_say(f, " (expert %lld's)", (long long)e);
    moe_int_finding_say(f, " begins %lld elements %s", (long long)llabs(by),
                        by > 0 ? "late" : "early");
    if (row > 0 && by % row == 0)
        moe_int_finding_say(f, ", %lld a row", (long long)(by / row));
    moe_int_finding_param(f, "row", (double)row);
    moe_int_finding_param(f, "elements", (double)by);
}

bool moe_int_local_operand_stride(const moe_int_local *l, moe_int_finding *f) {
    enum { MOST = 1 << 24 };
    const bool on_input = l->p->e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    moe_int_product_view v;
    double left = 0, d2 = 0, rest = 0;
    int64_t known = 0, of = -1, a_row = 0;
    const bool made = moe_int_product_view_make(l, false, &v) && !(v.id == MOE_T_H && on_input) &&
                      v.sources * v.depth < MOST;
    double *w = made ? malloc((size_t)((v.outs + v.sources) * v.depth) * sizeof *w) : NULL;
    double *all = w ? w + v.outs * v.depth : NULL;
    moe_int_finding try = *f;
    for (int64_t i = 0; w && i < v.sources; i++)
        moe_int_product_source(&v, 0, i, all + i * v.depth);
    for (int64_t i = 0; w && i < v.rows; i++) {
        if (moe_int_product_expert(&v, i) != of)
            moe_int_product_matrix(&v, of = moe_int_product_expert(&v, i), w);
        const int64_t by = shift_of(&v, i, w, all, a_row, &rest);
        if (!by)
            break;
        a_row = v.own[i] > 0 && by % v.own[i] == 0 ? by / v.own[i] : a_row;
        left += rest;
        d2 += v.d2[i];
        if (known++ == 0)
            say(&v, i, by, &try);
    }
    const bool found = known > 0 && known == v.rows;
    if (found) {
        *f = try;
        moe_int_local_residuals(l->p, left, d2, f);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
