#include "check/explain/vectors.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

const char *const moe_int_vector_words[MOE_INT_VECTOR_COUNT] = {
    "X",
    "dO",
    "O",
    "dX",
    "X that is not gathered (or gathered twice)",
    "dO that is not gathered (or gathered twice)",
    "Y",
    "dX~",
    "H",
    "dH",
    "A",
    "the gate (of H)",
    "the up (of H)",
    "the gate's activation",
    "the activation's slope",
    "A recomputed without its limits",
    "A recomputed without the 1 beside the up",
    "A recomputed without its nonlinearity",
    "A recomputed with an alpha of 1",
    "the gate's part of dH",
    "the up's part of dH",
    "dH with the gate's part for both",
    "dH with the up's part for both"};

/* The tensor that it is a row of, or a part of one. */
static moe_tensor_id tensor_of(moe_int_vector which) {
    static const moe_tensor_id whole[] = {MOE_T_X, MOE_T_DO,  MOE_T_O, MOE_T_DX, MOE_T_X, MOE_T_DO,
                                          MOE_T_Y, MOE_T_DXP, MOE_T_H, MOE_T_DH, MOE_T_A};
    return which <= MOE_INT_VECTOR_A         ? whole[which]
           : which <= MOE_INT_VECTOR_A_ALPHA ? MOE_T_H
                                             : MOE_T_DH;
}

static const moe_tensor *rows_of(const moe_int_evidence *e, moe_int_vector which) {
    const moe_tensor_id id = tensor_of(which);
    const moe_tensor *in = &e->problem->in.t[id];
    return in->data ? in : moe_int_local_operand(e, id);
}

bool moe_int_vector_of_token(moe_int_vector which) {
    return which <= MOE_INT_VECTOR_DO_UNSORTED;
}

bool moe_int_vector_exists(const moe_int_evidence *e, moe_int_vector which, int64_t width) {
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_tensor *t = rows_of(e, which);
    const bool gated = moe_act_is_gated(desc->act);
    if (!t || t->ndim != 2)
        return false;
    const bool of_both =
        which == MOE_INT_VECTOR_UP || which == MOE_INT_VECTOR_PHI || which >= MOE_INT_VECTOR_DGATE;
    const bool of_clamp = which == MOE_INT_VECTOR_A_FREE || which == MOE_INT_VECTOR_A_NO_ONE ||
                          which == MOE_INT_VECTOR_A_ALPHA;
    if ((of_both && !gated) || (of_clamp && desc->act != MOE_ACT_SWIGLU_CLAMP))
        return false;
    const bool half = which >= MOE_INT_VECTOR_GATE && which <= MOE_INT_VECTOR_DUP;
    return width == (half ? desc->n : t->shape[1]);
}

/* The activation that A is recomputed with. */
static moe_int_change formula_of(const moe_layer_desc *desc, moe_int_vector which) {
    moe_int_change c = {.desc = *desc};
    if (which == MOE_INT_VECTOR_A_FREE)
        c.desc.act_limit = INFINITY;
    if (which == MOE_INT_VECTOR_A_ALPHA)
        c.desc.act_alpha = 1;
    if (which == MOE_INT_VECTOR_A_NO_ONE)
        c.act = MOE_INT_ACT_NO_ONE;
    if (which == MOE_INT_VECTOR_A_IDENTITY)
        c.act = MOE_INT_ACT_IDENTITY;
    return c;
}

/* ret [n]: a unit's part of a row of H or dH. */
static void load_units(const moe_layer_desc *desc, moe_int_vector which, const double *row,
                       double *ret) {
    const int64_t n = desc->n, hw = moe_h_width(desc, n);
    const moe_int_change act = formula_of(desc, which);
    const int up = which == MOE_INT_VECTOR_UP || which == MOE_INT_VECTOR_DUP;
    for (int64_t j = 0; j < n; j++) {
        double h[2] = {row[moe_h_column(desc->glu_layout, n, hw, j, 0)], 0}, a, slope[2] = {0, 0};
        if (hw > n)
            h[1] = row[moe_h_column(desc->glu_layout, n, hw, j, 1)];
        ret[j] = h[up];
        if (which < MOE_INT_VECTOR_PHI || which > MOE_INT_VECTOR_A_ALPHA)
            continue;
        moe_int_changed_act(&act, h, &a, slope);
        ret[j] = which == MOE_INT_VECTOR_PHI     ? slope[1]
                 : which == MOE_INT_VECTOR_SLOPE ? slope[0]
                                                 : a;
    }
}

/* Of both halves of a row of dH the one. */
static void double_half(const moe_layer_desc *desc, int up, double *row) {
    const int64_t n = desc->n, hw = 2 * n;
    for (int64_t j = 0; j < n; j++)
        row[moe_h_column(desc->glu_layout, n, hw, j, !up)] =
            row[moe_h_column(desc->glu_layout, n, hw, j, up)];
}

void moe_int_vector_load(const moe_int_evidence *e, moe_int_vector which, int64_t p, bool tokens,
                         double *ret) {
    const moe_tensor *t = rows_of(e, which);
    const moe_layer_desc *desc = &e->problem->layer;
    const int64_t width = t->shape[1];
    const moe_plan *plan = e->routing->plan;
    const bool unsorted = which == MOE_INT_VECTOR_X_UNSORTED || which == MOE_INT_VECTOR_DO_UNSORTED;
    const bool gathered = moe_int_vector_of_token(which) && tokens == unsorted;
    const int64_t row = gathered && p < plan->n_pairs ? plan->token[p]
                        : unsorted                    ? p % plan->n_tokens
                                                      : p;
    if (which <= MOE_INT_VECTOR_A || which >= MOE_INT_VECTOR_DGATES) {
        moe_int_load(t, row * width, width, ret);
        if (which >= MOE_INT_VECTOR_DGATES)
            double_half(desc, which == MOE_INT_VECTOR_DUPS, ret);
        return;
    }
    double *whole = malloc((size_t)width * sizeof *whole);
    if (whole) {
        moe_int_load(t, row * width, width, whole);
        load_units(desc, which, whole, ret);
    }
    free(whole);
}
