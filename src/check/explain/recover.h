/* Stages that a subject does not offer, out of its weight gradients. */
#ifndef MOE_CHECK_EXPLAIN_RECOVER_H
#define MOE_CHECK_EXPLAIN_RECOVER_H

#include "check/explain/evidence.h"

/* Puts dH as a wrong dW1 has it, or A as a wrong dW2 has it, into the evidence, in float64; where
 * an expert has too many rows to tell, the right ones, as where a row's combine weight is too small
 * to tell: ret_light rows. False: it cannot be told. */
bool moe_int_recover(moe_int_evidence *e, moe_tensor_id id, int64_t *ret_light);

#endif
