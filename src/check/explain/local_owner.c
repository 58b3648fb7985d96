/* The shared expert with a routed expert's weights, or computed otherwise. */
#include "check/explain/bank.h"
#include "check/explain/shared.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

enum { SEEN = 4 };

/* Whose W1 and W2 are taken: those of expert e where they are not its own; and in which way. */
typedef struct owner {
    int64_t e;
    bool w1, w2, swapped; /* swapped: of its W1's halves the second is the gate's */
    moe_int_act_fault act;
    int32_t other;     /* activation that it has; 0, the routed experts' own: none */
    const char *words; /* of the last three */
} owner;

static const owner ways[] = {
    {.swapped = true, .words = "its gate and up change places"},
    {.act = MOE_INT_ACT_IDENTITY, .words = "its gate multiplies without its nonlinearity"},
    {.act = MOE_INT_ACT_NO_UP, .words = "its up does not multiply"},
    {.act = MOE_INT_ACT_SIGMOID, .words = "its activation is x sigmoid(1.702 x)"},
    {.act = MOE_INT_ACT_TANH, .words = "its activation is gelu by tanh"},
    {.other = MOE_ACT_GEGLU, .words = "its activation is gelu"},
    {.other = MOE_ACT_REGLU, .words = "its activation is relu"},
};
enum { WAYS = sizeof ways / sizeof *ways };

typedef struct taken {
    const moe_int_local *l;
    moe_int_stage_rows s; /* the right shared expert */
    double *row, *A, *y;  /* of a matrix, [n], [d] */
} taken;

/* y [d] = the shared expert of token t with others' weights. A matrix that lies as W1's of routed
 * experts, interleaved or not, is read as the shared one's, whose gates come first. */
static void run(const taken *k, const owner *o, int64_t t) {
    const moe_tensor *in = k->l->p->e->problem->in.t;
    const moe_layer_desc *desc = &k->l->p->e->problem->layer;
    const int64_t n = k->s.n, hw = k->s.hw, d = k->s.d;
    moe_int_change act = {.desc = *desc, .act = o->act};
    if (o->other && hw > n)
        act.desc.act = o->other;
    const double *x = k->s.x + t * d;
    const bool again = o->w1 || o->words;
    for (int64_t j = 0; again && j < n; j++) {
        double h[2] = {0, 0}, slope[2];
        for (int up = 0; up < (hw == n ? 1 : 2); up++) {
            const int64_t c = j + (o->swapped ? !up : up) * n;
            h[up] = k->s.H[t * hw + (hw == n ? j : c)];
            if (!o->w1)
                continue;
            moe_int_load(&in[MOE_T_W1], (o->e * hw + c) * d, d, k->row);
            h[up] = moe_int_inner(x, k->row, d);
        }
        moe_int_changed_act(&act, h, &k->A[j], slope);
    }
    const double *A = again ? k->A : k->s.A + t * n;
    for (int64_t i = 0; i < d; i++) {
        moe_int_load(&in[o->w2 ? MOE_T_W2 : MOE_T_W2_SHARED], ((o->w2 ? o->e : 0) * d + i) * n, n,
                     k->row);
        k->y[i] = moe_int_inner(A, k->row, n);
    }
}

/* What is left of the wrong tokens; INFINITY: it is not so. */
static double left_with(const taken *k, const owner *o, const int64_t *row, int64_t count) {
    const moe_int_sight *p = k->l->p;
    double left = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t t = moe_int_sight_token(p, row[i]);
        double rest = 0;
        run(k, o, t);
        for (int64_t c = 0; c < k->s.d; c++) {
            const double error = moe_int_sight_got(p, row[i], c) - moe_int_sight_want(p, row[i], c);
            rest += pow(error - k->s.weight[t] * (k->y[c] - k->s.Y[t * k->s.d + c]), 2);
        }
        if (rest > moe_int_local_limit(p->e, p->id, p->row[row[i]].d2))
            return INFINITY;
        left += rest;
    }
    return left;
}

bool moe_int_local_shared_otherwise(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_layer_desc *desc = &p->e->problem->layer;
    taken k = {.l = l};
    int64_t row[SEEN];
    double d2 = 0;
    bool found = false;
    if (p->id != MOE_T_O || p->odd > 0 || !desc->n_shared || !moe_int_shared_rows(l, &k.s))
        return false;
    const int64_t count = moe_int_local_rows(p, SEEN, row);
    const int64_t others = desc->n_shared == desc->n ? 3 * desc->E : 0;
    for (int64_t i = 0; i < count; i++)
        d2 += p->row[row[i]].d2;
    k.row = malloc((size_t)(2 * k.s.d + 2 * k.s.n) * sizeof *k.row);
    k.y = k.row ? k.row + k.s.d + k.s.n : NULL;
    k.A = k.y ? k.y + k.s.d : NULL;
    for (int64_t i = 0; k.row && !found && i < WAYS + others; i++) {
        const int64_t n = i - WAYS;
        const owner o =
            i < WAYS ? ways[i] : (owner){.e = n / 3, .w1 = n % 3 != 1, .w2 = n % 3 != 0};
        const double left = left_with(&k, &o, row, count);
        found = left <= moe_int_local_limit(p->e, p->id, d2);
        if (!found)
            continue;
        moe_int_local_residuals(p, left, d2, f);
        const char *what = o.w1 && o.w2 ? "W1 and W2" : o.w1 ? "W1" : "W2";
        if (o.words)
            moe_int_finding_say(f, ": %s", o.words);
        else
            moe_int_finding_say(f, ": with %s of expert %lld", what, (long long)o.e);
        moe_int_finding_param(f, "expert", o.words ? -1 : (double)o.e);
    }
    free(k.row);
    free(k.s.block);
    return found;
}
