/* A token's sum whose terms are off by chance, each by so much of itself: what is left of numbers
 * that were few on the way into it, in whatever form. No term has a factor then, and no element an
 * error that another one tells of; but where terms are larger the errors are, in proportion. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

enum { CLASSES = 4, FEWEST = 64 /* elements of a class */, MOST = 1 << 20 /* of all */ };

/* One element: its error, and the squares of its terms. */
typedef struct element {
    double error, terms;
} element;

static int by_terms(const void *a, const void *b) {
    const element *x = a, *y = b;
    return (x->terms > y->terms) - (x->terms < y->terms);
}

/* What pair q's part of the sum counts with. */
static double weight_of(const moe_int_sight *p, int64_t q) {
    const bool on_input = p->e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return (p->id == MOE_T_O) == on_input ? 1 : p->e->routing->plan->weight[q];
}

/* Rows that are looked at: each step-th, where they are many. */
static int64_t step_of(const moe_int_sight *p) {
    return p->rows * p->width / MOST + 1;
}

static element *collect(const moe_int_sight *p, const moe_tensor *part, int64_t rows) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t d = p->width;
    element *ret = calloc((size_t)(rows * d), sizeof *ret);
    double *row = ret ? malloc((size_t)d * sizeof *row) : NULL;
    for (int64_t i = 0; row && i < rows; i++) {
        const int64_t r = i * step_of(p), t = moe_int_sight_token(p, r);
        for (int64_t c = 0; c < d; c++)
            ret[i * d + c].error = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c);
        for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
            const int64_t q = plan->pair_of_token[j];
            moe_int_load(part, q * d, d, row);
            for (int64_t c = 0; c < d; c++)
                ret[i * d + c].terms += pow(weight_of(p, q) * row[c], 2);
        }
    }
    if (!row) {
        free(ret);
        ret = NULL;
    }
    free(row);
    return ret;
}

/* The squared error of a class of elements in parts of its terms' squares; negative: errors have a
 * side, or one stands out as no rounding does. */
static double share_of(const element *v, int64_t count) {
    double sum = 0, d2 = 0, terms = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += v[i].error;
        d2 += v[i].error * v[i].error;
        terms += v[i].terms;
    }
    const double share = d2 / terms;
    for (int64_t i = 0; i < count; i++)
        if (v[i].error * v[i].error > 16 * share * v[i].terms)
            return -1;
    return sum * sum > 9 * d2 ? -1 : share;
}

bool moe_int_local_terms_by_chance(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_int_evidence *e = p->e;
    const int64_t rows = p->rows / step_of(p), each = rows * p->width / CLASSES;
    if ((p->id != MOE_T_O && p->id != MOE_T_DX) || p->odd > 0 || p->wrong_rows < p->rows ||
        each < FEWEST || p->d2 > 1e-2 * p->r2 || e->problem->layer.n_zero ||
        e->problem->layer.n_shared || (p->id == MOE_T_DX && e->routing->logits))
        return false;
    const moe_tensor *part = moe_int_local_operand(e, p->id == MOE_T_O ? MOE_T_Y : MOE_T_DXP);
    element *v = part ? collect(p, part, rows) : NULL;
    double low = INFINITY, high = 0;
    if (v)
        qsort(v, (size_t)(rows * p->width), sizeof *v, by_terms);
    for (int i = 0; v && i < CLASSES; i++) {
        const double share = share_of(v + i * each, each);
        low = fmin(low, share);
        high = fmax(high, share);
    }
    free(v);
    if (!v || low < 0 || high > 1.5 * low)
        return false;
    moe_int_sight_residuals(p, 0, f);
    f->rough = true;
    /* Rounding to b bits leaves a relative error of some 2^-b / sqrt 3 / sqrt 2. */
    moe_int_finding_say(f, ": by some %.2g of itself, whatever its size, as by rounding to %d bits",
                        sqrt((low + high) / 2), (int)rint(-log2(sqrt(3 * (low + high)))));
    return true;
}
