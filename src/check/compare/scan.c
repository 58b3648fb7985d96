/* Two tensors element by element. Sums are kept in double per group in a fixed order; what is not a
 * number, and what has no truth, is set apart first. */
#include "check/compare/scan.h"
#include "check/subject/guard.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 256 };

static void note_worst(moe_int_scan *s, const moe_int_element *x, double size) {
    if (!(size > s->worst_size))
        return;
    s->worst_size = size;
    const moe_tensor *whole = s->c->whole ? s->c->whole : s->c->got;
    s->v->worst_ndim = whole->ndim;
    moe_int_unravel(whole, moe_int_layout_flat(&s->layout, x->g, x->col), s->v->worst_index);
    s->v->worst_expert = moe_int_layout_expert(&s->layout, s->c->plan, x->g);
    s->v->got = x->got;
    s->v->want = x->want;
}

/* An element that is not a number where one is due outweighs every finite error. */
static void note_bad(moe_int_scan *s, const moe_int_element *x) {
    if (s->any_bad)
        return;
    s->any_bad = true;
    s->worst_size = -1;
    note_worst(s, x, INFINITY);
}

/* Counts a number whose truth is one, and returns its size. */
static inline double count_number(bool with_variance, const moe_int_rounding *rounding, double got,
                                  double want, double var, moe_int_group *group) {
    double d = got - want, size = fabs(d);
    group->n++;
    group->d2 += d * d;
    group->r2 += want * want;
    group->off += d != 0;
    group->nonzero += want != 0;
    if (with_variance) {
        double expected = moe_int_result_variance(rounding, want, var);
        size = d == 0 ? 0 : size / sqrt(expected); /* x / 0 is infinitely wrong */
        group->e2 += expected;
        group->e4 += expected * expected;
        group->z2 += size * size;
        group->max_z = size > group->max_z ? size : group->max_z;
    }
    return size;
}

moe_int_fate moe_int_count(const moe_int_comparison *c, const moe_int_rounding *rounding,
                           const moe_int_element *x, moe_int_group *group, double *ret_size) {
    if (isfinite(x->got) && isfinite(x->want) && isfinite(x->var)) { /* nearly always */
        *ret_size = count_number(c->variance != NULL, rounding, x->got, x->want, x->var, group);
        return MOE_INT_COUNTED;
    }
    bool poison = isnan(x->got) && moe_int_is_poison(c->got, x->at);
    moe_int_due due = moe_int_due_of(c, x->want, x->var);
    bool swallowed = due == MOE_INT_DUE_NOT_FINITE && isfinite(x->got);
    if (poison || swallowed || (due == MOE_INT_DUE_NUMBER && !isfinite(x->got))) {
        group->bad++;
        return poison ? MOE_INT_UNWRITTEN : swallowed ? MOE_INT_SWALLOWED : MOE_INT_NOT_A_NUMBER;
    }
    if (!isfinite(x->want) || !isfinite(x->var))
        return MOE_INT_NO_TRUTH;
    *ret_size = count_number(c->variance != NULL, rounding, x->got, x->want, x->var, group);
    return MOE_INT_COUNTED;
}

static void scan_element(moe_int_scan *s, const moe_int_element *x) {
    double size = 0;
    switch (moe_int_count(s->c, &s->rounding, x, &s->groups[x->g], &size)) {
    case MOE_INT_UNWRITTEN:
        s->unwritten++;
        note_bad(s, x);
        break;
    case MOE_INT_SWALLOWED:
        s->swallowed++;
        note_bad(s, x);
        break;
    case MOE_INT_NOT_A_NUMBER:
        note_bad(s, x);
        break;
    case MOE_INT_NO_TRUTH:
        s->v->not_compared++;
        break;
    case MOE_INT_COUNTED:
        s->v->max_abs = fmax(s->v->max_abs, fabs(x->got - x->want));
        if (!s->any_bad)
            note_worst(s, x, size);
        break;
    }
}

/* Neighbours in a group, from column `col` on; `at` is the first one's flat index. */
typedef struct chunk {
    int64_t g, col, at, n;
    const double *got, *want, *var; /* var is 0 without variance */
    double room[3][CHUNK];
} chunk;

/* Elements as float64: where they lie, if they are that already, else in `room`. */
static const double *view_of(const moe_tensor *t, int64_t at, int64_t n, double *room) {
    if (t->dtype == MOE_F64)
        return (const double *)t->data + at;
    moe_int_load(t, at, n, room);
    return room;
}

