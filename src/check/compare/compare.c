/* Two tensors against each other under a gate, group by group (token, pair row or expert), tile by
 * tile and as a whole; every comparison is written so that NaN fails it. */
#include "check/compare/compare.h"
#include "check/compare/scan.h"
#include "check/errors/errors.h"
#include "check/verdict/result.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 128 };

static double ratio(double error, double reference) {
    return error == 0 ? 0 : error / reference;
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

static double error_over(const moe_int_group *g, double nmse, const moe_gate *gate) {
    if (g->bad > 0 || (exactly_zero(g) && g->off > 0))
        return INFINITY;
    double few = moe_int_chi2_quantile(freedom(g));
    return ratio(g->d2, fmax(nmse * g->r2, moe_int_errors_allowed(gate) * few * g->e2));
}

/* NMSE under `nmse`; or, where the errors that a correct kernel makes here are above it (a result
 * that cancels, a handful of elements), under as much more of those as the gate of z allows, with
 * the scatter of so few: moe_int_errors_allowed. */
static bool group_passes(const moe_int_group *g, double nmse, const moe_gate *gate) {
    return error_over(g, nmse, gate) <= 1;
}

double moe_int_group_over(const moe_int_group *g, const moe_gate *gate) {
    double over = error_over(g, gate->group_nmse > 0 ? gate->group_nmse : gate->nmse, gate);
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

static void judge_group(moe_int_scan *s, int64_t g, over_gate *over) {
    const moe_int_group *group = &s->groups[g];
    double nmse = exactly_zero(group) && group->off ? INFINITY : ratio(group->d2, group->r2);
    bool fails = s->gate.group_nmse > 0 && !group_passes(group, s->gate.group_nmse, &s->gate);
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
static int64_t tile_end(const moe_int_scan *s, int64_t g) {
    int64_t end = g + TILE;
    if (s->layout.by == MOE_INT_BY_PAIR && s->c->plan) {
        int64_t e = moe_int_plan_expert_of(s->c->plan, g);
        if (s->c->plan->offsets[e + 1] < end)
            end = s->c->plan->offsets[e + 1];
    }
    return end < s->layout.groups ? end : s->layout.groups;
}

static void judge_tiles(moe_int_scan *s, over_gate *over) {
    for (int64_t g = 0; g < s->layout.groups;) {
        moe_int_group tile = {0};
        int64_t first = g, end = tile_end(s, g);
        for (; g < end; g++)
            moe_int_group_add(&tile, &s->groups[g]);
        double nmse = ratio(tile.d2, tile.r2);
        bool fails = s->gate.tile_nmse > 0 && !group_passes(&tile, s->gate.tile_nmse, &s->gate);
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
static void judge_exact(const moe_int_scan *s) {
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
static void judge_gates(moe_int_scan *s, const over_gate *over) {
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
    if (!group_passes(&s->total, s->gate.nmse, &s->gate))
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

static void judge(moe_int_scan *s) {
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
    if (v->verdict == MOE_VERDICT_FAIL && !s->c->verdict_only) {
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
    moe_int_scan s = {.c = c, .v = ret, .worst_size = -1};
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
        moe_int_scan_group(&s, g);
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
