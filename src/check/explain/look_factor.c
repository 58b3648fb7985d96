/* Looks for factors: the whole tensor, experts, tokens, combine weights; and values that are zero,
 * no numbers, or of another type. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool moe_int_look_all_zero(const moe_int_sight *p, moe_int_finding *f) {
    moe_int_sight_residuals(p, 0, f);
    return p->g2 == 0 && p->odd == 0 && p->r2 > 0;
}

/* The elements that are no numbers and should be: how many, and how many as the buffer came. */
static int64_t count_odd(const moe_int_sight *p, int64_t *unwritten, int64_t *row,
                         int64_t *column) {
    int64_t count = 0;
    *unwritten = 0;
    for (int64_t r = 0; p->odd > 0 && r < p->rows; r++)
        for (int64_t c = 0; p->row[r].odd > 0 && c < p->width; c++) {
            if (isfinite(moe_int_sight_got(p, r, c)) || !isfinite(moe_int_sight_want(p, r, c)))
                continue;
            if (count++ == 0) {
                *row = r;
                *column = c;
            }
            *unwritten += moe_int_is_poison(p->got, moe_int_sight_flat(p, r, c));
        }
    return count;
}

static bool say_odd(const moe_int_sight *p, bool poison, moe_int_finding *f) {
    int64_t unwritten, row = 0, column = 0, count = count_odd(p, &unwritten, &row, &column);
    if (count == 0 || count != p->odd || poison != (unwritten == count))
        return false;
    moe_int_sight_residuals(p, p->d2, f);
    moe_int_finding_say(f, ": %lld, from row %lld, column %lld on", (long long)count,
                        (long long)row, (long long)column);
    moe_int_finding_param(f, "row", (double)row);
    moe_int_finding_param(f, "column", (double)column);
    return true;
}

bool moe_int_look_not_written(const moe_int_sight *p, moe_int_finding *f) {
    return say_odd(p, true, f);
}

bool moe_int_look_not_finite(const moe_int_sight *p, moe_int_finding *f) {
    return say_odd(p, false, f);
}

/* Where the truth is NaN or infinite, got is a number, and nothing else is wrong. */
bool moe_int_look_nan_swallowed(const moe_int_sight *p, moe_int_finding *f) {
    int64_t swallowed = 0, zeros = 0;
    for (int64_t r = 0; p->odd > 0 && r < p->rows; r++)
        for (int64_t c = 0; p->row[r].odd > 0 && c < p->width; c++) {
            double got = moe_int_sight_got(p, r, c);
            if (isfinite(moe_int_sight_want(p, r, c)) || !isfinite(got))
                continue;
            swallowed++;
            zeros += got == 0;
        }
    if (swallowed == 0 || swallowed != p->odd)
        return false;
    moe_int_sight_residuals(p, p->d2, f);
    moe_int_finding_say(f, ": %lld of them%s", (long long)swallowed,
                        zeros == swallowed ? ", all 0" : "");
    moe_int_finding_param(f, "elements", (double)swallowed);
    return true;
}

/* Known factors with their names. */
typedef struct known {
    char name[40];
    double value;
} known;

static const char *name_of(const moe_int_sight *p, double factor, double *exact) {
    static _Thread_local char name[40];
    const moe_layer_desc *desc = &p->e->problem->layer;
    double scale = desc->router.scale, K = (double)desc->K;
    const known list[] = {{"-1", -1},
                          {"2", 2},
                          {"1/2", 0.5},
                          {"-2", -2},
                          {"3", 3},
                          {"the routed scale", scale},
                          {"1 / the routed scale", 1 / scale},
                          {"the routed scale squared", scale * scale},
                          {"1 / the routed scale squared", 1 / (scale * scale)},
                          {"K", K},
                          {"1/K", 1 / K},
                          {"E/K", (double)desc->E / K},
                          {"1/T", 1 / (double)p->e->problem->T}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].value == 1 || fabs(factor / list[i].value - 1) > 0.003)
            continue;
        *exact = list[i].value;
        return strcpy(name, list[i].name);
    }
    *exact = factor;
    snprintf(name, sizeof name, "%.4g", factor);
    return name;
}

static double left_with(const moe_int_row *r, double factor) {
    return fmax(r->g2 - 2 * factor * r->gr + factor * factor * r->r2, 0);
}

