/* An operator with the memory of one call, for tests: inputs of a drawn problem go up, results come
 * down, on whatever place the backend works. */
#ifndef MOE_TESTS_OPERATOR_CALL_H
#define MOE_TESTS_OPERATOR_CALL_H

#include "moeref/case.h"
#include "moeref/operator.h"

typedef struct operator_call {
    moe_operator *op;
    moe_layer_desc desc;
    moe_operator_use use;
    moe_call call;
    moe_operator_sizes sizes;
    moe_dtype result, gradient; /* dtype of O and dX; of gradients of parameters */
} operator_call;

/* All of them return what the call said; memory that was bound before is given back first. */
moe_status operator_call_open(operator_call *c, moe_backend *backend, const moe_problem *problem,
                              moe_dtype gradient);
/* Weights, and zeros in their gradients. */
moe_status operator_call_weights(operator_call *c, const moe_tensors *params);
/* X, dO and the plan of a problem with any number of tokens; memory of the sizes that it needs. */
moe_status operator_call_input(operator_call *c, const moe_problem *problem);
/* A copy in host memory, which the caller destroys. */
moe_status operator_call_fetch(const operator_call *c, moe_tensor_id id, moe_tensor *ret);
void operator_call_close(operator_call *c);

#endif
