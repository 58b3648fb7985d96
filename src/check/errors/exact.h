/* Layers in which no correct kernel can err: every value is a small multiple of a power of two, so
 * that sums are exact in fp32 in any order, and what a kernel stores is stored without rounding. */
#ifndef MOE_CHECK_ERRORS_EXACT_H
#define MOE_CHECK_ERRORS_EXACT_H

#include "moeref/reference.h"

#include <stdbool.h>

/* Is the sum that makes a pre-activation H exact in every kernel? Then one that the arithmetic
 * holds is stored as it is: it lies on one side of a kink of the activation, or on the kink itself,
 * in every kernel. `oracle` is in float64. */
bool moe_int_exact_h(const moe_layer_desc *desc, const moe_tensors *in,
                     const moe_reference_result *oracle);

/* Is everything exact, and stored so? */
bool moe_int_exact_layer(const moe_layer_desc *desc, const moe_tensors *in,
                         const moe_reference_result *oracle, moe_dtype arithmetic);

#endif
