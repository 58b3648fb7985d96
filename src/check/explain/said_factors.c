/* What multiplies a part that should not, by its name. */
#include "check/explain/local.h"
#include "check/explain/pair_rules.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

/* What a factor may be, at pair p. */
typedef struct named_factor {
    const char *name;
    double (*of)(const moe_plan *plan, int64_t p);
} named_factor;

/* The pair of the token's slot `by` further on. */
static int64_t slot_after(const moe_plan *plan, int64_t p, int64_t by) {
    const int64_t t = plan->token[p], first = plan->token_offsets[t];
    const int64_t count = plan->token_offsets[t + 1] - first;
    for (int64_t i = 0; i < count; i++)
        if (plan->pair_of_token[first + i] == p)
            return plan->pair_of_token[first + (i + by) % count];
    return p;
}

/* The number of rows further on whose weight all pairs have for their own; 0: there is none. At an
 * expert's end the next one is its first, or the next expert's. */
static int64_t rows_on(const moe_plan *plan, const int64_t *pair, const double *factor,
                       int64_t count) {
    enum { FAR = 16 };
    for (int64_t by = -FAR; by <= FAR; by++) {
        int64_t as = 0;
        for (int64_t i = 0; by && i < count; i++) {
            const int64_t p = pair[i], e = moe_int_plan_expert_of(plan, p);
            const int64_t first = plan->offsets[e], rows = plan->offsets[e + 1] - first;
            const int64_t round = first + moe_int_around(p - first + by, rows);
            const int64_t on = moe_int_around(p + by, plan->n_pairs);
            const double want = factor[i] * plan->weight[p], room = 0.03 * fabs(want);
            as += fabs(plan->weight[round] - want) <= room || fabs(plan->weight[on] - want) <= room;
        }
        if (count > 0 && as == count)
            return by;
    }
    return 0;
}

static double own(const moe_plan *plan, int64_t p) {
    return plan->weight[p];
}

static double own_again(const moe_plan *plan, int64_t p) {
    return plan->weight[p] * plan->weight[p];
}

static double over_own(const moe_plan *plan, int64_t p) {
    return 1 / plan->weight[p];
}

static double next_row(const moe_plan *plan, int64_t p) {
    return plan->weight[(p + 1) % plan->n_pairs];
}

static double row_before(const moe_plan *plan, int64_t p) {
    return plan->weight[(p + plan->n_pairs - 1) % plan->n_pairs];
}

static double rest_of_own(const moe_plan *plan, int64_t p) {
    return 1 - plan->weight[p];
}

static double next_slot(const moe_plan *plan, int64_t p) {
    return plan->weight[slot_after(plan, p, 1)] / plan->weight[p];
}

static double first_slot(const moe_plan *plan, int64_t p) {
    return plan->weight[plan->pair_of_token[plan->token_offsets[plan->token[p]]]];
}

static double first_slot_for_own(const moe_plan *plan, int64_t p) {
    return first_slot(plan, p) / plan->weight[p];
}

/* All pairs have the weight of another, by one rule. */
static bool say_rule(const moe_plan *plan, const int64_t *pair, const double *factor, int64_t count,
                     moe_int_finding *f) {
    for (int n = 0; n < MOE_INT_PAIR_RULES; n++) {
        int64_t as = 0;
        for (int64_t i = 0; i < count; i++) {
            const int64_t q = moe_int_pair_rules[n].of(plan, pair[i]);
            const double want = factor[i] * plan->weight[pair[i]];
            as += q >= 0 && q != pair[i] && fabs(plan->weight[q] - want) <= 0.03 * fabs(want);
        }
        if (count < 4 || as < count)
            continue;
        moe_int_finding_say(f, ": it has the weight of another pair: %s",
                            moe_int_pair_rules[n].words);
        return true;
    }
    return false;
}

