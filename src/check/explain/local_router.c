/* What is wrong with combine weights, and with their gradients dS. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}

/* What a weight may be, but for a factor that a token's have in common, or an expert's. */
typedef enum weight_of {
    THE_WEIGHT,
    EXP,
    SIGMOID,
    EXP_SIGMOID,
    LOGIT,
    SQUARE,
    ROOT,
    FUNCTIONS
} weight_of;

static const char *const function_words[FUNCTIONS] = {"the weights that they should be",
                                                      "exp(logit)",
                                                      "sigmoid(logit)",
                                                      "exp(sigmoid(logit))",
                                                      "logit",
                                                      "the weight squared",
                                                      "the weight's square root"};

static double function_of(weight_of which, double w, double z) {
    switch (which) {
    case THE_WEIGHT:
        return w;
    case EXP:
        return exp(z);
    case SIGMOID:
        return sigmoid(z);
    case EXP_SIGMOID:
        return exp(sigmoid(z));
    case LOGIT:
        return z;
    case SQUARE:
        return w * w;
    case ROOT:
        return sqrt(fabs(w));
    case FUNCTIONS:
        break;
    }
    return 0;
}

/* Sums of pairs that are divided by the same number. */
typedef struct share {
    double gg, gv, vv;
    int64_t count;
} share;

/* What is left of S if it is the function times a number of each token's (or expert's). */
static double left_by(const moe_int_sight *p, weight_of which, bool by_expert, share *room) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t groups = by_expert ? plan->n_experts : plan->n_tokens;
    int64_t told = 0;
    double left = 0;
    memset(room, 0, (size_t)groups * sizeof *room);
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t e = moe_int_plan_expert_of(plan, r), t = plan->token[r];
        const double z = p->e->routing->logits[t * plan->n_experts + e];
        const double v = function_of(which, moe_int_sight_want(p, r, 0), z);
        const double got = moe_int_sight_got(p, r, 0);
        share *at = &room[by_expert ? e : t];
        at->gg += got * got;
        at->gv += got * v;
        at->vv += v * v;
        at->count++;
    }
    for (int64_t i = 0; i < groups; i++) {
        left += room[i].vv > 0 ? fmax(room[i].gg - room[i].gv * room[i].gv / room[i].vv, 0) : 0;
        told += room[i].count > 1 ? room[i].count - 1 : 0;
    }
    return told >= 8 ? left : INFINITY;
}

bool moe_int_local_own_weights(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_plan *plan = p->e->routing->plan;
    if (p->id != MOE_T_S || !p->e->routing->logits || !moe_int_sight_is_whole(p) || p->odd > 0)
        return false;
    const int64_t most = plan->n_experts > plan->n_tokens ? plan->n_experts : plan->n_tokens;
    share *room = malloc((size_t)most * sizeof *room);
    double least = room ? moe_int_local_limit(p->e, p->id, p->d2) : -1;
    int best = -1;
    for (int i = 0; room && i < 2 * FUNCTIONS; i++) {
        const double left = left_by(p, (weight_of)(i % FUNCTIONS), i >= FUNCTIONS, room);
        if (left >= least || (best >= 0 && left >= least / 10))
            continue;
        least = left;
        best = i;
    }
    free(room);
    if (best < 0)
        return false;
    moe_int_sight_residuals(p, least, f);
    moe_int_finding_say(f,
                        ": %s, divided by another sum for each %s (a softmax, a score or a "
                        "renormalisation over something else)",
                        function_words[best % FUNCTIONS], best < FUNCTIONS ? "token" : "expert");
    return true;
}

/* ---- dS ---- */

/* Two rows whose product dS may be by mistake. */
typedef struct row_pair {
    moe_tensor_id left, right;
} row_pair;

/* Row of tensor `id` that belongs to pair p. */
static int64_t row_of(const moe_int_evidence *e, moe_tensor_id id, int64_t p) {
    const bool token = id == MOE_T_X || id == MOE_T_DO || id == MOE_T_O || id == MOE_T_DX;
    return token ? e->routing->plan->token[p] : p;
}

static const moe_tensor *tensor_of(const moe_int_evidence *e, moe_tensor_id id) {
    const moe_tensor *in = &e->problem->in.t[id];
    return in->data ? in : moe_int_local_operand(e, id);
}

/* The right row is that of the pair `by` rows on. */
static double product_at(const moe_int_evidence *e, const row_pair *k, int64_t p, int64_t by,
                         double *room) {
    const moe_tensor *a = tensor_of(e, k->left), *b = tensor_of(e, k->right);
    const int64_t width = a->shape[1];
    moe_int_load(a, row_of(e, k->left, p) * width, width, room);
    const int64_t on = moe_int_around(p + by, e->routing->plan->n_pairs);
    moe_int_load(b, row_of(e, k->right, on) * width, width, room + width);
    return moe_int_inner(room, room + width, width);
}

