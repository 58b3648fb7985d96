/* Internal: a model whose heads, widths and vocabulary several GPUs share. */
#ifndef MOE_SIM_SHARED_H
#define MOE_SIM_SHARED_H

#include "moeref/whole.h"

/* What one of `parts` GPUs has of it: heads, the dense FFNs' width and the vocabulary are divided,
 * keys and values as far as there are heads of them. MOE_E_INVALID: heads do not divide. */
moe_status moe_int_share_model(const moe_model_shape *shape, int64_t parts, const moe_log *log,
                               moe_model_shape *ret);

/* Values of a token's keys and values in one layer, of latent vectors where a model keeps those. */
double moe_int_kv_values(const moe_model_shape *shape);

/* What the GPUs of a replica tell each other outside the MoE layers, and, in a step of training,
 * the replicas, us: `shape` is the whole model's, `gradients` bytes of one GPU. */
double moe_int_share_us(const moe_model_shape *shape, const moe_model_run *run, double element,
                        double gradients);

#endif
