/* Weight gradients at a few hidden units under a change, in time linear in the units (see
 * check/truth/units.c for the equations). */
#include "check/explain/local.h"
#include "check/explain/scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One hidden unit of an expert, and where its sums are. */
typedef struct slice_run {
    const moe_int_scene *s;
    const moe_int_change *c;
    moe_int_slice at;
    int64_t n, hw, rows, d;
    double *dots; /* [rows][3] */
    double *dw1[2], *db1[2], *dw2, *db2;
    double *x, *dy; /* a row's */
} slice_run;

static void add(double scale, const double *x, int64_t n, double *sum) {
    for (int64_t i = 0; sum && i < n; i++)
        sum[i] += scale * x[i];
}

static int64_t token_of(const slice_run *k, int64_t r) {
    return k->at.e < 0 ? r : k->c->plan->token[k->c->plan->offsets[k->at.e] + r];
}

static void load_row(const slice_run *k, int64_t r) {
    const moe_tensor *in = k->s->evidence->problem->in.t;
    int64_t T = k->s->evidence->problem->T, t = token_of(k, r);
    const int64_t of_X =
        k->c->token_rule && k->at.e >= 0 ? moe_int_gathered_token(k->c, k->at.e, r, t) : t;
    int64_t x = k->at.e < 0 ? t * k->d : moe_int_gather_start(k->c, of_X, T, k->d);
    int64_t dy = k->at.e < 0 ? t : moe_int_around(t + k->c->gather_dO, T);
    moe_int_load(&in[MOE_T_X], x, k->d, k->x);
    moe_int_load(&in[MOE_T_DO], dy * k->d, k->d, k->dy);
    moe_int_narrow(k->c->operand, k->x, 2 * k->d); /* x and dy */
}

static int32_t layout_seen(const slice_run *k) {
    if (k->at.e < 0)
        return k->c->terms & MOE_INT_SHARED_INTERLEAVED ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT;
    return k->c->desc.glu_layout;
}

static int64_t column_of(const slice_run *k, int up) {
    return moe_h_column(layout_seen(k), k->n, k->hw, k->at.unit, up);
}

/* The three products of every row. */
static moe_status fill_dots(const slice_run *k) {
    double *w = malloc(4 * (size_t)k->d * sizeof *w);
    if (!w)
        return MOE_E_NOMEM;
    moe_int_matrix w1 = moe_int_matrix_w1(k->s, k->c, k->at.e, MOE_INT_PRODUCT_H);
    moe_int_matrix w2 = moe_int_matrix_w2(k->s, k->c, k->at.e, MOE_INT_PRODUCT_DA);
    int parts = k->hw == k->n ? 1 : 2;
    for (int up = 0; up < parts; up++)
        moe_int_matrix_row(&w1, column_of(k, up), w + up * k->d);
    moe_int_matrix_column(&w2, k->at.unit, w + 2 * k->d);
    for (int64_t r = 0; r < k->rows; r++) {
        load_row(k, r);
        moe_int_edit_row(w1.edit, k->d, k->x, w + 3 * k->d);
        moe_int_edit_row(w2.edit, k->d, k->dy, w + 3 * k->d);
        for (int up = 0; up < parts; up++)
            k->dots[3 * r + up] = moe_int_inner(k->x, w + up * k->d, k->d);
        k->dots[3 * r + 2] = moe_int_inner(k->dy, w + 2 * k->d, k->d);
    }
    free(w);
    return MOE_OK;
}

static double weight_of(const slice_run *k, int64_t r) {
    const moe_problem *problem = k->s->evidence->problem;
    if (k->at.e >= 0) {
        int64_t p = k->c->plan->offsets[k->at.e] + r;
        return k->c->used ? k->c->used[p] : k->c->plan->weight[p];
    }
    if (!problem->layer.shared_gate || k->c->terms & MOE_INT_NO_SHARED_GATE)
        return k->c->shared_factor;
    double z = 0;
    const moe_tensor *w = &problem->in.t[MOE_T_W_GATE_SHARED];
    for (int64_t i = 0; i < k->d; i++)
        z += k->x[i] * moe_load(w->data, w->dtype, (size_t)i);
    return k->c->shared_factor * (k->c->terms & MOE_INT_GATE_LINEAR ? z : 1 / (1 + exp(-z)));
}

