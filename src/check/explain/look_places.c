/* Places: where the error is, when nothing says why. And naming rows. */
#include "check/explain/bank.h"

#include <math.h>
#include <stdlib.h>

enum { FEW = 16 };

bool moe_int_look_elements(const moe_int_sight *p, moe_int_finding *f) {
    double left = p->d2;
    int64_t count = 0, at_r = -1, at_c = -1;
    bool negated = true;
    moe_gate gate = moe_gate_for(p->id, p->e->arithmetic);
    double mean = p->r2 / (double)p->rows;
    for (int64_t r = 0; r < p->rows && count <= FEW; r++) {
        if (!p->row[r].wrong)
            continue;
        double floor = 100 * gate.nmse * fmax(p->row[r].r2, mean) / (double)p->width;
        double limit = fmax(p->row[r].d2 / 100, floor);
        for (int64_t c = 0; c < p->width && count <= FEW; c++) {
            double g = moe_int_sight_got(p, r, c), w = moe_int_sight_want(p, r, c);
            bool odd = isfinite(g) != isfinite(w);
            if (!odd && (g - w) * (g - w) <= limit)
                continue;
            left -= odd ? 0 : (g - w) * (g - w);
            negated &= fabs(g + w) <= 0.02 * fabs(w);
            at_r = r;
            at_c = c;
            count++;
        }
    }
    if (count == 0 || count > FEW || 4 * count > p->rows * p->width)
        return false;
    moe_int_sight_residuals(p, fmax(left, 0), f);
    moe_int_finding_say(f, ": %lld%s, such as row %lld, column %lld", (long long)count,
                        negated ? " with the opposite sign" : "", (long long)at_r, (long long)at_c);
    moe_int_finding_param(f, "row", (double)at_r);
    moe_int_finding_param(f, "column", (double)at_c);
    return true;
}

bool moe_int_look_wrong_experts(const moe_int_sight *p, moe_int_finding *f) {
    double left = 0;
    int64_t first = -1, last = -1, wrong = 0, experts = 0;
    for (int64_t r = 0; r < p->rows;) {
        int64_t e = moe_int_sight_expert(p, r);
        double d2 = 0;
        bool bad = false;
        if (e < 0)
            return false;
        for (; r < p->rows && moe_int_sight_expert(p, r) == e; r++) {
            d2 += p->row[r].d2;
            bad |= p->row[r].wrong;
        }
        experts++;
        wrong += bad;
        left += bad ? 0 : d2;
        first = bad && first < 0 ? e : first;
        last = bad ? e : last;
    }
    if (wrong == 0 || 2 * wrong > experts)
        return false;
    moe_int_sight_residuals(p, left, f);
    moe_int_finding_say(f, ": %lld of %lld, from %lld to %lld", (long long)wrong,
                        (long long)experts, (long long)first, (long long)last);
    moe_int_finding_param(f, "first_expert", (double)first);
    moe_int_finding_param(f, "last_expert", (double)last);
    return true;
}

/* Wrong columns of wrong rows; one of the two may be all. */
bool moe_int_look_wrong_block(const moe_int_sight *p, moe_int_finding *f) {
    bool *marked = calloc((size_t)p->rows, sizeof *marked);
    double left = 0, outside = 0;
    int64_t first = p->width, last = -1;
    for (int64_t c = 0; c < p->width; c++) {
        bool wrong = moe_int_sight_wrong_column(p, c);
        outside += wrong ? 0 : p->column_d2[c];
        first = wrong && c < first ? c : first;
        last = wrong ? c : last;
    }
    for (int64_t r = 0; marked && r < p->rows; r++) {
        marked[r] = p->row[r].wrong;
        left += marked[r] ? 0 : p->row[r].d2;
    }
    bool few_rows = 2 * p->wrong_rows <= p->rows,
         few = last >= first && 2 * (last - first + 1) <= p->width;
    bool done = marked && p->wrong_rows > 0 && (few_rows || few);
    if (done) {
        moe_int_sight_residuals(p, few_rows ? left : outside, f);
        moe_int_sight_say_rows(p, marked, f);
    }
    if (done && few && p->odd == 0) {
        moe_int_finding_say(f, "; columns %lld to %lld of %lld", (long long)first, (long long)last,
                            (long long)p->width);
        moe_int_finding_param(f, "first_column", (double)first);
        moe_int_finding_param(f, "last_column", (double)last);
    }
    free(marked);
    return done;
}

/* The marked rows' first, last and number. */
typedef struct span {
    int64_t first, last, count;
} span;

static span span_of(const moe_int_sight *p, const bool *marked) {
    span s = {-1, -1, 0};
    for (int64_t r = 0; r < p->rows; r++) {
        if (!marked[r])
            continue;
        s.first = s.first < 0 ? r : s.first;
        s.last = r;
        s.count++;
    }
    return s;
}

/* Pair rows of one expert: which of its rows. */
static void say_pair_rows(const moe_int_sight *p, const span *s, moe_int_finding *f) {
    const moe_plan *plan = p->e->routing->plan;
    int64_t e = moe_int_sight_expert(p, s->first), first = s->first - plan->offsets[e];
    int64_t rows = plan->offsets[e + 1] - plan->offsets[e], last = s->last - plan->offsets[e];
    moe_int_finding_param(f, "expert", (double)e);
    if (s->count == rows)
        moe_int_finding_say(f, ": all of expert %lld's", (long long)e);
    else if (first == 0 && s->count == last + 1)
        moe_int_finding_say(f, ": expert %lld's first %lld of %lld", (long long)e,
                            (long long)s->count, (long long)rows);
    else if (last == rows - 1 && s->count == rows - first)
        moe_int_finding_say(f, ": expert %lld's last %lld of %lld", (long long)e,
                            (long long)s->count, (long long)rows);
    else
        moe_int_finding_say(f, ": %lld of expert %lld's %lld, from %lld to %lld",
                            (long long)s->count, (long long)e, (long long)rows, (long long)first,
                            (long long)last);
    moe_int_finding_param(f, "first_row", (double)first);
    moe_int_finding_param(f, "last_row", (double)last);
}

void moe_int_sight_say_rows(const moe_int_sight *p, const bool *marked, moe_int_finding *f) {
    span s = span_of(p, marked);
    bool pairs = p->layout.by == MOE_INT_BY_PAIR && moe_int_sight_is_whole(p);
    if (s.count == 0)
        return;
    if (pairs && moe_int_sight_expert(p, s.first) == moe_int_sight_expert(p, s.last) &&
        moe_int_sight_expert(p, s.first) < p->e->problem->layer.E) {
        say_pair_rows(p, &s, f);
        return;
    }
    bool tokens = p->layout.by == MOE_INT_BY_TOKEN;
    int64_t first = tokens ? moe_int_sight_token(p, s.first) : s.first;
    int64_t last = tokens ? moe_int_sight_token(p, s.last) : s.last;
    moe_int_finding_say(f, "; %s %lld to %lld (%lld of %lld)", tokens ? "tokens" : "rows",
                        (long long)first, (long long)last, (long long)s.count, (long long)p->rows);
    moe_int_finding_param(f, tokens ? "first_token" : "first_row", (double)first);
    moe_int_finding_param(f, tokens ? "last_token" : "last_row", (double)last);
}
