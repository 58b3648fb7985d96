/* Data whose sums cancel:
 *
 *   X[t][d-1] = X[t][0] and W1[..][d-1] = -W1[..][0], all of them large    sums of H
 *   W1, b1: the last hidden unit's rows are the first one's                equal H, A
 *   W2[..][n-1] = -W2[..][0], large                                        sums of Y, of dX~
 *   tokens T-1-t and t, t < 3T/8: the same X and experts, opposite large dO sums of dW1, dW2
 *   W_r[..][0] = W_r[..][d-1] = 0                                          logits are as ever
 *
 * dA' is large and opposite in the first and the last hidden unit, and so is dH. Between them lie
 * ordinary numbers. */
#ifndef MOE_LAYER_CANCEL_H
#define MOE_LAYER_CANCEL_H

#include "moeref/case.h"

/* Rearranges what was drawn. */
void moe_int_cancel(moe_problem *problem);

/* The token of which `token` has the input and the experts; itself, if there is none. */
int64_t moe_int_cancel_twin(int64_t token, int64_t tokens);

#endif
