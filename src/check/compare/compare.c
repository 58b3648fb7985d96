/* Two tensors against each other under a gate. Sums are kept in double per group (token, pair row
 * or expert) in a fixed order; every comparison is written so that NaN fails it. */
#include "check/compare/compare.h"
#include "check/errors/errors.h"
#include "check/subject/guard.h"
#include "check/verdict/result.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, TILE = 128 };

typedef struct scan {
    const moe_int_comparison *c;
    moe_int_layout layout;
    moe_gate gate;
    moe_int_group *groups;
    moe_int_group total;
    moe_int_rounding rounding;
    double worst_size; /* |z|, or |d| without variance, of the worst element */
    int64_t unwritten, swallowed;
    bool any_bad; /* some element is not a number where one is due, or one where none is */
    moe_tensor_verdict *v;
} scan;

static double ratio(double error, double reference) {
    return error == 0 ? 0 : error / reference;
}

static void note_worst(scan *s, const moe_int_element *x, double size) {
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
static void note_bad(scan *s, const moe_int_element *x) {
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

static void scan_element(scan *s, const moe_int_element *x) {
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
static void scan_numbers(scan *s, const chunk *k) {
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

static void scan_chunk(scan *s, const chunk *k) {
    if (all_numbers(k)) {
        scan_numbers(s, k);
        return;
    }
    for (int64_t i = 0; i < k->n; i++) {
        moe_int_element x = element_of(k, i);
        scan_element(s, &x);
    }
}

static void scan_group(scan *s, int64_t g) {
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
    if (c->rows && c->id == MOE_T_DX)
        group->e4 += s->rounding.u2 * s->rounding.u2 * c->rows->common[g];
}

void moe_int_group_add(moe_int_group *sum, const moe_int_group *g) {
    sum->d2 += g->d2;
    sum->r2 += g->r2;
    sum->e2 += g->e2;
    sum->z2 += g->z2;
    sum->max_z = fmax(sum->max_z, g->max_z);
    sum->n += g->n;
    sum->off += g->off;
    sum->nonzero += g->nonzero;
    sum->bad += g->bad;
    sum->e4 += g->e4;
}

/* Independent errors in a group: no more than its elements, nor than what they come from, and fewer
 * where a few dominate. */
static double freedom(const moe_int_group *g) {
    return g->e4 > 0 ? g->e2 * g->e2 / g->e4 : (double)g->n;
}

/* All zero, and no correct kernel has anything else there: no experts, no tokens. */
static bool exactly_zero(const moe_int_group *g) {
    return g->nonzero == 0 && g->e2 == 0;
}

static double error_over(const moe_int_group *g, double gate) {
    if (g->bad > 0 || (exactly_zero(g) && g->off > 0))
        return INFINITY;
    double few = moe_int_chi2_quantile(freedom(g));
    return ratio(g->d2, fmax(gate * g->r2, 2 * few * g->e2));
}

bool moe_int_group_passes(const moe_int_group *g, double gate) {
    return error_over(g, gate) <= 1;
}

double moe_int_group_over(const moe_int_group *g, const moe_gate *gate) {
    double over = error_over(g, gate->group_nmse > 0 ? gate->group_nmse : gate->nmse);
    double z = gate->max_z > 0 ? g->max_z / gate->max_z : 0;
    return fmax(over, z * z);
}

static bool rms_passes(const moe_int_group *g, double gate) {
    double few = moe_int_chi2_quantile(freedom(g)) / moe_int_chi2_quantile(MOE_INT_GATE_WIDTH);
    return g->z2 <= (double)g->n * gate * gate * fmax(few, 1);
}

/* Which gates some group or tile is over. */
typedef struct over_gate {
    bool group, tile, rms;
} over_gate;

static void judge_group(scan *s, int64_t g, over_gate *over) {
    const moe_int_group *group = &s->groups[g];
    double nmse = exactly_zero(group) && group->off ? INFINITY : ratio(group->d2, group->r2);
    bool fails = s->gate.group_nmse > 0 && !moe_int_group_passes(group, s->gate.group_nmse);
    /* the worst one that is over the gate, else the worst */
    if (s->layout.groups > 1 && fails >= over->group &&
        (fails > over->group || !(nmse <= s->v->worst_group_nmse))) {
        s->v->worst_group_nmse = nmse;
        s->v->worst_group = moe_int_layout_group(&s->layout, g);
    }
    over->group |= fails;
    if (!s->c->variance || group->n == 0 || s->layout.by == MOE_INT_BY_EXPERT)
        return;
    double rms = sqrt(group->z2 / (double)group->n);
    if (!(rms <= s->v->row_rms_z))
        s->v->row_rms_z = rms;
    over->rms |= s->gate.row_rms_z > 0 && !rms_passes(group, s->gate.row_rms_z);
}

/* First group after the tile that starts at g: 128 rows, not across an expert's boundary. */
static int64_t tile_end(const scan *s, int64_t g) {
    int64_t end = g + TILE;
    if (s->layout.by == MOE_INT_BY_PAIR && s->c->plan) {
        int64_t e = moe_int_plan_expert_of(s->c->plan, g);
        if (s->c->plan->offsets[e + 1] < end)
            end = s->c->plan->offsets[e + 1];
    }
    return end < s->layout.groups ? end : s->layout.groups;
}

static void judge_tiles(scan *s, over_gate *over) {
    for (int64_t g = 0; g < s->layout.groups;) {
        moe_int_group tile = {0};
        int64_t first = g, end = tile_end(s, g);
        for (; g < end; g++)
            moe_int_group_add(&tile, &s->groups[g]);
        double nmse = ratio(tile.d2, tile.r2);
        bool fails = s->gate.tile_nmse > 0 && !moe_int_group_passes(&tile, s->gate.tile_nmse);
        if (fails >= over->tile && (fails > over->tile || !(nmse <= s->v->worst_tile_nmse))) {
            s->v->worst_tile_nmse = nmse;
            s->v->worst_tile = first;
        }
        over->tile |= fails;
    }
}

static const char *group_word(moe_int_grouping by) {
    return by == MOE_INT_BY_EXPERT ? "expert" : by == MOE_INT_BY_PAIR ? "pair row" : "token";
}

/* Where no correct kernel can err every bit counts. */
static void judge_exact(const scan *s) {
    moe_tensor_verdict *v = s->v;
    char at[64] = "";
    int used = 0;
    if (!s->c->exact || s->total.off == 0)
        return;
    for (int i = 0; i < v->worst_ndim && used < (int)sizeof at; i++)
        used += snprintf(at + used, sizeof at - (size_t)used, "%s%lld", i ? "," : "",
                         (long long)v->worst_index[i]);
    moe_int_entry_fail(
        v, "exact case: %s[%s] = %.9g, should be %.9g (%lld of %lld elements differ)", v->name, at,
        v->got, v->want, (long long)s->total.off, (long long)s->total.n);
}

/* The first gate that fails, most telling first. */
static void judge_gates(scan *s, const over_gate *over) {
    moe_tensor_verdict *v = s->v;
    const char *dtype = moe_dtype_name(s->c->in_fp32 ? MOE_F32 : s->c->arithmetic);
    const char *word = group_word(s->layout.by);
    if (s->unwritten > 0)
        moe_int_entry_fail(v, "%lld of %lld elements were not written", (long long)s->unwritten,
                           (long long)moe_tensor_count(s->c->got));
    int64_t lost = v->bad_elements - s->unwritten - s->swallowed;
    if (lost > 0)
        moe_int_entry_fail(v, "%lld elements are not finite where the %s is", (long long)lost,
                           s->c->truth);
    if (s->swallowed > 0)
        moe_int_entry_fail(v, "%lld elements are finite where the %s is NaN or infinite",
                           (long long)s->swallowed, s->c->truth);
    judge_exact(s);
    if (!(s->gate.nmse > 0))
        moe_int_entry_fail(v, "there is no gate for results in %s", dtype);
    if (over->group && isinf(v->worst_group_nmse))
        moe_int_entry_fail(v, "%s %lld must be exactly 0", word, (long long)v->worst_group);
    if (!moe_int_group_passes(&s->total, s->gate.nmse))
        moe_int_entry_fail(v, "NMSE %.2e > %.1e (%s gate)", v->nmse, s->gate.nmse, dtype);
    if (over->group)
        moe_int_entry_fail(v, "%s %lld: NMSE %.2e > %.1e (%s gate)", word,
                           (long long)v->worst_group, v->worst_group_nmse, s->gate.group_nmse,
                           dtype);
    if (over->tile)
        moe_int_entry_fail(v, "128 rows from %lld: NMSE %.2e > %.1e (%s gate)",
                           (long long)v->worst_tile, v->worst_tile_nmse, s->gate.tile_nmse, dtype);
    if (s->gate.max_z > 0 && !(v->max_z <= s->gate.max_z))
        moe_int_entry_fail(v, "max z %.3g > %g (%s gate)", v->max_z, s->gate.max_z, dtype);
    if (over->rms)
        moe_int_entry_fail(v, "row rms z %.3g > %g (%s gate)", v->row_rms_z, s->gate.row_rms_z,
                           dtype);
}

static void judge(scan *s) {
    moe_tensor_verdict *v = s->v;
    over_gate over = {0};
    for (int64_t g = 0; g < s->layout.groups; g++) {
        moe_int_group_add(&s->total, &s->groups[g]);
        judge_group(s, g, &over);
    }
    if (s->layout.tiled)
        judge_tiles(s, &over);
    v->bad_elements = s->total.bad;
    v->nonzero = s->total.nonzero;
    v->nmse = ratio(s->total.d2, s->total.r2);
    judge_gates(s, &over);
    v->gate = s->gate;
    v->floor_nmse = ratio(s->total.e2, s->total.r2);
    if (v->verdict == MOE_VERDICT_FAIL) {
        moe_int_scene scene = {s->c, &s->layout, &s->rounding, s->groups, s->gate};
        moe_int_locate(&scene, v->where, sizeof v->where);
    } else if (s->total.n == 0 && v->not_compared > 0) {
        v->verdict = MOE_VERDICT_SKIP;
        snprintf(v->why, sizeof v->why, "the %s is not finite anywhere", s->c->truth);
    }
}

static moe_int_rounding rounding_of(const moe_int_comparison *c) {
    moe_int_rounding r = moe_int_rounding_of(c->arithmetic);
    if (c->in_fp32) {
        const moe_int_rounding fp32 = moe_int_rounding_of(MOE_F32);
        r.result_u2 = fp32.u2;
        r.result_least2 = fp32.least2;
    }
    return r;
}

void moe_int_compare(const moe_int_comparison *c, moe_tensor_verdict *ret) {
    memset(ret, 0, sizeof *ret);
    snprintf(ret->name, sizeof ret->name, "%s", moe_tensor_name(c->id));
    ret->truth = c->truth;
    ret->worst_expert = -1;
    if (!moe_tensor_same_shape(c->got, c->want)) {
        char got[64], want[64];
        moe_int_entry_fail(ret, "shape %s instead of %s",
                           moe_tensor_shape_str(c->got, got, sizeof got),
                           moe_tensor_shape_str(c->want, want, sizeof want));
        return;
    }
    scan s = {.c = c, .v = ret, .worst_size = -1};
    s.rounding = rounding_of(c);
    s.layout = c->layout ? *c->layout : moe_int_layout_of(c->id, c->got);
    s.gate = c->in_fp32 ? moe_int_gate_in_fp32() : moe_gate_for(c->id, c->arithmetic);
    s.groups = calloc((size_t)s.layout.groups + 1, sizeof *s.groups);
    moe_int_comparison settled = *c;
    moe_tensor want = {0};
    bool complete = s.groups != NULL;
    if (c->rows && moe_int_rows_have_kinks(c->rows, c->id)) {
        complete = complete && moe_int_rows_settle(c->rows, c->id, c->got, c->want, c->variance,
                                                   &want) == MOE_OK;
        settled.want = &want;
        s.c = &settled;
    }
    if (!complete) {
        ret->verdict = MOE_VERDICT_ERROR;
        snprintf(ret->why, sizeof ret->why, "no memory to compare %lld groups",
                 (long long)s.layout.groups);
        free(s.groups);
        return;
    }
    for (int64_t g = 0; g < s.layout.groups; g++)
        scan_group(&s, g);
    judge(&s);
    moe_int_judge_type(&settled, ret);
    free(s.groups);
    moe_tensor_destroy(&want);
}

void moe_compare(moe_tensor_id id, moe_dtype arithmetic, const moe_layer_desc *desc,
                 const moe_tensor *got, const moe_tensor *want, const moe_tensor *variance,
                 const moe_plan *plan, moe_tensor_verdict *ret) {
    moe_int_comparison c = {.id = id,
                            .arithmetic = arithmetic,
                            .desc = desc,
                            .got = got,
                            .want = want,
                            .variance = variance,
                            .plan = plan,
                            .truth = "oracle"};
    moe_int_compare(&c, ret);
}
