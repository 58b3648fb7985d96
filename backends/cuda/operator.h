/* The parts of an operator's call that concern what the caller gives and gets. */
#ifndef MOE_CUDA_OPERATOR_H
#define MOE_CUDA_OPERATOR_H

#include "layer.h"

/* A view of weights or of their gradient as [E][rows][columns]: biases have one column, the shared
 * expert is one expert. */
WeightTarget operator_target(const moe_layer_desc *desc, moe_tensor_id id, const moe_view *v);

/* Where the products' gradients go, before a backward. */
void operator_bind_gradients(Layer *layer);
/* Where dS is the sum of what the products left, slots are summed themselves, not rows first. */
bool operator_sums_slots(const Layer *layer);
/* dS by slot, and the gradients that are computed in fp32 scratch, after it. */
moe_status operator_give_ds(Layer *layer);
moe_status operator_give_gradients(Layer *layer);

#endif
