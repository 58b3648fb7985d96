/* Fused sums of many outputs at once, with the bits of moe_int_dot. */
#ifndef MOE_REFERENCE_TENSORCORE_LANES_H
#define MOE_REFERENCE_TENSORCORE_LANES_H

#include "reference/tensorcore/unit.h"

enum { MOE_INT_LANES = 16 };

/* Factors of one row of the left operand, [k], or of MOE_INT_LANES columns of the right one,
 * [k][MOE_INT_LANES]; `value` the same numbers in fp32. */
typedef struct moe_int_factors {
    int16_t *sig, *exp;
    float *value;
} moe_int_factors;

/* Continues the sums c with the products of k .. end - 1, rule->terms at a time. */
void moe_int_dot_lanes(const moe_int_dot_rule *rule, int fraction, const moe_int_factors *a,
                       const moe_int_factors *b, int64_t k, int64_t end, uint32_t c[MOE_INT_LANES]);

#endif
