/* Factors that a narrow type cannot hold: a product's operand or matrix is rounded to its
 * significand on its way in, or the operand is cut off at its limit. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>

enum { OF_OPERAND = 1, OF_MATRIX = 2, OF_BOTH = 3, TRIALS = 3 * 10 };

static void to_bits(int bits, double *v, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int power;
        const double part = frexp(v[i], &power);
        v[i] = ldexp(rint(ldexp(part, bits)), power - bits);
    }
}

static int which_of(int n) {
    return n % 3 + 1;
}

static int bits_of(int n) {
    return 2 + n / 3;
}

static bool round_matrix(const moe_int_product_view *v, int n, double *w) {
    if (which_of(n) & OF_MATRIX)
        to_bits(bits_of(n), w, v->outs * v->depth);
    return true;
}

static void round_source(const moe_int_product_view *v, int n, int64_t i, double *x) {
    (void)i;
    if (which_of(n) & OF_OPERAND)
        to_bits(bits_of(n), x, v->depth);
}

static void say_bits(const moe_int_product_view *v, int n, moe_int_finding *f) {
    const int which = which_of(n);
    moe_int_finding_say(f, ": in %s %s%s%s rounded to %d bits, a narrower type's", v->equation,
                        which & OF_OPERAND ? v->operand : "", which == OF_BOTH ? " and " : "",
                        which & OF_MATRIX ? v->matrix : "", bits_of(n));
    moe_int_finding_param(f, "bits", bits_of(n));
}

bool moe_int_local_operand_bits(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {
        .count = TRIALS, .matrix = round_matrix, .source = round_source, .say = say_bits};
    return moe_int_product_try(l, &trials, f);
}

/* What is left of the first `rows` rows with the operand cut off at a limit. */
static double left_limited(const moe_int_product_view *v, double limit, int64_t rows, double *w) {
    double *x = w + v->outs * v->depth, left = 0;
    int64_t of = -1;
    for (int64_t i = 0; i < rows; i++) {
        if (moe_int_product_expert(v, i) != of)
            moe_int_product_matrix(v, of = moe_int_product_expert(v, i), w);
        moe_int_product_source(v, i, v->own[i], x);
        for (int64_t k = 0; k < v->depth; k++)
            x[k] = fmax(fmin(x[k], limit), -limit);
        left += moe_int_product_distance(v, i, w, x, v->outs);
    }
    return left;
}

/* The largest of the rows' sources. */
static double largest_source(const moe_int_product_view *v, double *x) {
    double most = 0;
    for (int64_t i = 0; i < v->rows; i++) {
        moe_int_product_source(v, i, v->own[i], x);
        for (int64_t k = 0; k < v->depth; k++)
            most = fmax(most, fabs(x[k]));
    }
    return most;
}

/* The limit that leaves least: the best of some, and then ever closer to it. */
static double best_limit(const moe_int_product_view *v, double most, double *w) {
    enum { STEPS = 24, HALVINGS = 16, ROWS = 4 };
    const int64_t rows = v->rows < ROWS ? v->rows : ROWS;
    double best = most, least = INFINITY, step = most / STEPS;
    for (int i = 1; i < STEPS; i++) {
        const double left = left_limited(v, i * step, rows, w);
        best = left < least ? i * step : best;
        least = fmin(least, left);
    }
    for (int i = 0; i < HALVINGS; i++) {
        step /= 2;
        for (int sign = -1; sign <= 1; sign += 2) {
            const double left = left_limited(v, best + sign * step, rows, w);
            if (left >= least)
                continue;
            least = left;
            best += sign * step;
            break;
        }
    }
    return best;
}

bool moe_int_local_operand_limited(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    const bool made = moe_int_product_view_make(l, false, &v);
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth) * sizeof *w) : NULL, d2 = 0;
    bool found = false;
    for (int64_t i = 0; w && i < v.rows; i++)
        d2 += v.d2[i];
    if (w) {
        const double limit = best_limit(&v, largest_source(&v, w), w);
        const double left = left_limited(&v, limit, v.rows, w);
        found = left <= moe_int_local_limit(v.e, v.id, d2);
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": in %s %s is, to %.4g", v.equation, v.operand, limit);
        moe_int_finding_param(f, "limit", limit);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
