/* Looks at columns, and at the order of elements: transposed, gate and up changed, repeated. */
#include "check/explain/bank.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_ELEMENTS = 1 << 22 }; /* looked at: some 10 ms */

/* Where row r, column c of the truth should have come from for got to be right. */
typedef struct source {
    int64_t r, c;
} source;
typedef source source_fn(const moe_int_sight *p, int64_t r, int64_t c, int64_t parameter);

/* What is left if got[r][c] is want[of(r, c)]; looks at some of the rows of a large tensor. */
static double left_with(const moe_int_sight *p, source_fn *of, int64_t parameter) {
    int64_t step = p->rows * p->width / MOST_ELEMENTS + 1;
    double left = 0, d2 = 0;
    for (int64_t r = 0; r < p->rows; r += step) {
        for (int64_t c = 0; c < p->width; c++) {
            source at = of(p, r, c, parameter);
            double d = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, at.r, at.c);
            left += isfinite(d) ? d * d : 0;
        }
        d2 += p->row[r].d2;
        if (left > d2 / 30 && d2 > 0.1 * p->d2 / (double)step)
            return p->d2;
    }
    return left * (double)step;
}

/* Row and column of a weight gradient's slice in the order of its transposed. */
static source transposed(const moe_int_sight *p, int64_t r, int64_t c, int64_t parameter) {
    (void)parameter;
    int64_t first = r - r % p->per_group, flat = r % p->per_group * p->width + c;
    return (source){first + flat % p->per_group, flat / p->per_group};
}

bool moe_int_look_transposed(const moe_int_sight *p, moe_int_finding *f) {
    if (!moe_int_sight_is_whole(p) || p->per_group < 2 || p->width < 2 || p->odd > 0)
        return false;
    moe_int_sight_residuals(p, left_with(p, transposed, 0), f);
    return true;
}

/* First row of r's expert, or slice. */
static int64_t base_of(const moe_int_sight *p, int64_t r) {
    const int64_t e = p->layout.by == MOE_INT_BY_PAIR ? moe_int_sight_expert(p, r) : -1;
    return e >= 0 ? p->e->routing->plan->offsets[e] : r - r % p->per_group;
}

/* Rows of the same expert, or slice. */
static int64_t rows_together(const moe_int_sight *p, int64_t r) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t e = p->layout.by == MOE_INT_BY_PAIR ? moe_int_sight_expert(p, r) : -1;
    return e >= 0                             ? plan->offsets[e + 1] - plan->offsets[e]
           : p->layout.by == MOE_INT_BY_TOKEN ? p->rows
                                              : p->per_group;
}

static source tile_turned(const moe_int_sight *p, int64_t r, int64_t c, int64_t size) {
    const int64_t base = p->layout.by == MOE_INT_BY_TOKEN ? 0 : base_of(p, r), at = r - base;
    const int64_t row = at / size * size, column = c / size * size;
    if (row + size > rows_together(p, r) || column + size > p->width)
        return (source){r, c};
    return (source){base + row + c - column, column + at - row};
}

bool moe_int_look_tiles_transposed(const moe_int_sight *p, moe_int_finding *f) {
    for (int64_t size = 4; size <= 64 && size <= p->width; size *= 2) {
        if (!moe_int_sight_is_whole(p) || p->odd > 0)
            return false;
        const double left = left_with(p, tile_turned, size);
        if (left >= p->d2 / 30)
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": each of %lld x %lld within itself", (long long)size,
                            (long long)size);
        moe_int_finding_param(f, "tile", (double)size);
        return true;
    }
    return false;
}

/* Is gate and up along the rows (dW1), the columns (H, dH, db1), or neither? */
typedef enum gated_along { ALONG_NEITHER, ALONG_ROWS, ALONG_COLUMNS } gated_along;

static gated_along gated_of(const moe_int_sight *p) {
    if (!moe_act_is_gated(p->e->problem->layer.act) || p->odd > 0)
        return ALONG_NEITHER;
    if (p->id == MOE_T_H || p->id == MOE_T_DH || p->id == MOE_T_DB1)
        return ALONG_COLUMNS;
    bool rows = (p->id == MOE_T_DW1 || p->id == MOE_T_DW1_SHARED) && moe_int_sight_is_whole(p);
    return rows ? ALONG_ROWS : ALONG_NEITHER;
}

/* Column i of H in the order `how`: 0 halves swapped, 1 interleaved, 2 taken apart. */
static int64_t reordered(const moe_int_sight *p, int64_t i, int64_t hw, int64_t how) {
    bool interleaved =
        p->id != MOE_T_DW1_SHARED && p->e->problem->layer.glu_layout == MOE_GLU_INTERLEAVED;
    if (how == 0)
        return interleaved ? i ^ 1 : (i + hw / 2) % hw;
    return how == 1 ? i % 2 * (hw / 2) + i / 2 : i % (hw / 2) * 2 + i / (hw / 2);
}

static source gate_order(const moe_int_sight *p, int64_t r, int64_t c, int64_t how) {
    if (gated_of(p) == ALONG_COLUMNS)
        return (source){r, reordered(p, c, p->width, how)};
    int64_t first = r - r % p->per_group;
    return (source){first + reordered(p, r % p->per_group, p->per_group, how), c};
}