bool moe_int_look_factor(const moe_int_sight *p, moe_int_finding *f) {
    moe_int_row all = {.g2 = p->g2, .gr = p->gr, .r2 = p->r2};
    double factor;
    if (p->r2 == 0 || p->gr == 0 || p->odd > 0 || p->rows * p->width < 8)
        return false;
    const char *name = name_of(p, p->gr / p->r2, &factor);
    moe_int_sight_residuals(p, left_with(&all, factor), f);
    moe_int_finding_say(f, ": it is %s times what it should be", name);
    moe_int_finding_param(f, "factor", factor);
    return true;
}

/* Sums over an expert's rows. */
static moe_int_row sum_expert(const moe_int_sight *p, int64_t e, int64_t *from) {
    moe_int_row sum = {0};
    for (; *from < p->rows && moe_int_sight_expert(p, *from) == e; ++*from) {
        const moe_int_row *r = &p->row[*from];
        sum.d2 += r->d2;
        sum.r2 += r->r2;
        sum.g2 += r->g2;
        sum.gr += r->gr;
        sum.wrong |= r->wrong;
    }
    return sum;
}

/* What an expert's factor is beside those that name_of knows. */
static const char *count_factor(const moe_int_sight *p, int64_t e, double factor) {
    const moe_plan *plan = p->e->routing->plan;
    double rows = (double)(plan->offsets[e + 1] - plan->offsets[e]);
    if (rows > 1 && fabs(factor * rows - 1) < 0.003)
        return "1 / its number of tokens";
    return rows > 1 && fabs(factor / rows - 1) < 0.003 ? "its number of tokens" : NULL;
}

bool moe_int_look_factor_by_expert(const moe_int_sight *p, moe_int_finding *f) {
    double left = 0, shown = 0;
    int64_t wrong = 0, first = -1;
    char name[48] = "";
    for (int64_t r = 0; r < p->rows;) {
        int64_t e = moe_int_sight_expert(p, r);
        if (e < 0)
            return false;
        moe_int_row sum = sum_expert(p, e, &r);
        double factor = 1;
        if (!sum.wrong || sum.r2 == 0) {
            left += sum.d2;
            continue;
        }
        const char *of = name_of(p, sum.gr / sum.r2, &factor);
        const char *by_count = count_factor(p, e, factor);
        if (wrong++ == 0) {
            first = e;
            shown = factor;
            snprintf(name, sizeof name, "%s", by_count ? by_count : of);
        }
        left += left_with(&sum, factor);
    }
    if (wrong == 0 || p->odd > 0)
        return false;
    moe_int_sight_residuals(p, left, f);
    if (fabs(shown) < 1e-3)
        moe_int_finding_say(f, ": expert %lld's is zero", (long long)first);
    else
        moe_int_finding_say(f, ": expert %lld's is %s times what it should be", (long long)first,
                            name);
    if (wrong > 1)
        moe_int_finding_say(f, "; %lld more have one", (long long)wrong - 1);
    moe_int_finding_param(f, "expert", (double)first);
    moe_int_finding_param(f, "factor", shown);
    return true;
}

/* Combine weight of row r's pair; NaN where it has none. */
static double weight_of(const moe_int_sight *p, int64_t r) {
    int64_t row = moe_int_layout_group(&p->layout, r);
    return p->layout.by == MOE_INT_BY_PAIR && p->id != MOE_T_S ? p->e->routing->plan->weight[row]
                                                               : NAN;
}

bool moe_int_look_factor_by_weight(const moe_int_sight *p, moe_int_finding *f) {
    double times = 0, over = 0, twice = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        double w = weight_of(p, r);
        if (isnan(w))
            return false;
        times += left_with(&p->row[r], w);
        twice += left_with(&p->row[r], w * w);
        over += w != 0 ? left_with(&p->row[r], 1 / w) : p->row[r].d2;
    }
    moe_int_sight_residuals(p, fmin(fmin(times, twice), over), f);
    moe_int_finding_say(f, twice < fmin(times, over) ? ", which multiplies them here twice more"
                           : times < over            ? ", which multiplies them here already"
                                                     : ", which they lack");
    return p->odd == 0;
}

/* The wrong rows' factors by a name that all of them have, where rows are pairs'. */
static void say_pair_factors(const moe_int_sight *p, moe_int_finding *f) {
    enum { SEEN = 64 };
    int64_t row[SEEN], pair[SEEN];
    double factor[SEEN];
    const int64_t count = moe_int_local_rows(p, SEEN, row);
    for (int64_t i = 0; i < count; i++) {
        pair[i] = moe_int_layout_group(&p->layout, row[i]);
        factor[i] = p->row[row[i]].gr / p->row[row[i]].r2;
    }
    if (p->layout.by == MOE_INT_BY_PAIR && count > 1)
        moe_int_say_factors(p->e, pair, factor, count, f);
}

