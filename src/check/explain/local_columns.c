/* Columns of a wrong tensor that have factors of their own, as scales of a matrix's rows; and
 * single values (S, dS) that have a weight which is not theirs. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>

/* Column c's factor, and what it leaves. */
static double factor_of(const moe_int_sight *p, int64_t c, double *left) {
    double gg = 0, gr = 0, rr = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const double got = moe_int_sight_got(p, r, c), want = moe_int_sight_want(p, r, c);
        gg += got * got;
        gr += got * want;
        rr += want * want;
    }
    *left = rr > 0 ? fmax(gg - gr * gr / rr, 0) : gg;
    return rr > 0 ? gr / rr : 0;
}

bool moe_int_local_factor_by_column(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    double left = 0, low = INFINITY, high = -INFINITY;
    int64_t wrong = 0, first = -1;
    if (p->odd > 0 || p->width < 4 || p->rows < 16)
        return false;
    for (int64_t c = 0; c < p->width; c++) {
        double rest;
        if (!moe_int_sight_wrong_column(p, c)) {
            left += p->column_d2[c];
            continue;
        }
        const double factor = factor_of(p, c, &rest);
        left += rest;
        low = fmin(low, factor);
        high = fmax(high, factor);
        first = wrong++ == 0 ? c : first;
    }
    if (!(left <= moe_int_local_limit(p->e, p->id, p->d2)))
        return false;
    moe_int_sight_residuals(p, left, f);
    moe_int_finding_range(f, low, high);
    moe_int_finding_say(f, "; %lld of %lld columns, from %lld on", (long long)wrong,
                        (long long)p->width, (long long)first);
    moe_int_finding_param(f, "column", (double)first);
    moe_int_finding_param(f, "factor", low);
    return true;
}

bool moe_int_local_value_factor(const moe_int_local *l, moe_int_finding *f) {
    enum { SEEN = 64 };
    const moe_int_sight *p = l->p;
    int64_t row[SEEN], pair[SEEN], count = 0;
    double factor[SEEN];
    if (p->width != 1 || p->layout.by != MOE_INT_BY_PAIR || p->odd > 0 ||
        !moe_int_sight_is_whole(p) || p->rows != p->e->routing->plan->n_pairs)
        return false;
    const double unit = sqrt(p->r2 / (double)p->rows); /* of small ones rounding is no less */
    const int64_t all = moe_int_local_rows(p, SEEN, row);
    for (int64_t i = 0; i < all; i++) {
        const double want = moe_int_sight_want(p, row[i], 0);
        if (fabs(want) < 0.3 * unit)
            continue;
        pair[count] = row[i];
        factor[count++] = moe_int_sight_got(p, row[i], 0) / want;
    }
    moe_int_finding try = *f;
    if (count < 8 || !moe_int_say_factors(p->e, pair, factor, count, &try))
        return false;
    *f = try;
    moe_int_sight_residuals(p, p->d2 * 1e-3, f); /* factors are as near as 3 % */
    f->rough = true;
    return true;
}