bool moe_int_look_halves_swapped(const moe_int_sight *p, moe_int_finding *f) {
    if (gated_of(p) == ALONG_NEITHER)
        return false;
    moe_int_sight_residuals(p, left_with(p, gate_order, 0), f);
    return true;
}

bool moe_int_look_layout_mixed(const moe_int_sight *p, moe_int_finding *f) {
    if (gated_of(p) == ALONG_NEITHER)
        return false;
    double interleaved = left_with(p, gate_order, 1), apart = left_with(p, gate_order, 2);
    moe_int_sight_residuals(p, fmin(interleaved, apart), f);
    moe_int_finding_say(f, interleaved < apart ? ": interleaved" : ": taken apart");
    return true;
}

static void say_columns(const moe_int_sight *p, int64_t first, int64_t last, int64_t count,
                        moe_int_finding *f) {
    if (count == last - first + 1)
        moe_int_finding_say(f, ": %lld to %lld of %lld", (long long)first, (long long)last,
                            (long long)p->width);
    else
        moe_int_finding_say(f, ": %lld of them from %lld to %lld of %lld", (long long)count,
                            (long long)first, (long long)last, (long long)p->width);
    moe_int_finding_param(f, "first_column", (double)first);
    moe_int_finding_param(f, "last_column", (double)last);
}

bool moe_int_look_zero_columns(const moe_int_sight *p, moe_int_finding *f) {
    double left = 0;
    int64_t first = -1, last = -1, count = 0;
    for (int64_t c = 0; p->odd == 0 && c < p->width && p->rows > 1; c++) {
        bool zero = p->column_r2[c] > 0 && moe_int_sight_wrong_column(p, c);
        for (int64_t r = 0; zero && r < p->rows; r++)
            zero = moe_int_sight_got(p, r, c) == 0;
        left += zero ? 0 : p->column_d2[c];
        if (!zero)
            continue;
        first = first < 0 ? c : first;
        last = c;
        count++;
    }
    if (count == 0)
        return false;
    moe_int_sight_residuals(p, left, f);
    say_columns(p, first, last, count, f);
    return true;
}

/* parameter: the period; negative: odd tiles of it are the even ones before them. */
static source repeated(const moe_int_sight *p, int64_t r, int64_t c, int64_t parameter) {
    (void)p;
    int64_t period = llabs(parameter);
    if (parameter > 0)
        return (source){r, c % period};
    return (source){r, c / period % 2 ? c - period : c};
}

/* The column before, or after, by `parameter`. */
static source beside(const moe_int_sight *p, int64_t r, int64_t c, int64_t parameter) {
    int64_t from = c + parameter;
    return (source){r, from < 0 || from >= p->width ? c : from};
}

bool moe_int_look_shifted_columns(const moe_int_sight *p, moe_int_finding *f) {
    for (int64_t by = -1; by <= 1 && p->odd == 0 && p->width > 2; by += 2) {
        double left = left_with(p, beside, by);
        if (left >= p->d2 / 4) /* the column at the end may come from elsewhere */
            continue;
        moe_int_sight_residuals(p, left - p->column_d2[by < 0 ? 0 : p->width - 1], f);
        moe_int_finding_say(f, ": by %lld", (long long)by);
        moe_int_finding_param(f, "by", (double)by);
        return true;
    }
    return false;
}

/* One column has the values of another. */
static bool one_repeated(const moe_int_sight *p, moe_int_finding *f) {
    int64_t wrong = -1, count = 0;
    for (int64_t c = 0; c < p->width; c++)
        if (moe_int_sight_wrong_column(p, c)) {
            wrong = c;
            count++;
        }
    for (int64_t from = 0; count == 1 && p->rows >= 8 && from < p->width; from++) {
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= p->column_d2[wrong] / 30; r++) {
            double d = moe_int_sight_got(p, r, wrong) - moe_int_sight_want(p, r, from);
            left += d * d;
        }
        if (from == wrong || left > p->column_d2[wrong] / 30)
            continue;
        moe_int_sight_residuals(p, p->d2 - p->column_d2[wrong] + left, f);
        moe_int_finding_say(f, ": column %lld is column %lld", (long long)wrong, (long long)from);
        moe_int_finding_param(f, "column", (double)wrong);
        moe_int_finding_param(f, "is", (double)from);
        return true;
    }
    return false;
}

bool moe_int_look_repeated_columns(const moe_int_sight *p, moe_int_finding *f) {
    double least = p->d2;
    int64_t best = 0;
    if (p->odd > 0)
        return false;
    for (int64_t period = 1; period <= 256 && period < p->width; period *= 2)
        for (int64_t sign = -1; sign <= 1; sign += 2) {
            double left = left_with(p, repeated, sign * period);
            if (left >= least / 2)
                continue;
            least = left;
            best = sign * period;
        }
    if (best == 0)
        return one_repeated(p, f);
    moe_int_sight_residuals(p, least, f);
    moe_int_finding_say(
        f, best > 0 ? ", with period %lld" : ": odd tiles of %lld are the even ones", llabs(best));
    moe_int_finding_param(f, "period", (double)llabs(best));
    return true;
}
