/* The order in which results are computed and judged. */
#ifndef MOE_CHECK_VERDICT_ORDER_H
#define MOE_CHECK_VERDICT_ORDER_H

#include "moeref/layer.h"

#include <stdbool.h>
#include <stddef.h>

/* Every result in the order of computation, "topk_index" apart. */
extern const moe_tensor_id moe_int_order[];
extern const size_t moe_int_order_count;
/* Is it a stage that a backend may keep to itself? */
bool moe_int_is_inner_stage(moe_tensor_id id);

#endif