/* All factors are what is made of a weight when it is rounded to a type of 16 bits. */
static bool say_rounded(const moe_plan *plan, const int64_t *pair, const double *factor,
                        int64_t count, moe_int_finding *f) {
    static const moe_dtype types[] = {MOE_BF16, MOE_F16};
    for (size_t n = 0; n < 2; n++) {
        double left = 0, off = 0;
        for (int64_t i = 0; i < count; i++) {
            const double w = plan->weight[pair[i]];
            left += pow(factor[i] * w - moe_round_to(w, types[n]), 2);
            off += pow((factor[i] - 1) * w, 2);
        }
        if (count < 8 || left > 0.01 * off)
            continue;
        moe_int_finding_say(f, ": the combine weight is rounded to %s", moe_dtype_name(types[n]));
        return true;
    }
    return false;
}

/* The shared expert's gate at token t. */
static double gate_at(const moe_problem *p, int64_t t) {
    const moe_tensor *x = &p->in.t[MOE_T_X], *w = &p->in.t[MOE_T_W_GATE_SHARED];
    double z = 0;
    for (int64_t i = 0; i < p->layer.d; i++)
        z += moe_load(x->data, x->dtype, (size_t)(t * p->layer.d + i)) *
             moe_load(w->data, w->dtype, (size_t)i);
    return 1 / (1 + exp(-z));
}

/* All factors are the gate of the shared expert at their tokens, or one over it. */
static bool say_gate(const moe_int_evidence *e, const int64_t *pair, const double *factor,
                     int64_t count, moe_int_finding *f) {
    int64_t as = 0, over = 0;
    if (!e->problem->layer.shared_gate || count < 4)
        return false;
    for (int64_t i = 0; i < count; i++) {
        const double gate = gate_at(e->problem, e->routing->plan->token[pair[i]]);
        as += fabs(factor[i] - gate) <= 0.03 * gate + 1e-3;
        over += fabs(factor[i] * gate - 1) <= 0.03;
    }
    if (as < count && over < count)
        return false;
    moe_int_finding_say(f, ": it has %sthe shared expert's gate", as < count ? "one over " : "");
    return true;
}

bool moe_int_say_factors(const moe_int_evidence *e, const int64_t *pair, const double *factor,
                         int64_t count, moe_int_finding *f) {
    static const named_factor names[] = {
        {"the combine weight once more", own},
        {"the combine weight twice more", own_again},
        {"one over the combine weight", over_own},
        {"the weight of the next row beside it", next_row},
        {"the weight of the row before beside it", row_before},
        {"1 less the combine weight", rest_of_own},
        {"the weight of the next slot for its own", next_slot},
        {"the weight of the token's first slot", first_slot},
        {"the weight of the token's first slot for its own", first_slot_for_own},
    };
    const moe_plan *plan = e->routing->plan;
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        low = fmin(low, factor[i]);
        high = fmax(high, factor[i]);
    }
    if (say_rounded(plan, pair, factor, count, f))
        return true;
    if (high - low <= 0.02 * fmax(fabs(high), 0.1)) {
        moe_int_finding_say(f, ": times %.3g", (low + high) / 2);
        moe_int_finding_param(f, "factor", (low + high) / 2);
        return true;
    }
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        int64_t as = 0;
        for (int64_t i = 0; i < count; i++)
            as += fabs(names[n].of(plan, pair[i]) - factor[i]) <= 0.03 * fabs(factor[i]) + 1e-3;
        if (as < count)
            continue;
        moe_int_finding_say(f, ": it has %s", names[n].name);
        return true;
    }
    if (say_gate(e, pair, factor, count, f) || say_rule(plan, pair, factor, count, f))
        return true;
    int64_t zeros = 0, twos = 0;
    for (int64_t i = 0; i < count; i++) {
        zeros += fabs(factor[i]) < 0.03;
        twos += fabs(factor[i] - 2) < 0.03;
    }
    if (zeros + twos == count) {
        moe_int_finding_say(f, ": it is missing in %lld places and there twice in %lld",
                            (long long)zeros, (long long)twos);
        return true;
    }
    const int64_t by = rows_on(plan, pair, factor, count);
    if (by)
        moe_int_finding_say(f, ": it has the weight of the row %lld %s for its own", llabs(by),
                            by > 0 ? "after" : "before");
    else
        moe_int_finding_say(f, ", from %.3g to %.3g", low, high);
    return by != 0;
}
