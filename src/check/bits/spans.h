/* Numbers that a kernel makes with special-function units: not known bit for bit, but within so
 * little that nearly all of them round to one number. */
#ifndef MOE_CHECK_BITS_SPANS_H
#define MOE_CHECK_BITS_SPANS_H

#include "moeref/arithmetic.h"
#include "moeref/layer.h"

#include <stdbool.h>

/* A stored number lies in [low, high]; any: the exact one is not finite, and formulas that are
 * equal elsewhere differ there: it is `low`, as a rule, or `high` (inf * 0 is a NaN, or nobody
 * multiplies); signless: a zero may have either sign. */
typedef struct moe_int_span {
    float low, high;
    bool any, signless;
} moe_int_span;

/* What makes a span: the layer's activation, how exactly it is computed, the type of storage. */
typedef struct moe_int_spans {
    const moe_layer_desc *desc;
    double allowed; /* in 2^-24, at y = 0 */
    moe_dtype dtype;
} moe_int_spans;

/* Of one hidden unit, h its one or two columns: `factor` times A. `roundings` in fp32 come with
 * the factor. */
moe_int_span moe_int_span_of_act(const moe_int_spans *s, const double *h, double factor,
                                 int roundings);
/* Of dH's column `up` (0: gate, or the only one) from da = s dA'. */
moe_int_span moe_int_span_of_slope(const moe_int_spans *s, const double *h, double da, int up);

#endif
