/* Values that are right and stand elsewhere, and values that are cut off at a limit. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_WIDTH = 2048, SEEN_ROWS = 48 };

/* Some wrong rows' columns, one after another: column c's values lie together. */
typedef struct columns {
    int64_t rows, width;
    double *got, *want; /* [width][rows] */
} columns;

static bool columns_make(const moe_int_sight *p, columns *k) {
    int64_t row[SEEN_ROWS];
    *k = (columns){.width = p->width};
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
            k->want[c * k->rows + i] = moe_int_sight_want(p, row[i], c);
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

/* The right column that column c is, -1. */
static int64_t column_is(const moe_int_sight *p, const columns *k, int64_t c, double *left) {
    const double d2 = apart(k, c, c, INFINITY), limit = moe_int_local_limit(p->e, p->id, d2);
    for (int64_t from = 0; from < k->width; from++) {
        *left = apart(k, c, from, limit);
        if (from != c && *left <= limit)
            return from;
    }
    return -1;
}

bool moe_int_local_columns_of_others(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    columns k;
    double left = 0, d2 = 0;
    int64_t wrong = 0, known = 0, first = -1, has = -1, last = -1, shift = 0;
    bool found = columns_make(p, &k), same = true;
    for (int64_t c = 0; found && c < k.width; c++) {
        double rest;
        if (!moe_int_sight_wrong_column(p, c))
            continue;
        const int64_t from = column_is(p, &k, c, &rest);
        wrong++;
        if (from < 0)
            continue;
        same &= known == 0 || from - c == shift;
        shift = from - c;
        first = known++ == 0 ? c : first;
        has = first == c ? from : has;
        last = c;
        left += rest;
        d2 += apart(&k, c, c, INFINITY);
    }
    found = found && known > 0 && 8 * known >= 7 * wrong;
    if (found) {
        moe_int_local_residuals(p, left, d2, f);
        moe_int_finding_say(f, ": %lld of them, from %lld to %lld of %lld", (long long)known,
                            (long long)first, (long long)last, (long long)k.width);
        if (same && known > 1)
            moe_int_finding_say(f, ", %+lld columns on", (long long)shift);
        moe_int_finding_say(f, "; column %lld is column %lld", (long long)first, (long long)has);
        moe_int_finding_param(f, "column", (double)first);
        moe_int_finding_param(f, "is", (double)has);
    }
    free(k.got);
    return found;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Single values (dS, S): are they the right ones in another order? */
static bool same_values(const moe_int_sight *p, double *room) {
    int64_t unlike = 0;
    double *want = room + p->rows;
    for (int64_t r = 0; r < p->rows; r++) {
        room[r] = moe_int_sight_got(p, r, 0);
        want[r] = moe_int_sight_want(p, r, 0);
    }
    qsort(room, (size_t)p->rows, sizeof *room, ascending);
    qsort(want, (size_t)p->rows, sizeof *want, ascending);
    const double unit = sqrt(p->r2 / (double)p->rows);
    for (int64_t r = 0; r < p->rows; r++)
        unlike += fabs(room[r] - want[r]) > 0.02 * (fabs(want[r]) + 0.05 * unit);
    return 20 * unlike <= p->wrong_rows;
}

bool moe_int_local_reordered(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    if (p->width != 1 || !moe_int_sight_is_whole(p) || p->odd > 0 || p->wrong_rows < 8)
        return false;
    double *room = malloc(2 * (size_t)p->rows * sizeof *room);
    const bool found = room && same_values(p, room);
    free(room);
    if (!found)
        return false;
    double least = INFINITY;
    int64_t is = -1, row = 0;
    while (!p->row[row].wrong)
        row++;
    for (int64_t r = 0; r < p->rows; r++) {
        const double d = fabs(moe_int_sight_got(p, row, 0) - moe_int_sight_want(p, r, 0));
        is = d < least ? r : is;
        least = fmin(least, d);
    }
    moe_int_sight_residuals(p, 0, f);
    moe_int_finding_say(f, ": the values of %lld rows are all there; row %lld has row %lld's",
                        (long long)p->wrong_rows, (long long)row, (long long)is);
    moe_int_finding_param(f, "row", (double)row);
    moe_int_finding_param(f, "has", (double)is);
    return true;
}

/* The pair whose value pair p has: of its token's slots, or of rows beside it. */
static int64_t related(const moe_plan *plan, int64_t p, int how) {
    const int64_t t = plan->token[p], from = plan->token_offsets[t];
    const int64_t n = plan->token_offsets[t + 1] - from;
    int64_t at = 0;
    while (plan->pair_of_token[from + at] != p)
        at++;
    switch (how) {
    case 0:
        return plan->pair_of_token[from];
    case 1:
        return plan->pair_of_token[from + n - 1];
    case 2:
        return plan->pair_of_token[from + (at + 1) % n];
    case 3:
        return plan->pair_of_token[from + (at + n - 1) % n];
    default:
        return (p + (how % 2 ? 1 : -1) * (int64_t)(how / 2 - 1) + plan->n_pairs) % plan->n_pairs;
    }
}

/* The value of the same place, by weight, of the token `by` on; NaN: it has none. */
static double value_of_token(const moe_int_sight *p, int64_t r, int64_t by) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t t = plan->token[r], o = (t + by + plan->n_tokens) % plan->n_tokens;
    int64_t rank = 0;
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
        rank += plan->weight[plan->pair_of_token[j]] > plan->weight[r];
    for (int64_t i = plan->token_offsets[o]; i < plan->token_offsets[o + 1]; i++) {
        const int64_t q = plan->pair_of_token[i];
        int64_t at = 0;
        for (int64_t j = plan->token_offsets[o]; j < plan->token_offsets[o + 1]; j++)
            at += plan->weight[plan->pair_of_token[j]] > plan->weight[q];
        if (at == rank)
            return moe_int_sight_want(p, q, 0);
    }
    return NAN;
}

/* The wrong values are those of a token so far on. */
static bool of_another_token(const moe_int_sight *p, moe_int_finding *f) {
    enum { FAR = 64 };
    for (int64_t step = 2; step < (int64_t)2 * FAR + 2; step++) {
        const int64_t by = step % 2 ? -(step / 2) : step / 2;
        const double limit = moe_int_local_limit(p->e, p->id, p->d2);
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= limit; r++)
            if (p->row[r].wrong)
                left += pow(moe_int_sight_got(p, r, 0) - value_of_token(p, r, by), 2);
        if (!(left <= limit))
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": of the same slot, by weight, of the token %lld %s; %lld of %lld",
                            llabs(by), by > 0 ? "after" : "before", (long long)p->wrong_rows,
                            (long long)p->rows);
        moe_int_finding_param(f, "by", (double)by);
        return true;
    }
    return false;
}

