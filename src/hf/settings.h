/* Internal: the settings of one layer. */
#ifndef MOE_HF_SETTINGS_H
#define MOE_HF_SETTINGS_H

#include "hf/hf.h"
#include "hf/keys.h"

/* Fills ret->layer and the factors beside it; ret->layer was initialised. */
moe_status moe_int_hf_read_layer(const moe_int_hf_keys *k, const moe_int_family *f,
                                 moe_int_hf_config *ret);

/* Fills ret->block, its numbers, and what of the layer they decide; after moe_int_hf_read_layer. */
moe_status moe_int_hf_read_block(const moe_int_hf_keys *k, const moe_int_family *f,
                                 moe_int_hf_config *ret);

#endif
