/* Factors of a product that are integers with a scale: each row of the operand, or each vector of
 * the matrix that it meets, or blocks of them, rounded to a few steps of their largest value. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>

static const int blocks[] = {0, 128, 64, 32, 16}; /* elements that share a scale; 0: all */
static const int levels[] = {127, 7, 63, 31, 15}; /* steps on each side of 0 */
enum { OF_OPERAND = 1, OF_MATRIX = 2, OF_BOTH = 3, BLOCKS = 5, LEVELS = 5 };

static int which_of(int n) {
    return n % 3 + 1;
}

static int block_of(int n) {
    return blocks[n / 3 % BLOCKS];
}

static int levels_of(int n) {
    return levels[n / 3 / BLOCKS];
}

static void to_levels(int n, double *v, int64_t count) {
    const int64_t size = block_of(n) ? block_of(n) : count;
    for (int64_t first = 0; first < count; first += size) {
        const int64_t end = first + size < count ? first + size : count;
        double most = 0;
        for (int64_t i = first; i < end; i++)
            most = fmax(most, fabs(v[i]));
        const double step = most / levels_of(n);
        for (int64_t i = first; step > 0 && i < end; i++)
            v[i] = rint(v[i] / step) * step;
    }
}

/* A block as large as all of it is tried as that; of large matrices the usual ones alone. */
static bool exists(const moe_int_product_view *v, int n) {
    enum { LARGE = 1 << 20 };
    const bool usual = n < 3 * 2 * BLOCKS && n / 3 % BLOCKS < 2;
    return block_of(n) < v->depth && (usual || v->outs * v->depth < LARGE);
}

static bool round_matrix(const moe_int_product_view *v, int n, double *w) {
    for (int64_t o = 0; o < v->outs && which_of(n) & OF_MATRIX; o++)
        to_levels(n, w + o * v->depth, v->depth);
    return true;
}

static void round_source(const moe_int_product_view *v, int n, int64_t i, double *x) {
    (void)i;
    if (which_of(n) & OF_OPERAND)
        to_levels(n, x, v->depth);
}

static void say(const moe_int_product_view *v, int n, moe_int_finding *f) {
    const int which = which_of(n);
    moe_int_finding_say(f, ": in %s %s%s%s rounded to %d on each side of 0, with a scale for each ",
                        v->equation, which & OF_OPERAND ? v->operand : "",
                        which == OF_BOTH ? " and " : "", which & OF_MATRIX ? v->matrix : "",
                        levels_of(n));
    moe_int_finding_say(f, block_of(n) ? "%d elements" : "row", block_of(n));
    moe_int_finding_param(f, "levels", levels_of(n));
}

bool moe_int_local_operand_levels(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {.count = 3 * BLOCKS * LEVELS,
                                                  .exists = exists,
                                                  .matrix = round_matrix,
                                                  .source = round_source,
                                                  .say = say};
    return moe_int_product_try(l, &trials, f);
}