bool moe_int_local_values_of_others(const moe_int_local *l, moe_int_finding *f) {
    enum { SLOTS = 4, FAR = 128, WAYS = SLOTS + 2 * FAR };
    static const char *const slots[SLOTS] = {"first", "last", "next", "previous"};
    const moe_int_sight *p = l->p;
    const moe_plan *plan = p->e->routing->plan;
    if (p->width != 1 || p->layout.by != MOE_INT_BY_PAIR || !moe_int_sight_is_whole(p) ||
        p->odd > 0 || p->rows != plan->n_pairs || p->wrong_rows < 4)
        return false;
    for (int how = 0; how < WAYS; how++) {
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= moe_int_local_limit(p->e, p->id, p->d2); r++)
            if (p->row[r].wrong)
                left += pow(moe_int_sight_got(p, r, 0) -
                                moe_int_sight_want(p, related(plan, r, how), 0),
                            2);
        if (left > moe_int_local_limit(p->e, p->id, p->d2))
            continue;
        moe_int_sight_residuals(p, left, f);
        if (how < SLOTS)
            moe_int_finding_say(f, ": of the token's %s slot", slots[how]);
        else
            moe_int_finding_say(f, ": of the row %d %s it", how / 2 - 1,
                                how % 2 ? "after" : "before");
        moe_int_finding_say(f, "; %lld of %lld are wrong", (long long)p->wrong_rows,
                            (long long)p->rows);
        return true;
    }
    return of_another_token(p, f);
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
