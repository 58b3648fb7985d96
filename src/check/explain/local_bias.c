/* A product's rows of one expert that have the same vector too much: a bias that is not the bias.
 */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ret[c]: what all rows have beside the product, on average; returns the square of what differs. */
static double added(const moe_int_product_view *v, double *ret) {
    double *w = malloc((size_t)((v->outs + 1) * v->depth) * sizeof *w), spread = INFINITY;
    double *x = w ? w + v->outs * v->depth : NULL;
    if (w) {
        moe_int_product_matrix(v, moe_int_product_expert(v, 0), w);
        memset(ret, 0, (size_t)v->outs * sizeof *ret);
        spread = 0;
    }
    for (int pass = 0; w && pass < 2; pass++)
        for (int64_t i = 0; i < v->rows; i++) {
            moe_int_product_source(v, i, v->own[i], x);
            for (int64_t c = 0; c < v->outs; c++) {
                const double more =
                    v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth);
                if (pass == 0)
                    ret[c] += more / (double)v->rows;
                else
                    spread += (more - ret[c]) * (more - ret[c]);
            }
        }
    free(w);
    return spread;
}

/* Where column c of H finds its bias in another layout's order, or with the halves changed. */
static int64_t other_order(int which, int64_t c, int64_t outs) {
    const int64_t half = outs / 2;
    return which == 0   ? c % 2 * half + c / 2
           : which == 1 ? c % half * 2 + c / half
                        : (c + half) % outs;
}

/* Says what the bias was taken for, `more` beside it; `noise`: expected square of an element. */
static void say_bias(const moe_int_product_view *v, const double *bias, const double *more,
                     double noise, moe_int_finding *f) {
    static const char *const orders[] = {"taken for interleaved", "taken for concatenated",
                                         "with its halves swapped"};
    int64_t worst = 0;
    for (int64_t c = 1; c < v->outs; c++)
        worst = fabs(more[c]) > fabs(more[worst]) ? c : worst;
    for (int which = 0; which < 3 && v->outs % 2 == 0; which++) {
        double left = 0;
        for (int64_t c = 0; c < v->outs; c++)
            left += pow(bias[c] + more[c] - bias[other_order(which, c, v->outs)], 2);
        if (left > 4 * noise * (double)v->outs + 1e-4 * moe_int_inner(more, more, v->outs))
            continue;
        moe_int_finding_say(f, ": the bias is in another order, %s (another layout)",
                            orders[which]);
        return;
    }
    moe_int_finding_say(f, ": in column %lld expert %lld adds %.4g, its bias is %.4g",
                        (long long)worst, (long long)moe_int_product_expert(v, 0),
                        bias[worst] + more[worst], bias[worst]);
    moe_int_finding_param(f, "column", (double)worst);
}

bool moe_int_local_own_bias(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    double d2 = 0, left = 0;
    bool found = moe_int_product_view_make(l, true, &v) && v.rows >= 3 && v.experts;
    double *more = found ? calloc(2 * (size_t)v.outs, sizeof *more) : NULL;
    for (int64_t i = 0; more && i < v.rows; i++)
        d2 += v.d2[i];
    found = more && (left = added(&v, more)) <= moe_int_local_limit(v.e, v.id, d2);
    if (found) {
        double *bias = more + v.outs;
        const int64_t e = moe_int_product_expert(&v, 0), at = e * v.outs;
        for (int64_t c = 0; c < v.outs; c++)
            bias[c] = v.bias && v.bias->data
                          ? moe_load(v.bias->data, v.bias->dtype, (size_t)(at + c))
                          : 0;
        moe_int_local_residuals(l->p, left, d2, f);
        say_bias(&v, bias, more, left / (double)(v.rows * (v.rows - 1) * v.outs), f);
        moe_int_finding_param(f, "expert", (double)e);
    }
    free(more);
    moe_int_product_view_destroy(&v);
    return found;
}

