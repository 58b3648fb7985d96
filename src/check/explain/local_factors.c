/* A gradient of weights that is the sum of other vectors' products than its own, with another
 * weight, of rows that do not belong together, or of vectors of few bits. */
#include "check/explain/bank.h"
#include "check/explain/factors.h"

#include <math.h>
#include <stdlib.h>

/* One of the two vectors is another, with whatever weight; or the weight alone is. */
static bool trial_of(const moe_int_factors *k, int n, moe_int_sum_of *ret) {
    const int ways = MOE_INT_WEIGHTS * MOE_INT_VECTORS;
    const int which = n / MOE_INT_WEIGHTS % MOE_INT_VECTORS;
    *ret = k->own;
    ret->weight = (moe_int_row_weight)(n % MOE_INT_WEIGHTS);
    if (k->tokens && ret->weight > (k->s.block ? MOE_INT_WEIGHT_TWICE : MOE_INT_WEIGHT_NONE))
        return false;
    if (n < ways)
        ret->left = which;
    else
        ret->right = which;
    return n < ways ? which != MOE_INT_VECTOR_ONES && moe_int_factors_have(k, which, k->a)
                    : moe_int_factors_have(k, which, k->b);
}

bool moe_int_local_gradient_tensor(const moe_int_local *l, moe_int_finding *f) {
    moe_int_factors k;
    double least = INFINITY;
    moe_int_sum_of best = {0};
    const bool made = moe_int_factors_make(l, &k);
    for (int n = 0; made && n < 2 * MOE_INT_WEIGHTS * MOE_INT_VECTORS; n++) {
        moe_int_sum_of s;
        const double left = trial_of(&k, n, &s) ? moe_int_factors_distance(&k, &s) : INFINITY;
        if (left < least)
            best = s;
        least = fmin(least, left);
    }
    const bool found = made && moe_int_factors_explain(&k, least);
    if (found) {
        moe_int_local_residuals(l->p, least, k.d2, f);
        moe_int_finding_say(f, ": ");
        moe_int_factors_say(&best, f);
        moe_int_finding_say(f, "; should be ");
        moe_int_factors_say(&k.own, f);
        moe_int_factors_say_part(&k, f);
    }
    moe_int_factors_destroy(&k);
    return found;
}

bool moe_int_local_gradient_beside(const moe_int_local *l, moe_int_finding *f) {
    static const int64_t steps[] = {1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32};
    enum { STEPS = sizeof steps / sizeof *steps };
    moe_int_factors k;
    bool found = false;
    const bool made = moe_int_factors_make(l, &k) && k.b > 1;
    for (int n = 0; made && !found && n < 4 * STEPS; n++) {
        moe_int_sum_of s = k.own;
        const int64_t by = steps[n / 4];
        s.left_by = n % 2 ? by : 0;
        s.right_by = n % 2 ? 0 : by;
        s.round = n / 2 % 2;
        const double left = moe_int_factors_distance(&k, &s);
        found = moe_int_factors_explain(&k, left);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        moe_int_finding_say(f, ": of ");
        moe_int_factors_say(&k.own, f);
        moe_int_finding_say(f, " the %s has the %s %lld %s", n % 2 ? "first" : "second",
                            k.tokens ? "token" : "row", llabs(by), by > 0 ? "after" : "before");
        moe_int_factors_say_part(&k, f);
        moe_int_finding_param(f, "by", (double)by);
    }
    moe_int_factors_destroy(&k);
    return found;
}

bool moe_int_local_gradient_bits(const moe_int_local *l, moe_int_finding *f) {
    enum { LEFT = 1, RIGHT = 2, FEWEST = 2, MOST = 10 };
    moe_int_factors k;
    bool found = false;
    const bool made = moe_int_factors_make(l, &k);
    for (int n = 0; made && !found && n < 3 * (MOST - FEWEST); n++) {
        moe_int_sum_of s = k.own;
        const int which = n % 3 + 1, bits = FEWEST + n / 3;
        s.left_bits = which & LEFT ? bits : 0;
        s.right_bits = which & RIGHT ? bits : 0;
        const double left = moe_int_factors_distance(&k, &s);
        found = moe_int_factors_explain(&k, left);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        moe_int_finding_say(f, ": ");
        moe_int_factors_say(&s, f);
        moe_int_finding_say(f, ", %s rounded to %d bits, a narrower type's",
                            which == LEFT    ? "the first"
                            : which == RIGHT ? "the second"
                                             : "both",
                            bits);
        moe_int_factors_say_part(&k, f);
        moe_int_finding_param(f, "bits", bits);
    }
    moe_int_factors_destroy(&k);
    return found;
}
