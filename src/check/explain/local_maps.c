/* A product whose terms do not meet their own factors: the matrix is read in another order along
 * the sum, or its tiles are turned, as by a swizzle, a packing or a layout on one side alone. */
#include "check/explain/bank.h"
#include "check/explain/orders.h"
#include "check/explain/product.h"

#include <stdlib.h>
#include <string.h>

/* w [outs][depth] in another order. */
static bool reorder(const moe_int_product_view *v, int n, double *w) {
    const moe_int_term_order *o = &moe_int_term_orders[n];
    const size_t size = (size_t)(v->outs * v->depth) * sizeof *w;
    double *right = malloc(size);
    if (!right)
        return false;
    memcpy(right, w, size);
    for (int64_t c = 0; c < v->outs; c++)
        for (int64_t k = 0; k < v->depth; k++) {
            int64_t from = c, at = k;
            o->map(o->size, v->depth, &from, &at);
            w[c * v->depth + k] = right[(from < v->outs ? from : c) * v->depth + at];
        }
    free(right);
    return true;
}

static void say_order(const moe_int_product_view *v, int n, moe_int_finding *f) {
    moe_int_finding_say(f, ": of %s in %s, %s", v->matrix, v->equation,
                        moe_int_term_orders[n].words);
}

bool moe_int_local_terms_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {
        .count = MOE_INT_TERM_ORDERS, .matrix = reorder, .say = say_order};
    return moe_int_product_try(l, &trials, f);
}
