/* Factors of few bits: a product's operand or matrix is rounded to a narrow type's significand on
 * its way in. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>

enum { OF_OPERAND = 1, OF_MATRIX = 2, OF_BOTH = 3, FEW = 16 };

static void to_bits(int bits, double *v, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int power;
        const double part = frexp(v[i], &power);
        v[i] = ldexp(rint(ldexp(part, bits)), power - bits);
    }
}

/* What is left of all rows; INFINITY: it is not so. w [outs][depth], then x [depth]. */
static double left_with(const moe_int_product_view *v, int which, int bits, double *w) {
    double *x = w + v->outs * v->depth, left = 0;
    int64_t of = -1;
    for (int64_t i = 0; i < v->rows; i++) {
        const double limit = moe_int_local_limit(v->e, v->id, v->d2[i]);
        const int64_t few = v->outs < FEW ? v->outs : FEW;
        if (moe_int_product_expert(v, i) != of) {
            moe_int_product_matrix(v, of = moe_int_product_expert(v, i), w);
            if (which & OF_MATRIX)
                to_bits(bits, w, v->outs * v->depth);
        }
        moe_int_product_source(v, i, v->own[i], x);
        if (which & OF_OPERAND)
            to_bits(bits, x, v->depth);
        if (moe_int_product_distance(v, i, w, x, few) > 4 * limit)
            return INFINITY;
        left += moe_int_product_distance(v, i, w, x, v->outs);
        if (left > 4 * limit * (double)v->rows)
            return INFINITY;
    }
    return left;
}

bool moe_int_local_operand_bits(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    const bool made = moe_int_product_view_make(l, false, &v);
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth) * sizeof *w) : NULL, d2 = 0;
    bool found = false;
    for (int64_t i = 0; w && i < v.rows; i++)
        d2 += v.d2[i];
    for (int n = 0; w && !found && n < 3 * 10; n++) {
        const int which = n % 3 + 1, bits = 2 + n / 3;
        const double left = left_with(&v, which, bits, w);
        found = left <= moe_int_local_limit(v.e, v.id, d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": in %s %s%s%s rounded to %d bits, a narrower type's", v.equation,
                            which & OF_OPERAND ? v.operand : "", which == OF_BOTH ? " and " : "",
                            which & OF_MATRIX ? v.matrix : "", bits);
        moe_int_finding_param(f, "bits", bits);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
