/* What is wrong with a product, tried one after the other on its wrong rows. */
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>

enum { FEW = 16 };

/* What is left of all rows; INFINITY: it is not so. w [outs][depth], then x [depth]. */
static double left_with(const moe_int_product_view *v, const moe_int_product_trials *t, int n,
                        double *w) {
    const int64_t few = v->outs < FEW ? v->outs : FEW;
    double *x = w + v->outs * v->depth, left = 0;
    int64_t of = -1;
    for (int64_t i = 0; i < v->rows; i++) {
        const double limit = moe_int_local_limit(v->e, v->id, v->d2[i]);
        if (moe_int_product_expert(v, i) != of) {
            moe_int_product_matrix(v, of = moe_int_product_expert(v, i), w);
            if (t->matrix && !t->matrix(v, n, w))
                return INFINITY;
        }
        moe_int_product_source(v, i, v->own[i], x);
        if (t->source)
            t->source(v, n, i, x);
        if (moe_int_product_distance(v, i, w, x, few) > 4 * limit)
            return INFINITY;
        left += moe_int_product_distance(v, i, w, x, v->outs);
        if (left > 4 * limit * (double)v->rows)
            return INFINITY;
    }
    return left;
}

bool moe_int_product_try(const moe_int_local *l, const moe_int_product_trials *t,
                         moe_int_finding *f) {
    moe_int_product_view v;
    const bool made = moe_int_product_view_make(l, false, &v);
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth) * sizeof *w) : NULL, d2 = 0;
    bool found = false;
    for (int64_t i = 0; w && i < v.rows; i++)
        d2 += v.d2[i];
    for (int n = 0; w && !found && n < t->count; n++) {
        if (t->exists && !t->exists(&v, n))
            continue;
        const double left = left_with(&v, t, n, w);
        found = left <= moe_int_local_limit(v.e, v.id, d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, d2, f);
        t->say(&v, n, f);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