static void load_chunk(const moe_int_comparison *c, const moe_int_layout *layout, int64_t g,
                       int64_t col, chunk *ret) {
    ret->g = g;
    ret->col = col;
    ret->at = g * layout->width + col;
    ret->n = layout->width - col < CHUNK ? layout->width - col : CHUNK;
    ret->got = view_of(c->got, ret->at, ret->n, ret->room[0]);
    ret->want = view_of(c->want, ret->at, ret->n, ret->room[1]);
    ret->var = ret->room[2];
    if (c->variance)
        ret->var = view_of(c->variance, ret->at, ret->n, ret->room[2]);
    else
        memset(ret->room[2], 0, (size_t)ret->n * sizeof *ret->room[2]);
}

static moe_int_element element_of(const chunk *k, int64_t i) {
    return (moe_int_element){k->g, k->col + i, k->at + i, k->got[i], k->want[i], k->var[i]};
}

void moe_int_each_element(const moe_int_comparison *c, const moe_int_layout *layout, int64_t g,
                          moe_int_element_fn each, void *user) {
    chunk k;
    for (int64_t col = 0; col < layout->width; col += CHUNK) {
        load_chunk(c, layout, g, col, &k);
        for (int64_t i = 0; i < k.n; i++) {
            moe_int_element x = element_of(&k, i);
            each(user, &x);
        }
    }
}

static bool all_numbers(const chunk *k) {
    bool all = true;
    for (int64_t i = 0; i < k->n; i++)
        all &= isfinite(k->got[i]) & isfinite(k->want[i]) & isfinite(k->var[i]);
    return all;
}

/* What scan_element does, of numbers alone: most of a check's time would go there. */
static void scan_numbers(moe_int_scan *s, const chunk *k) {
    const bool with_variance = s->c->variance != NULL;
    const moe_int_rounding rounding = s->rounding;
    moe_int_group sum = s->groups[k->g];
    double worst = s->worst_size, max_abs = s->v->max_abs;
    int64_t worst_at = -1;
    for (int64_t i = 0; i < k->n; i++) {
        double abs = fabs(k->got[i] - k->want[i]);
        double size =
            count_number(with_variance, &rounding, k->got[i], k->want[i], k->var[i], &sum);
        max_abs = abs > max_abs ? abs : max_abs;
        if (size > worst) {
            worst = size;
            worst_at = i;
        }
    }
    s->groups[k->g] = sum;
    s->v->max_abs = max_abs;
    if (worst_at >= 0 && !s->any_bad) {
        moe_int_element x = element_of(k, worst_at);
        note_worst(s, &x, worst);
    }
}

static void scan_chunk(moe_int_scan *s, const chunk *k) {
    if (all_numbers(k)) {
        scan_numbers(s, k);
        return;
    }
    for (int64_t i = 0; i < k->n; i++) {
        moe_int_element x = element_of(k, i);
        scan_element(s, &x);
    }
}

/* The share of a group's variance that is one number for each row: of a weight on the input. */
static double share_on_input(const moe_int_scan *s, int64_t g, double *ret_rows) {
    const moe_int_comparison *c = s->c;
    const bool experts =
        s->layout.by == MOE_INT_BY_EXPERT && !s->layout.base && c->plan && g < c->plan->n_experts;
    const int64_t first = experts ? c->plan->offsets[g] : g;
    const int64_t end = experts ? c->plan->offsets[g + 1] : g + (s->layout.by == MOE_INT_BY_PAIR);
    double sum = 0;
    for (int64_t p = first; p < end; p++)
        sum += c->rows->on_input[p];
    *ret_rows = (double)(end - first);
    return end > first ? sum / (double)(end - first) : 0;
}

void moe_int_scan_group(moe_int_scan *s, int64_t g) {
    const moe_int_comparison *c = s->c;
    moe_int_group *group = &s->groups[g];
    chunk k;
    for (int64_t col = 0; col < s->layout.width; col += CHUNK) {
        load_chunk(c, &s->layout, g, col, &k);
        scan_chunk(s, &k);
    }
    s->v->max_z = fmax(s->v->max_z, group->max_z);
    double sources = (double)moe_int_layout_sources(&s->layout, c->id, c->desc, c->plan, g);
    /* the error of a stored dA weighs in by squares of products of two normal values: 1/9 */
    if (c->points & MOE_POINT_DA)
        sources = fmax(sources / 3, 1);
    group->e4 = fmax(group->e4, group->e2 * group->e2 / sources);
    if (c->rows && (c->id == MOE_T_O || c->id == MOE_T_DX))
        group->e4 += s->rounding.u2 * s->rounding.u2 *
                     (c->id == MOE_T_O ? c->rows->common_o : c->rows->common_dx)[g];
    if (c->rows && (c->id == MOE_T_DH || c->id == MOE_T_DXP)) {
        const double as_whole = s->rounding.u2 * c->rows->weight[g] * group->r2;
        group->e4 += as_whole * as_whole;
    }
    double rows = 0;
    const double share = c->rows && c->rows->on_input ? share_on_input(s, g, &rows) : 0;
    if (share > 0)
        group->e4 += share * share * group->e2 * group->e2 / rows;
}
