/* Internal: how many of a model's layers are MoE layers, and its other sizes, from config.json. */
#ifndef MOE_HF_MOE_LAYERS_H
#define MOE_HF_MOE_LAYERS_H

#include "hf/keys.h"
#include "moeref/whole.h"

/* Layers with experts, and all. Families say it by a list of layer types, a pattern, a number of
 * dense layers at the front, or a step. */
moe_status moe_int_hf_count_layers(const moe_int_hf_keys *k, int64_t *ret_moe, int64_t *ret_all);

/* All sizes of a model but `layer`; d is there already. */
moe_status moe_int_hf_read_shape(const moe_int_hf_keys *k, moe_model_shape *m);

#endif
