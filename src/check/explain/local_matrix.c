/* dX's error as the logits' gradients times a matrix: the router's part is made with another W_r.
 */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

typedef struct errors {
    int64_t T, R, d;
    double *dz;   /* [T][R] */
    double *g;    /* [R][R] */
    double *more; /* [R][d]: the matrix less W_r */
    double *rhs;  /* [R][d] */
    double d2;
} errors;

/* The gradients that the subject's own dS makes. */
static bool load_gradients(const moe_int_evidence *e, double *dz) {
    const moe_tensor *dS = &e->got.t[MOE_T_DS];
    const moe_plan *plan = e->routing->plan;
    if (!dS->data || e->wrong[MOE_T_DS] || moe_tensor_count(dS) != plan->n_pairs)
        return false;
    double *ds = moe_int_doubles(dS, 0, plan->n_pairs);
    const bool done =
        ds && !moe_route_backward(&e->problem->layer, e->routing->logits, plan, ds, dz);
    free(ds);
    return done;
}

static void add_token(errors *k, const moe_int_sight *p, int64_t t) {
    const double *dz = k->dz + t * k->R;
    for (int64_t c = 0; c < k->d; c++) {
        const double error = moe_int_sight_got(p, t, c) - moe_int_sight_want(p, t, c);
        k->d2 += error * error;
        for (int64_t e = 0; e < k->R; e++)
            k->rhs[e * k->d + c] += dz[e] * error;
    }
    for (int64_t e = 0; e < k->R; e++)
        for (int64_t o = 0; o <= e; o++)
            k->g[e * k->R + o] += dz[e] * dz[o];
}

/* What is left where the error is the gradients times the best matrix. */
static double fit(errors *k) {
    double left = k->d2;
    for (int64_t e = 0; e < k->R; e++)
        k->g[e * k->R + e] = k->g[e * k->R + e] * (1 + 1e-9) + 1e-300;
    for (int64_t i = 0; i < k->R * k->d; i++)
        k->more[i] = k->rhs[i];
    if (!moe_int_solve(k->g, k->R, k->more, k->d))
        return INFINITY;
    for (int64_t i = 0; i < k->R * k->d; i++)
        left -= k->more[i] * k->rhs[i];
    return fmax(left, 0);
}

static void say(const errors *k, const moe_tensor *w_r, moe_int_finding *f) {
    int64_t wrong = 0, first = -1;
    double *row = malloc((size_t)k->d * sizeof *row);
    for (int64_t e = 0; row && e < k->R; e++) {
        const double *more = k->more + e * k->d;
        moe_int_load(w_r, e * k->d, k->d, row);
        if (moe_int_inner(more, more, k->d) < 1e-2 * moe_int_inner(row, row, k->d))
            continue;
        first = first < 0 ? e : first;
        wrong++;
    }
    free(row);
    moe_int_finding_say(f, ": %lld of its %lld rows are others, the first row %lld",
                        (long long)wrong, (long long)k->R, (long long)first);
    moe_int_finding_param(f, "row", (double)first);
}

bool moe_int_local_router_matrix(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_int_evidence *e = p->e;
    errors k = {.T = e->problem->T, .R = e->routing->plan->n_experts, .d = p->width};
    if (p->id != MOE_T_DX || p->odd > 0 || !e->routing->logits || !moe_int_sight_is_whole(p) ||
        k.T < 2 * k.R)
        return false;
    k.dz = calloc((size_t)(k.T * k.R + k.R * k.R + 2 * k.R * k.d), sizeof *k.dz);
    bool found = k.dz && load_gradients(e, k.dz);
    if (found) {
        k.g = k.dz + k.T * k.R;
        k.more = k.g + k.R * k.R;
        k.rhs = k.more + k.R * k.d;
        for (int64_t t = 0; t < k.T; t++)
            add_token(&k, p, t);
        const double left = fit(&k);
        found = left <= moe_int_local_limit(e, p->id, k.d2);
        if (found) {
            moe_int_local_residuals(p, left, k.d2, f);
            say(&k, &e->problem->in.t[MOE_T_W_R], f);
        }
    }
    free(k.dz);
    return found;
}
