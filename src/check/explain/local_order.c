/* Values that are right and stand elsewhere, and values that are cut off at a limit. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_WIDTH = 2048, SEEN_ROWS = 48 };

/* Some wrong rows' columns, one after another: column c's values lie together. */
typedef struct columns {
    int64_t rows, width;
    int64_t by;         /* `want` is that of the row so many on */
    double *got, *want; /* [width][rows] */
} columns;

static bool columns_make(const moe_int_sight *p, int64_t by, columns *k) {
    int64_t row[SEEN_ROWS];
    *k = (columns){.width = p->width, .by = by};
    if (p->odd > 0 || p->width < 4 || p->width > MOST_WIDTH)
        return false;
    k->rows = moe_int_local_rows(p, SEEN_ROWS, row);
    k->got = malloc((size_t)(2 * k->rows * k->width + 1) * sizeof *k->got);
    if (!k->got || k->rows < 8)
        return false;
    k->want = k->got + k->rows * k->width;
    for (int64_t i = 0; i < k->rows; i++)
        for (int64_t c = 0; c < k->width; c++) {
            k->got[c * k->rows + i] = moe_int_sight_got(p, row[i], c);
            const int64_t on = row[i] + by;
            k->want[c * k->rows + i] =
                moe_int_sight_want(p, on >= 0 && on < p->rows ? on : row[i], c);
        }
    return true;
}

static double apart(const columns *k, int64_t c, int64_t from, double limit) {
    const double *a = k->got + c * k->rows, *b = k->want + from * k->rows;
    double sum = 0;
    for (int64_t i = 0; i < k->rows && sum <= limit; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* The right column that column c is, -1; d2: its error. */
static int64_t column_is(const moe_int_sight *p, const columns *k, int64_t c, double d2,
                         double *left) {
    const double limit = moe_int_local_limit(p->e, p->id, d2);
    for (int64_t from = 0; from < k->width; from++) {
        *left = apart(k, c, from, limit);
        if ((from != c || k->by) && *left <= limit)
            return from;
    }
    return -1;
}

static bool columns_of(const moe_int_local *l, int64_t by, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    columns k;
    double left = 0, d2 = 0;
    int64_t wrong = 0, known = 0, first = -1, has = -1, last = -1, shift = 0;
    bool found = columns_make(p, by, &k), same = true;
    for (int64_t c = 0; found && c < k.width; c++) {
        double rest;
        if (!moe_int_sight_wrong_column(p, c))
            continue;
        const double error = p->column_d2[c] * (double)k.rows / (double)p->wrong_rows;
        const int64_t from = column_is(p, &k, c, error, &rest);
        wrong++;
        if (from < 0)
            continue;
        same &= known == 0 || from - c == shift;
        shift = from - c;
        first = known++ == 0 ? c : first;
        has = first == c ? from : has;
        last = c;
        left += rest;
        d2 += error;
    }
    found = found && known > 0 && 8 * known >= 7 * wrong;
    if (found) {
        moe_int_local_residuals(p, left, d2, f);
        moe_int_finding_say(f, ": %lld of them, from %lld to %lld of %lld", (long long)known,
                            (long long)first, (long long)last, (long long)k.width);
        if (same && known > 1)
            moe_int_finding_say(f, ", %+lld columns on", (long long)shift);
        if (by)
            moe_int_finding_say(f, ", of the row %s", by > 0 ? "after" : "before");
        moe_int_finding_say(f, "; column %lld is column %lld", (long long)first, (long long)has);
        moe_int_finding_param(f, "column", (double)first);
        moe_int_finding_param(f, "is", (double)has);
    }
    free(k.got);
    return found;
}

bool moe_int_local_columns_of_others(const moe_int_local *l, moe_int_finding *f) {
    return columns_of(l, 0, f) || columns_of(l, -1, f) || columns_of(l, 1, f);
}

/* Rows of any other number, each a right row. */
static int64_t row_is(const moe_int_sight *p, int64_t r, double *left) {
    const double limit = moe_int_local_limit(p->e, p->id, p->row[r].d2);
    for (int64_t q = 0; q < p->rows; q++) {
        *left = 0;
        for (int64_t c = 0; c < p->width && *left <= limit; c++)
            *left += pow(moe_int_sight_got(p, r, c) - moe_int_sight_want(p, q, c), 2);
        if (q != r && *left <= limit && p->row[q].r2 > 0)
            return q;
    }
    return -1;
}

bool moe_int_local_rows_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    int64_t row[SEEN_ROWS], has[SEEN_ROWS], known = 0;
    double left = 0, d2 = 0;
    if (p->width < 8 || p->odd > 0 || p->rows < 2)
        return false;
    const int64_t count = moe_int_local_rows(p, SEEN_ROWS, row);
    for (int64_t i = 0; i < count; i++) {
        double rest;
        has[known] = row_is(p, row[i], &rest);
        if (has[known] < 0)
            continue;
        left += rest;
        d2 += p->row[row[i]].d2;
        row[known++] = row[i];
    }
    if (known == 0 || 8 * known < 7 * count)
        return false;
    moe_int_local_residuals(p, left, d2, f);
    moe_int_finding_say(f, ": row %lld is row %lld's", (long long)row[0], (long long)has[0]);
    if (known > 1)
        moe_int_finding_say(f, ", row %lld row %lld's", (long long)row[known - 1],
                            (long long)has[known - 1]);
    moe_int_finding_say(f, "; %lld of %lld rows are wrong", (long long)p->wrong_rows,
                        (long long)p->rows);
    moe_int_finding_param(f, "row", (double)row[0]);
    moe_int_finding_param(f, "has", (double)has[0]);
    return true;
}

bool moe_int_local_limited(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    double low = INFINITY, high = -INFINITY, left = 0;
    int64_t at_high = 0, at_low = 0;
    for (int64_t r = 0; p->odd == 0 && r < p->rows; r++)
        for (int64_t c = 0; p->row[r].g2 > 0 && c < p->width; c++) {
            const double got = moe_int_sight_got(p, r, c);
            at_high = got > high ? 1 : at_high + (got == high);
            at_low = got < low ? 1 : at_low + (got == low);
            high = fmax(high, got);
            low = fmin(low, got);
        }
    const bool above = at_high > 2, below = at_low > 2;
    if (!above && !below)
        return false;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; p->row[r].wrong && c < p->width; c++) {
            double want = moe_int_sight_want(p, r, c);
            want = above ? fmin(want, high) : want;
            want = below ? fmax(want, low) : want;
            left += pow(moe_int_sight_got(p, r, c) - want, 2);
        }
    moe_int_sight_residuals(p, left, f);
    if (above && below)
        moe_int_finding_say(f, ": to %.4g and %.4g", low, high);
    else
        moe_int_finding_say(f, above ? ": to at most %.4g" : ": to at least %.4g",
                            above ? high : low);
    moe_int_finding_param(f, "limit", above ? high : low);
    return true;
}