static double bias_of(const slice_run *k, int up) {
    const moe_tensor *b = &k->s->evidence->problem->in.t[MOE_T_B1];
    if (k->at.e < 0 || !b->data || k->c->terms & MOE_INT_NO_B1)
        return 0;
    bool meant = k->c->biases & 1;
    int64_t from = meant ? (k->at.e + k->c->bias_shift) % k->c->desc.E : k->at.e;
    const int64_t column = column_of(k, up);
    const int64_t at = k->c->b1_order ? moe_int_b1_column(k->c, k->hw / 2, column) : column;
    return (meant ? k->c->bias_factor : 1) *
           moe_load(b->data, b->dtype, (size_t)(from * k->hw + at));
}

/* What a weight w that is missing or there twice adds as a factor. */
static double extra_weight(const slice_run *k, double w, unsigned missing, unsigned twice) {
    unsigned terms = (k->at.e < 0) == k->c->of_shared ? k->c->terms : 0;
    if (terms & missing)
        return w != 0 ? 1 / w : 0;
    return terms & twice ? w : 1;
}

static bool adds(const slice_run *k, int64_t r) {
    return k->at.e < 0 || moe_int_change_adds(k->c, k->at.e, r, k->rows);
}

/* Row r's term of dW1 (`which` 1) or dW2 (2). */
static void add_product(const slice_run *k, unsigned which, int64_t r, double scale,
                        const double *row, double *sum) {
    if (!sum || ((k->c->skip_dw & which) && !adds(k, r)))
        return;
    moe_int_narrow(k->c->operand, &scale, 1);
    add(scale, row, k->d, sum);
    if (k->at.e >= 0)
        moe_int_sum_stored(k->c, MOE_INT_SUM_DW, r, sum, k->d);
}

static void add_row(const slice_run *k, int64_t r) {
    unsigned terms = k->c->terms;
    bool routed = k->at.e >= 0, input = routed && terms & MOE_INT_ON_INPUT;
    double s = weight_of(k, r), w = !routed || terms & MOE_INT_ON_OUTPUT ? s : 1;
    double in = input ? s : 1, h[2] = {0, 0}, slope[2] = {0, 0}, a;
    double dh = w * extra_weight(k, w, MOE_INT_NO_DH_WEIGHT, MOE_INT_DH_WEIGHT_TWICE);
    double w2 = w * extra_weight(k, w, MOE_INT_NO_DW2_WEIGHT, MOE_INT_DW2_WEIGHT_TWICE);
    int parts = k->hw == k->n ? 1 : 2;
    for (int up = 0; up < parts; up++)
        h[up] = in * k->dots[3 * r + up] + bias_of(k, up);
    if (routed && moe_int_change_swaps(k->c, k->at.unit, k->n)) {
        const double gate = h[0];
        h[0] = h[1];
        h[1] = gate;
    }
    moe_int_change_store(k->c, h, 2);
    moe_int_changed_act(k->c, h, &a, slope);
    for (int up = 0; up < parts; up++) {
        double g = dh * k->dots[3 * r + 2] * slope[up];
        moe_int_change_store(k->c, &g, 1);
        add_product(k, 1, r, terms & MOE_INT_DW1_UNWEIGHTED_X ? g : in * g, k->x, k->dw1[up]);
        if (k->db1[up])
            *k->db1[up] += g;
    }
    a *= w2;
    moe_int_change_store(k->c, &a, 1);
    add_product(k, 2, r, a, k->dy, k->dw2);
    add(terms & MOE_INT_NO_DB2_WEIGHT ? 1 : w, k->dy, k->d, k->db2);
}

/* All rows; `right` has the right kernel's products, or is NULL. */
static moe_status run_slice(slice_run *k, const double *right) {
    moe_int_matrix w1 = moe_int_matrix_w1(k->s, k->c, k->at.e, MOE_INT_PRODUCT_H);
    moe_int_matrix w2 = moe_int_matrix_w2(k->s, k->c, k->at.e, MOE_INT_PRODUCT_DA);
    int32_t own = k->at.e < 0 ? MOE_GLU_CONCAT : k->s->evidence->problem->layer.glu_layout;
    bool alike = layout_seen(k) == own && k->c->gather_X == 0 && k->c->gather_dO == 0 &&
                 k->c->gather_mod == 0 && k->c->gather_late == 0 && k->c->gather_wrap == 0;
    k->x = malloc(2 * (size_t)k->d * sizeof *k->x);
    if (!k->x)
        return MOE_E_NOMEM;
    k->dy = k->x + k->d;
    moe_status status = MOE_OK;
    if (right && w1.right && w2.right && alike)
        memcpy(k->dots, right, 3 * (size_t)k->rows * sizeof *right);
    else
        status = fill_dots(k);
    for (int64_t r = 0; !status && r < k->rows; r++) {
        if (!k->c->skip_dw && !adds(k, r))
            continue;
        load_row(k, r);
        add_row(k, r);
    }
    free(k->x);
    return status;
}

