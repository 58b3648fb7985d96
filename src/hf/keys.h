/* Internal: settings of a config.json under the spellings that families give them. */
#ifndef MOE_HF_KEYS_H
#define MOE_HF_KEYS_H

#include "core/jsonx.h"

/* `spellings` is a list such as "hidden_size|d_model": the first one that is there and not null
 * counts. "ffn_config.moe_top_k" is a member of an object, "moe_num_experts.0" an array's first
 * value. Where the value is an array, one for each layer, the one of `layer` is taken; below 0 the
 * first of all. */
typedef struct moe_int_hf_keys {
    const moe_int_json *at;
    int64_t layer;
} moe_int_hf_keys;

#define MOE_INT_HF_WIDTH "hidden_size|d_model"

bool moe_int_hf_has(const moe_int_hf_keys *k, const char *spellings);

/* *ret keeps its default where the setting is absent, null or, with `need` required, MOE_E_FORMAT
 * names the spellings. */
moe_status moe_int_hf_size(const moe_int_hf_keys *k, const char *spellings, moe_int_json_need need,
                           int64_t *ret);
moe_status moe_int_hf_real(const moe_int_hf_keys *k, const char *spellings, moe_int_json_need need,
                           double *ret);
moe_status moe_int_hf_flag(const moe_int_hf_keys *k, const char *spellings, bool *ret);
moe_status moe_int_hf_word(const moe_int_hf_keys *k, const char *spellings, const char **ret);

/* Copies the next of the words that '|' divides and returns what follows it, NULL at the end. An
 * empty list has one empty word. */
const char *moe_int_hf_next_word(const char *list, char *word, size_t size);

#endif
