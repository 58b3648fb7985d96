/* Single values (S, dS) that are right and another pair's: in another order, of another slot of
 * their token, of a row or a token beside. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "check/explain/pair_rules.h"
#include "core/samples.h"

#include <math.h>
#include <stdlib.h>

/* How near a value must be to one of another row to be taken for it. */
static double near(double want, double unit) {
    return 0.02 * (fabs(want) + 0.05 * unit);
}

/* Single values (dS, S): are they the right ones in another order? Those that are a little off
 * where they stand are in none. */
static bool same_values(const moe_int_sight *p, double *room) {
    int64_t unlike = 0, moved = 0;
    double *want = room + p->rows;
    const double unit = sqrt(p->r2 / (double)p->rows);
    for (int64_t r = 0; r < p->rows; r++) {
        room[r] = moe_int_sight_got(p, r, 0);
        want[r] = moe_int_sight_want(p, r, 0);
        moved += fabs(room[r] - want[r]) > near(want[r], unit);
    }
    moe_int_sort(room, (size_t)p->rows);
    moe_int_sort(want, (size_t)p->rows);
    for (int64_t r = 0; r < p->rows; r++)
        unlike += fabs(room[r] - want[r]) > near(want[r], unit);
    return 20 * unlike <= p->wrong_rows && 2 * moved > p->wrong_rows;
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
        return moe_int_around(p + (how % 2 ? 1 : -1) * (int64_t)(how / 2 - 1), plan->n_pairs);
    }
}

/* The value of the same place, by weight, of the token `by` on; NaN: it has none. */
static double value_of_token(const moe_int_sight *p, int64_t r, int64_t by) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t t = plan->token[r], o = moe_int_around(t + by, plan->n_tokens);
    const int64_t rank = moe_int_rank_of(plan, r);
    for (int64_t i = plan->token_offsets[o]; i < plan->token_offsets[o + 1]; i++)
        if (moe_int_rank_of(plan, plan->pair_of_token[i]) == rank)
            return moe_int_sight_want(p, plan->pair_of_token[i], 0);
    return NAN;
}

/* The wrong values are those that one slot of the token has, in order of weights. */
static bool of_a_rank(const moe_int_sight *p, moe_int_finding *f) {
    enum { MOST = 32 };
    const moe_plan *plan = p->e->routing->plan;
    for (int64_t rank = 0; rank < p->e->problem->layer.K && rank < MOST; rank++) {
        const double limit = moe_int_local_limit(p->e, p->id, p->d2);
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= limit; r++) {
            const int64_t t = plan->token[r];
            for (int64_t j = plan->token_offsets[t]; p->row[r].wrong; j++) {
                if (j == plan->token_offsets[t + 1]) {
                    left = INFINITY; /* the token has fewer */
                    break;
                }
                if (moe_int_rank_of(plan, plan->pair_of_token[j]) == rank) {
                    const double is = moe_int_sight_want(p, plan->pair_of_token[j], 0);
                    left += pow(moe_int_sight_got(p, r, 0) - is, 2);
                    break;
                }
            }
        }
        if (!(left <= limit))
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": of slot %lld of their token, by weight; %lld of %lld",
                            (long long)rank, (long long)p->wrong_rows, (long long)p->rows);
        moe_int_finding_param(f, "slot", (double)rank);
        return true;
    }
    return false;
}

/* The wrong values are those of a token so far on. */
static bool of_another_token(const moe_int_sight *p, moe_int_finding *f) {
    enum { FAR = 64 };
    for (int64_t step = 1; step <= (int64_t)2 * FAR; step++) {
        const int64_t by = moe_int_nearest(step);
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

/* The wrong values are those of the pairs that an index of another order leads to. */
static bool of_a_rule(const moe_int_sight *p, moe_int_finding *f) {
    const double limit = moe_int_local_limit(p->e, p->id, p->d2);
    for (int n = 0; n < MOE_INT_PAIR_RULES; n++) {
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= limit; r++) {
            const int64_t q = moe_int_pair_rules[n].of(p->e->routing->plan, r);
            if (p->row[r].wrong)
                left += q < 0 || q == r
                            ? INFINITY
                            : pow(moe_int_sight_got(p, r, 0) - moe_int_sight_want(p, q, 0), 2);
        }
        if (!(left <= limit))
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": a pair's is that of %s; %lld of %lld",
                            moe_int_pair_rules[n].words, (long long)p->wrong_rows,
                            (long long)p->rows);
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
    return of_a_rank(p, f) || of_another_token(p, f) || of_a_rule(p, f);
}