bool moe_int_look_factor_by_token(const moe_int_sight *p, moe_int_finding *f) {
    double left = 0, low = INFINITY, high = -INFINITY;
    int64_t shown = -1;
    if (p->layout.by == MOE_INT_BY_EXPERT || p->layout.by == MOE_INT_WHOLE || p->width < 8 ||
        p->odd > 0)
        return false;
    for (int64_t r = 0; r < p->rows; r++) {
        const moe_int_row *row = &p->row[r];
        bool fitted = row->wrong && row->r2 > 0;
        double factor = fitted ? row->gr / row->r2 : 1;
        left += fitted ? left_with(row, factor) : row->d2;
        if (!fitted)
            continue;
        low = fmin(low, factor);
        high = fmax(high, factor);
        shown = shown < 0 ? r : shown;
    }
    bool one = p->wrong_rows == p->rows && high - low <= 1e-3 * fabs(high);
    if (shown < 0 || (one && p->rows > 1)) /* one for all: `factor` */
        return false;
    moe_int_sight_residuals(p, left, f);
    moe_int_finding_range(f, low, high);
    moe_int_finding_say(f, " (token %lld: %.4g)", (long long)moe_int_sight_token(p, shown),
                        p->row[shown].gr / p->row[shown].r2);
    say_pair_factors(p, f);
    f->fitted = p->layout.by == MOE_INT_BY_TOKEN && high - low > 1e-3 * fabs(high);
    moe_int_finding_param(f, "least", low);
    moe_int_finding_param(f, "largest", high);
    return true;
}

/* Does every one of some thousand values fit into `type`? */
static bool fits(const moe_int_sight *p, moe_dtype type) {
    int64_t step = p->rows / 64 + 1, seen = 0;
    for (int64_t r = 0; r < p->rows; r += step)
        for (int64_t c = 0; c < p->width && c < 64; c++) {
            double v = moe_int_sight_got(p, r, c);
            if (v != moe_round_to(v, type))
                return false;
            seen += v != 0;
        }
    return seen >= 16;
}

/* The residual is that of the truth rounded likewise: what is left of it is u^2/3 and more, so the
 * evidence is in the bits. After: as if the rounding were taken away. */
bool moe_int_look_stored_narrow(const moe_int_sight *p, moe_int_finding *f) {
    moe_dtype own = p->e->arithmetic;
    if ((own != MOE_F32 && own != MOE_F64) || p->e->problem->dtype != MOE_F32 || p->r2 == 0 ||
        p->odd > 0 || p->d2 / p->r2 > 1e-3)
        return false;
    moe_dtype type = fits(p, MOE_BF16) ? MOE_BF16 : fits(p, MOE_F16) ? MOE_F16 : MOE_F64;
    if (type == MOE_F64)
        return false;
    moe_int_sight_residuals(p, 0, f);
    moe_int_finding_say(f, ": %s", moe_dtype_name(type));
    return true;
}

/* Nearly no element of H is larger than it should be; of rounded ones half are. */
bool moe_int_look_cut_off(const moe_int_sight *p, moe_int_finding *f) {
    const moe_int_evidence *e = p->e;
    const moe_tensor *got = &e->got.t[MOE_T_H], *want = &e->truth->oracle->out.t[MOE_T_H];
    int64_t seen = 0, larger = 0;
    if ((e->arithmetic != MOE_BF16 && e->arithmetic != MOE_F16) || e->wrong[MOE_T_H] ||
        e->truth->sampled || !got->data || !want->data)
        return false;
    const int64_t count = moe_tensor_count(got), step = count / 4096 + 1;
    for (int64_t i = 0; i < count; i += step) {
        const double v = fabs(moe_load(got->data, got->dtype, (size_t)i));
        const double w = fabs(moe_load(want->data, want->dtype, (size_t)i));
        seen += v != w;
        larger += v > w * (1 + 1e-5);
    }
    if (seen < 64 || 20 * larger > seen)
        return false;
    moe_int_sight_residuals(p, 0, f);
    moe_int_finding_say(f, ": of %lld elements of H %lld are larger than they should be",
                        (long long)seen, (long long)larger);
    return true;
}
