/* Factors of few bits: a product's operand or matrix is rounded to a narrow type's significand on
 * its way in. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>

enum { OF_OPERAND = 1, OF_MATRIX = 2, OF_BOTH = 3, TRIALS = 3 * 10 };

static void to_bits(int bits, double *v, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int power;
        const double part = frexp(v[i], &power);
        v[i] = ldexp(rint(ldexp(part, bits)), power - bits);
    }
}

static int which_of(int n) {
    return n % 3 + 1;
}

static int bits_of(int n) {
    return 2 + n / 3;
}

static bool round_matrix(const moe_int_product_view *v, int n, double *w) {
    if (which_of(n) & OF_MATRIX)
        to_bits(bits_of(n), w, v->outs * v->depth);
    return true;
}

static void round_source(const moe_int_product_view *v, int n, int64_t i, double *x) {
    (void)i;
    if (which_of(n) & OF_OPERAND)
        to_bits(bits_of(n), x, v->depth);
}

static void say_bits(const moe_int_product_view *v, int n, moe_int_finding *f) {
    const int which = which_of(n);
    moe_int_finding_say(f, ": in %s %s%s%s rounded to %d bits, a narrower type's", v->equation,
                        which & OF_OPERAND ? v->operand : "", which == OF_BOTH ? " and " : "",
                        which & OF_MATRIX ? v->matrix : "", bits_of(n));
    moe_int_finding_param(f, "bits", bits_of(n));
}

bool moe_int_local_operand_bits(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {
        .count = TRIALS, .matrix = round_matrix, .source = round_source, .say = say_bits};
    return moe_int_product_try(l, &trials, f);
}
