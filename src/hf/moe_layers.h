/* Internal: which of a model's layers are MoE layers, from config.json. */
#ifndef MOE_HF_MOE_LAYERS_H
#define MOE_HF_MOE_LAYERS_H

#include "hf/keys.h"

/* Which of the model's layers have experts, ret_has[layer], and how many there are in all. Families
 * say it by a list of layer types, a pattern, a number of dense layers at the front, or a step.
 * MOE_E_FORMAT: it does not say, or there are more than MOE_INT_HF_LAYERS_MAX. */
#define MOE_INT_HF_LAYERS_MAX 512
moe_status moe_int_hf_moe_layers(const moe_int_hf_keys *k, unsigned char *ret_has,
                                 int64_t *ret_all);

#endif