/* Of rows `by` apart some cross an expert's end, and may be another's. */
static bool is_product(const moe_int_sight *p, const row_pair *k, int64_t by, double *ret) {
    const moe_tensor *a = tensor_of(p->e, k->left), *b = tensor_of(p->e, k->right);
    int64_t row[64];
    if (!a || !b || a->ndim != 2 || b->ndim != 2 || a->shape[1] != b->shape[1])
        return false;
    const int64_t count = moe_int_local_rows(p, 64, row);
    double *room = malloc(2 * (size_t)a->shape[1] * sizeof *room), left = 0, d2 = 0;
    int64_t as = 0;
    for (int64_t i = 0; room && i < count; i++) {
        const double v = product_at(p->e, k, moe_int_layout_group(&p->layout, row[i]), by, room);
        const double rest = pow(moe_int_sight_got(p, row[i], 0) - v, 2), own = p->row[row[i]].d2;
        as += rest < own / 30;
        left += by ? fmin(rest, own) : rest;
        d2 += own;
    }
    free(room);
    *ret = d2 > 0 ? left / d2 : INFINITY;
    return count >= 8 && (*ret < 1.0 / 30 || (by && 5 * as >= 4 * count));
}

/* dS = <dA', A> in eight parts of hidden units, blocks of them or every eighth: which of them
 * count, and how often? On the scene. */
static bool unit_parts(const moe_int_local *l, bool every, moe_int_finding *f) {
    enum { BLOCKS = 8 };
    const moe_int_stage_rows *rows = &l->right->routed;
    const moe_int_spot *spot = &l->scene->spot[MOE_T_DS];
    const int64_t P = spot->groups < rows->rows ? spot->groups : rows->rows;
    if (rows->n % BLOCKS || P / 2 < BLOCKS || !rows->block)
        return false;
    double *term = calloc((size_t)((BLOCKS + 1) * P), sizeof *term), off[BLOCKS] = {0}, d2 = 0;
    for (int64_t p = 0; term && p < P; p++) {
        const moe_tensor *got = l->p->got;
        double *error = term + BLOCKS * P;
        error[p] = moe_load(got->data, got->dtype, (size_t)spot->base[p]) - rows->dS[p];
        d2 += error[p] * error[p];
        for (int64_t j = 0; j < rows->n; j++)
            term[(every ? j % BLOCKS : j / (rows->n / BLOCKS)) * P + p] +=
                rows->dA[p * rows->n + j] * rows->A[p * rows->n + j];
    }
    const double left = term ? moe_int_fit(term, BLOCKS, P, term + BLOCKS * P, off) : -1;
    free(term);
    int64_t first = -1, last = -1, wrong = 0;
    for (int64_t b = 0; b < BLOCKS; b++)
        if (fabs(off[b]) > 0.1) {
            first = first < 0 ? b : first;
            last = b;
            wrong++;
        }
    if (!(left >= 0) || left > d2 / 30 || first < 0 || wrong == BLOCKS)
        return false;
    moe_int_local_residuals(l->p, left, d2, f);
    f->rough = true;
    const int64_t size = rows->n / BLOCKS;
    if (every) {
        moe_int_finding_say(f,
                            " of dA' and A: of %d hidden units in a row %lld, the first number "
                            "%lld, count %.2g times",
                            BLOCKS, (long long)wrong, (long long)first, 1 + off[first]);
        moe_int_finding_param(f, "first_unit", (double)first);
        return true;
    }
    moe_int_finding_say(f, " of dA' and A: hidden units %lld to %lld of %lld count %.2g times",
                        (long long)first * size, ((long long)last + 1) * size - 1,
                        (long long)rows->n, 1 + off[first]);
    moe_int_finding_param(f, "first_unit", (double)(first * size));
    moe_int_finding_param(f, "last_unit", (double)((last + 1) * size - 1));
    return true;
}

bool moe_int_local_score_products(const moe_int_local *l, moe_int_finding *f) {
    static const row_pair pairs[] = {
        {MOE_T_DO, MOE_T_O}, {MOE_T_DO, MOE_T_X}, {MOE_T_DXP, MOE_T_X}, {MOE_T_DX, MOE_T_X},
        {MOE_T_DO, MOE_T_Y}, {MOE_T_DH, MOE_T_H}, {MOE_T_DX, MOE_T_O},
    };
    enum { SHIFTS = 5 };
    static const int64_t shifts[SHIFTS] = {0, 1, -1, 2, -2};
    if (l->p->id != MOE_T_DS || l->p->odd > 0)
        return false;
    for (size_t i = 0; i < SHIFTS * (sizeof pairs / sizeof *pairs); i++) {
        double left;
        const int64_t by = shifts[i % SHIFTS];
        const row_pair *k = &pairs[i / SHIFTS];
        if (!is_product(l->p, k, by, &left))
            continue;
        moe_int_local_residuals(l->p, left, 1, f);
        f->rough = true;
        moe_int_finding_say(f, ", of %s and %s", moe_tensor_name(k->left),
                            moe_tensor_name(k->right));
        if (by)
            moe_int_finding_say(f, " of the row %lld %s", llabs(by), by > 0 ? "after" : "before");
        return true;
    }
    return unit_parts(l, false, f) || unit_parts(l, true, f);
}
