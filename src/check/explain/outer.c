/* The rows of a gradient of weights: an expert's with those beside it, or all tokens. */
#include "check/explain/outer.h"
#include "check/explain/shared.h"
#include "core/elements.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 512, BESIDE = 16 };

/* A token's or pair's row of the operands. */
static void load_rows(const moe_int_outer *k, int64_t r) {
    const moe_int_evidence *e = k->e;
    const moe_tensor *in = e->problem->in.t, *h = moe_int_local_operand(e, MOE_T_DH);
    const moe_plan *plan = e->routing->plan;
    const moe_router_desc *router = &e->problem->layer.router;
    const int64_t p = k->first + r, t = plan->token[p];
    const double w = plan->weight[p];
    double *left = k->left + r * k->a, *right = k->right + r * k->b;
    const bool on_input = router->weight_on == MOE_WEIGHT_ON_INPUT;
    double scale = 1;
    if (k->id == MOE_T_DW1 || k->id == MOE_T_DB1) {
        moe_int_load(h, p * k->a, k->a, left);
        scale = on_input ? w : 1;
    } else {
        moe_int_load(&in[MOE_T_DO], t * k->a, k->a, left);
        scale = on_input ? 1 : w;
    }
    if (k->id == MOE_T_DW1)
        moe_int_load(&in[MOE_T_X], t * k->b, k->b, right);
    else if (k->id == MOE_T_DW2)
        moe_int_load(moe_int_local_operand(e, MOE_T_A), p * k->b, k->b, right);
    else
        right[0] = 1;
    for (int64_t c = 0; k->id != MOE_T_DB1 && c < k->b; c++)
        right[c] *= scale;
}

/* The logits' gradients that the subject's dS makes, as left rows, and X. */
static bool load_tokens(const moe_int_outer *k) {
    const moe_int_evidence *e = k->e;
    const moe_tensor *dS = &e->got.t[MOE_T_DS], *X = &e->problem->in.t[MOE_T_X];
    const moe_plan *plan = e->routing->plan;
    if (!dS->data || !e->routing->logits || moe_tensor_count(dS) != plan->n_pairs)
        return false;
    double *ds = moe_int_doubles(dS, 0, plan->n_pairs);
    const bool done =
        ds && !moe_route_backward(&e->problem->layer, e->routing->logits, plan, ds, k->left);
    free(ds);
    moe_int_load(X, 0, k->rows * k->b, k->right);
    return done;
}

static bool is_shared(moe_tensor_id id) {
    return id == MOE_T_DW1_SHARED || id == MOE_T_DW2_SHARED || id == MOE_T_DW_GATE_SHARED;
}

/* The shared expert's rows, all tokens. Its gate g = sigmoid(z) has dz = g (1 - g) <dO, Y>. */
static bool load_shared(const moe_int_local *l, const moe_int_outer *k) {
    moe_int_stage_rows s;
    const bool done = moe_int_shared_rows(l, &s) && s.rows == k->rows;
    for (int64_t t = 0; done && t < k->rows; t++) {
        const double g = s.weight[t];
        double *left = k->left + t * k->a, *right = k->right + t * k->b;
        const bool second = k->id == MOE_T_DW2_SHARED;
        memcpy(right, second ? s.A + t * s.n : s.x + t * s.d, (size_t)k->b * sizeof *right);
        if (k->id == MOE_T_DW_GATE_SHARED)
            left[0] = s.dS[t] * g * (1 - g);
        else
            memcpy(left, second ? s.dy + t * s.d : s.dH + t * s.hw, (size_t)k->a * sizeof *left);
        for (int64_t c = 0; second && c < k->b; c++)
            right[c] *= g;
    }
    free(s.block);
    return done;
}

/* Adds sign times row r's product to `sum`. */
static void add_product(const moe_int_outer *k, int64_t r, double sign, double *sum) {
    for (int64_t i = 0; i < k->a; i++)
        for (int64_t j = 0; j < k->b; j++)
            sum[i * k->b + j] += sign * k->left[r * k->a + i] * k->right[r * k->b + j];
}

/* Of the wrong experts the one with the most rows that still leave every row to be told. */
static int64_t choose_expert(const moe_int_sight *p, int64_t most) {
    const moe_plan *plan = p->e->routing->plan;
    int64_t best = -1, rows_best = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t e = moe_int_sight_expert(p, r);
        if (!p->row[r].wrong || e < 0 || e == best)
            continue;
        const int64_t rows = plan->offsets[e + 1] - plan->offsets[e];
        if (rows > rows_best && rows <= most) {
            best = e;
            rows_best = rows;
        }
    }
    return best;
}

