/* Is a wrong tensor a function of what it is made of, only another one? A formula that no row of
 * the bank has is smooth all the same: its error at a point follows from the error at points
 * nearby. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

enum { POINTS = 6000, ASKED = 250, NEAR = 12 };

typedef struct point {
    double at[2]; /* gate and up */
    double got, want;
    double there; /* what the right formula makes of `at` */
} point;

typedef struct cloud {
    const moe_int_local *l;
    int64_t shift; /* the up is that of the unit so far on */
    int part;      /* of dH: 0 the gate's, 1 the up's */
    point *point;  /* [count] */
    int64_t count;
    double scale[2]; /* of at */
} cloud;

/* Column c of row r, which is a unit. */
static void point_of(const cloud *k, int64_t r, int64_t c, point *ret) {
    const moe_int_sight *p = k->l->p;
    const int64_t j = p->only_column ? p->only_column[c] : c;
    const moe_int_evidence *e = p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_tensor *h = moe_int_local_operand(e, MOE_T_H);
    const int64_t hw = moe_h_width(desc, desc->n), pair = moe_int_layout_group(&p->layout, r);
    *ret = (point){{0, 0}, 0, 0, 0};
    for (int up = 0; up < (hw == desc->n ? 1 : 2); up++) {
        const int64_t other = moe_int_around(j + (up ? k->shift : 0), desc->n);
        const int64_t seen = moe_h_column(desc->glu_layout, desc->n, hw, other, up);
        ret->at[up] = moe_load(h->data, h->dtype, (size_t)(pair * hw + seen));
    }
    double slope[2] = {0, 0};
    const moe_int_change right = {.desc = *desc};
    moe_int_changed_act(&right, ret->at, &ret->there, slope);
    ret->got = moe_int_sight_got(p, r, c);
    ret->want = moe_int_sight_want(p, r, c);
}

/* Unit j of row p of the scene, where w dA', which the slopes multiply, is known. */
static bool slope_of(const cloud *k, int64_t p, int64_t j, point *ret) {
    const moe_int_evidence *e = k->l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const bool weighted = desc->router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    const double times = (weighted ? rows->weight[p] : 1) * rows->dA[p * rows->n + j];
    const moe_int_change right = {.desc = *desc};
    double a, slope[2] = {0, 0};
    *ret = (point){{0, 0}, 0, 0, 0};
    for (int up = 0; up < (rows->hw == rows->n ? 1 : 2); up++)
        ret->at[up] =
            rows->H[p * rows->hw + moe_h_column(desc->glu_layout, rows->n, rows->hw, j, up)];
    const int64_t c = moe_h_column(desc->glu_layout, rows->n, rows->hw, j, k->part);
    const int64_t at = k->l->scene->spot[MOE_T_DH].base[p] + c;
    moe_int_changed_act(&right, ret->at, &a, slope);
    ret->got = moe_load(k->l->p->got->data, k->l->p->got->dtype, (size_t)at) / times;
    ret->want = slope[k->part];
    return isfinite(ret->got) && fabs(times) >= 0.05;
}

/* Points of A's wrong rows. */
static void add_units(cloud *k) {
    const moe_int_sight *p = k->l->p;
    const int64_t n = p->width;
    const int64_t step = p->wrong_rows * n / POINTS + 1;
    int64_t seen = 0;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t j = 0; p->row[r].wrong && j < n; j++)
            if (seen++ % step == 0 && k->count < POINTS)
                point_of(k, r, j, &k->point[k->count++]);
}

/* Points of dH's rows in the scene. */
static void add_slopes(cloud *k, int64_t n) {
    const int64_t rows = k->l->right->routed.rows, step = rows * n / POINTS + 1;
    for (int64_t i = 0; i < rows * n && k->count < POINTS; i += step)
        if (slope_of(k, i / n, i % n, &k->point[k->count]))
            k->count++;
}

static bool cloud_make(const moe_int_local *l, int part, int64_t shift, cloud *k) {
    const int64_t n = l->p->e->problem->layer.n;
    *k = (cloud){.l = l, .part = part, .shift = shift, .point = malloc(POINTS * sizeof *k->point)};
    if (k->point && l->p->id == MOE_T_A)
        add_units(k);
    else if (k->point)
        add_slopes(k, n);
    for (int up = 0; up < 2; up++) {
        double sum = 0;
        for (int64_t i = 0; i < k->count; i++)
            sum += k->point[i].at[up] * k->point[i].at[up];
        k->scale[up] = sum > 0 ? sqrt((double)k->count / sum) : 0;
    }
    return k->count >= 200;
}

