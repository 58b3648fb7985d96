/* Which layers the backend runs. Plain C without a device, for the cost model's ledger too. */
#ifndef MOE_CUDA_SUPPORTS_H
#define MOE_CUDA_SUPPORTS_H

#include "moeref/plugin.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NULL: it can; else a clause, "K > 48". */
const char *moe_int_cuda_refusal(const moe_layer_desc *desc, const moe_use *use);
/* The same of an operator on one device. */
const char *moe_int_cuda_operator_refusal(const moe_layer_desc *desc, const moe_operator_use *use);
/* The device chooses by itself; otherwise the host does. */
bool moe_int_cuda_routes(const moe_router_desc *router);

#ifdef __cplusplus
}
#endif
#endif