/* Where slice i's results go: routed and shared slices are counted apart, db2 belongs to the first
 * slice of its expert. */
static int64_t group_of(const moe_int_scene *s, int64_t i) {
    int64_t g = 0;
    for (int64_t j = 0; j < i; j++)
        g += (s->slice[j].e < 0) == (s->slice[i].e < 0);
    return g;
}

static void point_at_w2(const slice_run *k, int64_t i, double *const *value, slice_run *ret) {
    const moe_int_scene *s = k->s;
    bool shared = k->at.e < 0;
    double *dw2 = value[shared ? MOE_T_DW2_SHARED : MOE_T_DW2];
    ret->dw2 = dw2 ? dw2 + group_of(s, i) * k->d : NULL;
    for (int64_t j = 0; !shared && value[MOE_T_DB2] && j < s->n_experts; j++)
        if (s->expert[j] == k->at.e && (i == 0 || s->slice[i - 1].e != k->at.e))
            ret->db2 = value[MOE_T_DB2] + j * k->d;
}

/* Row `up` of dW1 of the slice belongs, as the changed kernel sees it, to unit *unit and its part
 * *part. */
static void owner_of(const slice_run *k, int up, int64_t *unit, int *part) {
    int32_t own = k->at.e < 0 ? MOE_GLU_CONCAT : k->s->evidence->problem->layer.glu_layout;
    int32_t seen = layout_seen(k);
    int64_t column = moe_h_column(own, k->n, k->hw, k->at.unit, up);
    bool apart = seen == MOE_GLU_CONCAT || k->hw == k->n;
    *unit = apart ? column % k->n : column / 2;
    *part = (int)(apart ? column / k->n : column % 2);
}

static void point_at_w1(slice_run *k, int64_t i, int up, double *const *value, int part) {
    bool shared = k->at.e < 0;
    int64_t g = group_of(k->s, i) * (k->hw / k->n) + up;
    double *dw1 = value[shared ? MOE_T_DW1_SHARED : MOE_T_DW1];
    k->dw1[part] = dw1 ? dw1 + g * k->d : NULL;
    k->db1[part] = !shared && value[MOE_T_DB1] ? value[MOE_T_DB1] + g : NULL;
}

/* The slice's unit; then those that the changed kernel finds in the rest of its rows of dW1. */
static moe_status run_units(const slice_run *slice, int64_t i, double *const *value,
                            const double *right) {
    slice_run k = *slice;
    moe_status status = MOE_OK;
    point_at_w2(slice, i, value, &k);
    for (int up = 0; !status && up < k.hw / k.n; up++) {
        slice_run other = *slice;
        int part;
        owner_of(slice, up, &other.at.unit, &part);
        if (other.at.unit == k.at.unit) {
            point_at_w1(&k, i, up, value, part);
            continue;
        }
        point_at_w1(&other, i, up, value, part);
        other.dots = calloc(3 * (size_t)k.rows + 1, sizeof *other.dots);
        status = other.dots ? run_slice(&other, NULL) : MOE_E_NOMEM;
        free(other.dots);
    }
    return status ? status : run_slice(&k, right);
}

moe_status moe_int_slices_make(const moe_int_scene *s, const moe_int_change *change,
                               const moe_int_variant *base, moe_int_variant *ret) {
    const moe_problem *problem = s->evidence->problem;
    const moe_layer_desc *desc = &problem->layer;
    const int64_t *offsets = change->plan->offsets;
    int failed = 0;
#pragma omp parallel for num_threads(s->evidence->threads) schedule(dynamic) reduction(| : failed)
    for (int64_t i = 0; i < s->n_slices; i++) {
        slice_run k = {.s = s, .c = change, .at = s->slice[i], .d = desc->d};
        k.n = k.at.e < 0 ? desc->n_shared : desc->n;
        k.hw = moe_h_width(desc, k.n);
        k.rows = k.at.e < 0 ? problem->T : offsets[k.at.e + 1] - offsets[k.at.e];
        k.dots = ret->dots[i] = calloc(3 * (size_t)k.rows + 1, sizeof *k.dots);
        if (!k.dots)
            failed = 1;
        else
            failed |= run_units(&k, i, ret->value,
                                base && ret->same_choice ? base->dots[i] : NULL) != MOE_OK;
    }
    return failed ? MOE_E_NOMEM : MOE_OK;
}
