/* Zero experts return their token's X: is it another token's? */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

/* The weights of token t's zero experts together. */
static double weight_of(const moe_int_evidence *e, int64_t t) {
    const moe_plan *plan = e->routing->plan;
    double sum = 0;
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
        const int64_t p = plan->pair_of_token[i];
        sum += moe_int_plan_expert_of(plan, p) >= e->problem->layer.E ? plan->weight[p] : 0;
    }
    return sum;
}

/* The token whose row, of those from t on and back, v is; -1. */
static int64_t whose(const moe_tensor *X, int64_t T, int64_t t, const double *v, double *x,
                     double limit, double *left) {
    const int64_t d = X->shape[1];
    for (int64_t step = 1; step < T; step++) {
        const int64_t q = moe_int_around(t + moe_int_nearest(step), T);
        moe_int_load(X, q * d, d, x);
        *left = 0;
        for (int64_t c = 0; c < d && *left <= limit; c++)
            *left += (v[c] - x[c]) * (v[c] - x[c]);
        if (*left <= limit)
            return q;
    }
    return -1;
}

bool moe_int_local_zero_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    enum { SEEN = 8 };
    const moe_int_sight *p = l->p;
    const moe_tensor *X = &p->e->problem->in.t[MOE_T_X];
    const int64_t d = p->width;
    int64_t row[SEEN], known = 0, token = -1, has = -1;
    double left = 0, d2 = 0, rest = 0;
    if (p->id != MOE_T_O || p->odd > 0 || !p->e->problem->layer.n_zero)
        return false;
    const int64_t count = moe_int_local_rows(p, SEEN, row);
    double *v = malloc(2 * (size_t)d * sizeof *v);
    for (int64_t i = 0; v && i < count; i++) {
        const int64_t t = moe_int_sight_token(p, row[i]);
        const double w = weight_of(p->e, t);
        if (w == 0)
            break;
        moe_int_load(X, t * d, d, v);
        for (int64_t c = 0; c < d; c++)
            v[c] += (moe_int_sight_got(p, row[i], c) - moe_int_sight_want(p, row[i], c)) / w;
        const double limit = moe_int_local_limit(p->e, p->id, p->row[row[i]].d2) / (w * w);
        const int64_t q = whose(X, p->e->problem->T, t, v, v + d, limit, &rest);
        if (q < 0)
            break;
        left += rest * w * w;
        d2 += p->row[row[i]].d2;
        if (known++ == 0) {
            token = t;
            has = q;
        }
    }
    free(v);
    if (known == 0 || known < count)
        return false;
    moe_int_local_residuals(p, left, d2, f);
    moe_int_finding_say(f, ": token %lld has token %lld's; %lld of %lld tokens are wrong",
                        (long long)token, (long long)has, (long long)p->wrong_rows,
                        (long long)p->rows);
    moe_int_finding_param(f, "token", (double)token);
    moe_int_finding_param(f, "has", (double)has);
    return true;
}