/* Rows that have the bias so many times, not once. */
bool moe_int_local_bias_factor(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    double factor[MOE_INT_PRODUCT_ROWS], d2 = 0, left = 0;
    bool found = moe_int_product_view_make(l, false, &v) && v.bias && v.bias->data;
    double *w = found ? malloc((size_t)((v.outs + 1) * v.depth + v.outs) * sizeof *w) : NULL;
    for (int64_t i = 0; w && i < v.rows; i++) {
        const int64_t e = moe_int_product_expert(&v, i);
        double *x = w + v.outs * v.depth, *bias = x + v.depth, *more = v.out + i * v.outs;
        moe_int_product_matrix(&v, e, w);
        moe_int_product_source(&v, i, v.own[i], x);
        moe_int_load(v.bias, e * v.outs, v.outs, bias);
        for (int64_t c = 0; c < v.outs; c++)
            more[c] -= moe_int_inner(w + c * v.depth, x, v.depth);
        const double size = moe_int_inner(bias, bias, v.outs);
        const double times = size > 0 ? moe_int_inner(bias, more, v.outs) / size : 0;
        factor[i] = 1 + times;
        d2 += v.d2[i];
        left += fmax(v.d2[i] - times * times * size, 0);
    }
    found = w && left <= moe_int_local_limit(v.e, v.id, d2);
    if (found) {
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_say_factors(v.e, v.pair, factor, v.rows, f);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}

/* The columns by which `added` is expert e's bias further on; -1: it is not. bias [outs]. */
static int64_t shift_of(const moe_int_product_view *v, int64_t e, const double *added, double *bias,
                        double limit, double *left) {
    moe_int_load(v->bias, e * v->outs, v->outs, bias);
    for (int64_t by = 0; by < v->outs; by++) {
        *left = 0;
        for (int64_t c = 0; c < v->outs && *left <= limit; c++)
            *left += pow(added[c] - bias[(c + by) % v->outs], 2);
        if (*left <= limit)
            return by;
    }
    return -1;
}

/* added [outs]: what row i has beside its product. */
static void take_added(const moe_int_product_view *v, int64_t i, double *w, double *x,
                       double *added) {
    const int64_t e = moe_int_product_expert(v, i);
    moe_int_product_matrix(v, e, w);
    moe_int_product_source(v, i, v->own[i], x);
    for (int64_t c = 0; c < v->outs; c++)
        added[c] = v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth) +
                   moe_load(v->bias->data, v->bias->dtype, (size_t)(e * v->outs + c));
}

/* Each row adds a bias, but begins elsewhere in it, or has another expert's. */
bool moe_int_local_bias_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    double left = 0, d2 = 0, rest = 0;
    int64_t known = 0, row = -1, by = 0, of = 0;
    bool made = moe_int_product_view_make(l, false, &v) && v.bias && v.bias->data;
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth + 2 * v.outs) * sizeof *w) : NULL;
    for (int64_t i = 0; w && i < v.rows; i++) {
        const int64_t own = moe_int_product_expert(&v, i);
        const double limit = moe_int_local_limit(v.e, v.id, v.d2[i]);
        double *x = w + v.outs * v.depth, *added = x + v.depth;
        int64_t shift = -1, e = own;
        take_added(&v, i, w, x, added);
        for (int64_t step = 0; shift < 0 && step < (v.experts ? v.experts : 1); step++) {
            e = own + step < v.experts ? own + step : own + step - v.experts;
            shift = shift_of(&v, e, added, added + v.outs, limit, &rest);
        }
        if (shift < 0)
            break;
        d2 += v.d2[i];
        left += rest;
        if (known++ == 0) {
            row = i;
            by = shift;
            of = e;
        }
    }
    const bool found = known > 0 && known == v.rows;
    if (found) {
        const int64_t own = moe_int_product_expert(&v, row);
        const int64_t first = v.e->routing->plan->offsets[own];
        moe_int_local_residuals(l->p, left, d2, f);
        if (v.experts)
            moe_int_finding_say(
                f, ": expert %lld's row %lld adds that of expert %lld, from column %lld on",
                (long long)own, (long long)(v.pair[row] - first), (long long)of, (long long)by);
        else
            moe_int_finding_say(f, ": it is added from column %lld on", (long long)by);
        moe_int_finding_param(f, "expert", (double)own);
        moe_int_finding_param(f, "has", (double)of);
        moe_int_finding_param(f, "by", (double)by);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
