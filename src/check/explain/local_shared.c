/* The shared expert on all tokens, and whose part a token's sum has of it. */
#include "check/explain/bank.h"
#include "check/explain/shared.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double gate_of(const moe_int_evidence *e, const double *x) {
    const moe_tensor *w = &e->problem->in.t[MOE_T_W_GATE_SHARED];
    double z = 0;
    for (int64_t c = 0; w->data && c < e->problem->layer.d; c++)
        z += x[c] * moe_load(w->data, w->dtype, (size_t)c);
    return w->data ? 1 / (1 + exp(-z)) : 1;
}

bool moe_int_shared_rows(const moe_int_local *l, moe_int_stage_rows *ret) {
    const moe_int_evidence *e = l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const int64_t n = desc->n_shared, T = e->problem->T;
    memset(ret, 0, sizeof *ret);
    if (!n || T > MOE_INT_SHARED_TOKENS ||
        moe_int_stage_rows_alloc(T, desc->d, n, moe_h_width(desc, n), ret))
        return false;
    moe_int_load(&e->problem->in.t[MOE_T_X], 0, T * desc->d, ret->x);
    if (l->scene->dO)
        moe_int_load(&e->problem->in.t[MOE_T_DO], 0, T * desc->d, ret->dy);
    for (int64_t t = 0; t < T; t++)
        ret->weight[t] = gate_of(e, ret->x + t * desc->d);
    const moe_int_change right = {.desc = *desc, .back = *desc, .store = MOE_F64};
    const moe_int_expert_run run = {
        .scene = l->scene, .change = &right, .e = -1, .rows = ret, .count = T};
    bool done = !moe_int_expert_forward(&run);
    if (l->scene->dO)
        done = done && !moe_int_expert_backward(&run);
    return done;
}

/* The token whose part v [d] is, with that token's gate or with t's own; -1. */
static int64_t whose(const moe_int_stage_rows *s, bool forward, int64_t t, const double *v,
                     double limit, double *left) {
    const int64_t d = s->d;
    for (int64_t step = 1; step < s->rows; step++) {
        /* Those beside it first. */
        const int64_t q = moe_int_around(t + moe_int_nearest(step), s->rows);
        for (int own = 0; own < 2; own++) {
            const double g = forward ? s->weight[own ? t : q] : 1;
            const double *part = (forward ? s->Y : s->dXp) + q * d;
            *left = 0;
            for (int64_t c = 0; c < d && *left <= limit; c++)
                *left += (v[c] - g * part[c]) * (v[c] - g * part[c]);
            if (*left <= limit)
                return q;
        }
    }
    return -1;
}

bool moe_int_local_shared_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    enum { SEEN = 8 };
    const moe_int_sight *p = l->p;
    moe_int_stage_rows s = {0};
    int64_t row[SEEN], known = 0, token = -1, has = -1;
    double left = 0, d2 = 0, rest = 0;
    const bool forward = p->id == MOE_T_O;
    if ((!forward && p->id != MOE_T_DX) || p->odd > 0)
        return false;
    const bool made = moe_int_shared_rows(l, &s);
    const int64_t count = moe_int_local_rows(p, SEEN, row);
    double *v = made ? malloc((size_t)s.d * sizeof *v) : NULL;
    for (int64_t i = 0; v && i < count; i++) {
        const int64_t t = moe_int_sight_token(p, row[i]);
        for (int64_t c = 0; c < s.d; c++)
            v[c] = moe_int_sight_got(p, row[i], c) - moe_int_sight_want(p, row[i], c) +
                   (forward ? s.weight[t] * s.Y[t * s.d + c] : s.dXp[t * s.d + c]);
        const int64_t q =
            whose(&s, forward, t, v, moe_int_local_limit(p->e, p->id, p->row[row[i]].d2), &rest);
        if (q < 0)
            break;
        left += rest;
        d2 += p->row[row[i]].d2;
        if (known++ == 0) {
            token = t;
            has = q;
        }
    }
    const bool found = known > 0 && known == count;
    if (found) {
        moe_int_local_residuals(p, left, d2, f);
        moe_int_finding_say(f, ": token %lld has token %lld's; %lld of %lld tokens are wrong",
                            (long long)token, (long long)has, (long long)p->wrong_rows,
                            (long long)p->rows);
        moe_int_finding_param(f, "token", (double)token);
        moe_int_finding_param(f, "has", (double)has);
    }
    free(v);
    free(s.block);
    return found;
}
