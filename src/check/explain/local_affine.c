/* Rows that have a number added to all their elements, as a mean that is taken away: those of a
 * wrong tensor, or those of the operand that makes it. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>

static double mean_of(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += v[i];
    return sum / (double)n;
}

bool moe_int_local_row_constant(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    double left = 0, mean = 0, moved = 0;
    int64_t first = -1;
    if (p->odd > 0 || p->width < 8 || p->wrong_rows < 2)
        return false;
    for (int64_t r = 0; r < p->rows; r++) {
        double error = 0, want = 0;
        if (!p->row[r].wrong) {
            left += p->row[r].d2;
            continue;
        }
        for (int64_t c = 0; c < p->width; c++) {
            want += moe_int_sight_want(p, r, c) / (double)p->width;
            error += (moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c)) / (double)p->width;
        }
        left += p->row[r].d2 - (double)p->width * error * error;
        moved += pow(error + want, 2);
        mean += error * error;
        first = first < 0 ? r : first;
    }
    if (!(left <= moe_int_local_limit(p->e, p->id, p->d2)))
        return false;
    moe_int_sight_residuals(p, left, f);
    if (moved < 0.01 * mean)
        moe_int_finding_say(f, ": their mean is taken away");
    moe_int_finding_say(f, "; %lld of %lld rows, the first %lld", (long long)p->wrong_rows,
                        (long long)p->rows, (long long)first);
    moe_int_finding_param(f, "row", (double)first);
    return true;
}

/* Of a row of a product: what times its operand, and what added to all of it. */
typedef struct affine {
    double times, more, mean;
} affine;

/* Fits row i's, with room for w [outs][depth], x [depth], and two rows of outs. */
static double fit_row(const moe_int_product_view *v, int64_t i, double *w, affine *ret) {
    double *x = w + v->outs * v->depth, *part = x + v->depth, number[2] = {0, 0};
    moe_int_product_source(v, i, v->own[i], x);
    for (int64_t c = 0; c < v->outs; c++) {
        part[c] = moe_int_inner(w + c * v->depth, x, v->depth);
        part[v->outs + c] = mean_of(w + c * v->depth, v->depth) * (double)v->depth;
    }
    const double left = moe_int_fit(part, 2, v->outs, v->out + i * v->outs, number);
    *ret = (affine){number[0], number[1], mean_of(x, v->depth)};
    return left;
}

bool moe_int_local_operand_affine(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    double left = 0, d2 = 0;
    affine first = {0, 0, 0};
    bool found = moe_int_product_view_make(l, false, &v) && v.outs >= 6, centred = true;
    double *w = found ? malloc((size_t)((v.outs + 1) * v.depth + 2 * v.outs) * sizeof *w) : NULL;
    int64_t of = -1;
    found = w != NULL;
    for (int64_t i = 0; found && i < v.rows; i++) {
        affine at;
        if (moe_int_product_expert(&v, i) != of)
            moe_int_product_matrix(&v, of = moe_int_product_expert(&v, i), w);
        const double rest = fit_row(&v, i, w, &at);
        found = rest >= 0 && rest <= moe_int_local_limit(v.e, v.id, v.d2[i]);
        centred &= fabs(at.more + at.times * at.mean) <= 0.05 * fabs(at.times * at.mean) + 1e-3;
        first = i == 0 ? at : first;
        left += rest;
        d2 += v.d2[i];
    }
    if (found) {
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": in %s %s is %s", v.equation, v.operand,
                            centred ? "less its row's mean" : "more by a number of each row's");
        if (fabs(first.times - 1) > 0.01)
            moe_int_finding_say(f, ", times %.4g in row %lld", first.times, (long long)v.pair[0]);
        moe_int_finding_param(f, "row", (double)v.pair[0]);
        moe_int_finding_param(f, "more", first.more);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