/* The NEAR points nearest to number q, itself not among them. */
static void find_near(const cloud *k, int64_t q, int64_t *near) {
    double far[NEAR];
    int64_t count = 0;
    for (int64_t i = 0; i < k->count; i++) {
        const double x = (k->point[i].at[0] - k->point[q].at[0]) * k->scale[0];
        const double y = (k->point[i].at[1] - k->point[q].at[1]) * k->scale[1];
        const double d = x * x + y * y;
        if (i == q || (count == NEAR && d >= far[NEAR - 1]))
            continue;
        int64_t at = count < NEAR ? count++ : NEAR - 1;
        for (; at > 0 && far[at - 1] > d; at--) {
            far[at] = far[at - 1];
            near[at] = near[at - 1];
        }
        far[at] = d;
        near[at] = i;
    }
}

/* The error at point q as a plane through those near it has it. */
static double expected(const cloud *k, int64_t q) {
    int64_t near[NEAR] = {0};
    double g[9] = {0}, b[3] = {0};
    if (k->shift)
        return k->point[q].there - k->point[q].want;
    find_near(k, q, near);
    for (int i = 0; i < NEAR; i++) {
        const point *o = &k->point[near[i]];
        const double at[3] = {1, (o->at[0] - k->point[q].at[0]) * k->scale[0],
                              (o->at[1] - k->point[q].at[1]) * k->scale[1]};
        for (int a = 0; a < 3; a++) {
            b[a] += at[a] * (o->got - o->want);
            for (int c = 0; c < 3; c++)
                g[(size_t)3 * a + c] += at[a] * at[c];
        }
    }
    const double mean = b[0] / NEAR;
    for (int a = 0; a < 3; a++)
        g[(size_t)4 * a] += 1e-9 * g[0]; /* points on a line, where there is no up */
    return moe_int_solve(g, 3, b, 1) ? b[0] : mean;
}

/* The share of the error that is not expected; 1 where there is no telling. */
static double unexpected(const cloud *k) {
    double left = 0, d2 = 0;
    for (int64_t i = 0; i < ASKED; i++) {
        const int64_t q = i * k->count / ASKED;
        const double error = k->point[q].got - k->point[q].want;
        left += pow(error - expected(k, q), 2);
        d2 += error * error;
    }
    return d2 > 0 ? left / d2 : 1;
}

static void say_example(const cloud *k, moe_int_finding *f) {
    const point *worst = k->point;
    for (int64_t i = 1; i < k->count; i++) {
        const point *o = &k->point[i];
        if (fabs(o->got - o->want) > fabs(worst->got - worst->want))
            worst = o;
    }
    moe_int_finding_say(f, "; at gate %.3g", worst->at[0]);
    if (k->scale[1] > 0)
        moe_int_finding_say(f, " and up %.3g", worst->at[1]);
    moe_int_finding_say(f, " it is %.4g, should be %.4g", worst->got, worst->want);
    moe_int_finding_param(f, "gate", worst->at[0]);
    moe_int_finding_param(f, "up", worst->at[1]);
    moe_int_finding_param(f, "is", worst->got);
    moe_int_finding_param(f, "should_be", worst->want);
}

/* Interpolation leaves of kinks and steps what is within its spacing; of what is no function of
 * these two it would leave all and more. */
static bool is_function(const cloud *k, moe_int_finding *f) {
    const double share = unexpected(k);
    if (share > 0.25)
        return false;
    moe_int_local_residuals(k->l->p, share, 1, f);
    f->rough = true;
    say_example(k, f);
    return true;
}

bool moe_int_local_own_formula(const moe_int_local *l, moe_int_finding *f) {
    static const int64_t shifts[] = {0, 1, -1, 2, -2, 8, -8, 16, -16};
    const bool gated = moe_act_is_gated(l->p->e->problem->layer.act);
    bool found = false;
    if (l->p->id != MOE_T_A || !moe_int_local_operand(l->p->e, MOE_T_H) || l->p->odd > 0)
        return false;
    for (size_t i = 0; !found && i < (gated ? sizeof shifts / sizeof *shifts : 1); i++) {
        cloud k;
        moe_int_finding try = *f;
        if (shifts[i] && l->p->only_column)
            break;
        if (shifts[i])
            moe_int_finding_say(&try, ", of the up of column j %+lld", (long long)shifts[i]);
        found = cloud_make(l, 0, shifts[i], &k) && is_function(&k, &try);
        if (found)
            *f = try;
        free(k.point);
    }
    return found;
}

bool moe_int_local_own_slope(const moe_int_local *l, moe_int_finding *f) {
    const bool gated = moe_act_is_gated(l->p->e->problem->layer.act);
    bool found = false;
    if (l->p->id != MOE_T_DH || !moe_int_local_operand(l->p->e, MOE_T_H) || l->p->odd > 0)
        return false;
    for (int part = 0; !found && part < 1 + gated; part++) {
        cloud k;
        moe_int_finding try = *f;
        if (gated)
            moe_int_finding_say(&try, ", by the %s", part ? "up" : "gate");
        found = cloud_make(l, part, 0, &k) && is_function(&k, &try);
        if (found)
            *f = try;
        free(k.point);
    }
    return found;
}