static bool describe(const moe_int_sight *p, moe_int_outer *k) {
    const moe_layer_desc *desc = &p->e->problem->layer;
    const int64_t hw = moe_h_width(desc, desc->n), n_shared = desc->n_shared;
    k->e = p->e;
    k->id = p->id;
    switch ((int)p->id) { /* those that are sums over rows */
    case MOE_T_DW1:
        k->a = hw;
        k->b = desc->d;
        k->left_name = "dH";
        k->right_name = "X";
        return moe_int_local_operand(p->e, MOE_T_DH) != NULL;
    case MOE_T_DB1:
        k->a = hw;
        k->b = 1;
        k->left_name = "dH";
        return moe_int_local_operand(p->e, MOE_T_DH) != NULL;
    case MOE_T_DW2:
        k->a = desc->d;
        k->b = desc->n;
        k->left_name = "dO";
        k->right_name = "s A";
        return moe_int_local_operand(p->e, MOE_T_A) != NULL;
    case MOE_T_DB2:
        k->a = desc->d;
        k->b = 1;
        k->left_name = "dO";
        return true;
    case MOE_T_DW_R:
        k->a = p->e->routing->plan->n_experts;
        k->b = desc->d;
        k->left_name = "dlogits";
        k->right_name = "X";
        return true;
    case MOE_T_DW1_SHARED:
        k->a = moe_h_width(desc, n_shared);
        k->b = desc->d;
        k->left_name = "dH";
        k->right_name = "X";
        return true;
    case MOE_T_DW2_SHARED:
        k->a = desc->d;
        k->b = n_shared;
        k->left_name = "dO";
        k->right_name = "the gated A";
        return true;
    case MOE_T_DW_GATE_SHARED:
        k->a = 1;
        k->b = desc->d;
        k->left_name = "dz";
        k->right_name = "X";
        return true;
    }
    return false;
}

/* Which rows; those of an expert with those beside it. */
static bool choose_rows(const moe_int_sight *p, moe_int_outer *k) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t E = p->e->problem->layer.E, unknowns = k->b == 1 ? k->a / 2 : MOST_ROWS / 2;
    if (k->id == MOE_T_DW_R || is_shared(k->id)) {
        k->expert = -1;
        k->own = k->rows = p->e->problem->T;
        return k->rows <= MOST_ROWS;
    }
    k->expert = choose_expert(p, unknowns);
    if (k->expert < 0)
        return false;
    const int64_t from = plan->offsets[k->expert], end = plan->offsets[k->expert + 1];
    const int64_t all = plan->offsets[E], beside = k->b == 1 ? 0 : BESIDE;
    k->own = end - from;
    k->before = from < beside ? from : beside;
    k->first = from - k->before;
    k->rows = k->before + k->own + (all - end < BESIDE ? all - end : BESIDE);
    return k->own > 0 && k->rows < (k->b == 1 ? k->a : MOST_ROWS);
}

bool moe_int_outer_make(const moe_int_local *l, moe_int_outer *k) {
    const moe_int_sight *p = l->p;
    memset(k, 0, sizeof *k);
    if (!moe_int_sight_is_whole(p) || p->odd > 0 || !describe(p, k) || !choose_rows(p, k))
        return false;
    const int64_t whole = k->a * k->b;
    k->left = calloc((size_t)(k->rows * (k->a + k->b) + 2 * whole), sizeof *k->left);
    if (!k->left)
        return false;
    k->right = k->left + k->rows * k->a;
    k->got = k->right + k->rows * k->b;
    k->error = k->got + whole;
    if (k->expert < 0 && !(is_shared(k->id) ? load_shared(l, k) : load_tokens(k)))
        return false;
    for (int64_t r = 0; k->expert >= 0 && r < k->rows; r++)
        load_rows(k, r);
    moe_int_load(p->got, k->expert < 0 ? 0 : k->expert * whole, whole, k->got);
    memcpy(k->error, k->got, (size_t)whole * sizeof *k->error);
    for (int64_t r = k->before; r < k->before + k->own; r++)
        add_product(k, r, -1, k->error);
    k->d2 = moe_int_inner(k->error, k->error, whole);
    return k->d2 > 0;
}
