/* The shared expert's part of O, hidden unit by hidden unit: which of them count, and how often? */
#include "check/explain/bank.h"
#include "check/explain/shared.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_UNITS = 128, ROWS = 12 };

/* Normal equations of the units' factors less 1. */
typedef struct equations {
    int64_t n, d;
    double *part; /* [n][d], of one token */
    double *g, *rhs, *solved;
    double d2;
} equations;

static void add_token(equations *k, const moe_int_sight *p, int64_t r,
                      const moe_int_stage_rows *s) {
    const moe_tensor *w2 = &p->e->problem->in.t[MOE_T_W2_SHARED];
    const int64_t t = moe_int_sight_token(p, r);
    for (int64_t u = 0; u < k->n; u++)
        for (int64_t c = 0; c < k->d; c++)
            k->part[u * k->d + c] = s->weight[t] * s->A[t * k->n + u] *
                                    moe_load(w2->data, w2->dtype, (size_t)(c * k->n + u));
    for (int64_t c = 0; c < k->d; c++) {
        const double error = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c);
        k->d2 += error * error;
        for (int64_t u = 0; u < k->n; u++)
            k->rhs[u] += error * k->part[u * k->d + c];
    }
    for (int64_t u = 0; u < k->n; u++)
        for (int64_t o = 0; o <= u; o++)
            k->g[u * k->n + o] += moe_int_inner(k->part + u * k->d, k->part + o * k->d, k->d);
}

static double solve(equations *k) {
    for (int64_t u = 0; u < k->n; u++)
        k->solved[u] = k->rhs[u];
    return moe_int_solve(k->g, k->n, k->solved, 1)
               ? fmax(k->d2 - moe_int_inner(k->solved, k->rhs, k->n), 0)
               : INFINITY;
}

static bool say(const equations *k, moe_int_finding *f) {
    int64_t first = -1, last = 0, wrong = 0;
    double low = INFINITY, high = -INFINITY;
    for (int64_t u = 0; u < k->n; u++) {
        if (fabs(k->solved[u]) < 0.05)
            continue;
        first = first < 0 ? u : first;
        last = u;
        wrong++;
        low = fmin(low, 1 + k->solved[u]);
        high = fmax(high, 1 + k->solved[u]);
    }
    moe_int_finding_say(f, ": %lld of its %lld units, from %lld to %lld, ", (long long)wrong,
                        (long long)k->n, (long long)first, (long long)last);
    const bool without = fmax(fabs(low), fabs(high)) < 0.05;
    moe_int_finding_say(f, without ? "are left out" : "have a factor");
    if (!without)
        moe_int_finding_range(f, low, high);
    moe_int_finding_param(f, "first_unit", (double)first);
    moe_int_finding_param(f, "last_unit", (double)last);
    return wrong > 0;
}

bool moe_int_local_shared_units(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const int64_t n = p->e->problem->layer.n_shared, d = p->width;
    int64_t row[ROWS];
    moe_int_stage_rows s = {0};
    const int64_t count = p->id == MOE_T_O && p->odd == 0 ? moe_int_local_rows(p, ROWS, row) : 0;
    if (n == 0 || n > MOST_UNITS || count * d < 4 * n)
        return false;
    equations k = {.n = n, .d = d};
    k.part = calloc((size_t)(n * (d + n + 2)), sizeof *k.part);
    bool found = k.part && moe_int_shared_rows(l, &s);
    if (found) {
        k.g = k.part + n * d;
        k.rhs = k.g + n * n;
        k.solved = k.rhs + n;
        for (int64_t i = 0; i < count; i++)
            add_token(&k, p, row[i], &s);
        const double left = solve(&k);
        found = left <= moe_int_local_limit(p->e, p->id, k.d2);
        moe_int_local_residuals(p, left, k.d2, f);
        found = found && say(&k, f);
    }
    free(k.part);
    free(s.block);
    return found;
}
