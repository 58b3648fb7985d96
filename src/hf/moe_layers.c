/* How many of a model's layers are MoE layers. */
#include "hf/moe_layers.h"
#include "hf/keys.h"

#include <string.h>

/* Lists with one value a layer, and the value of a layer without experts. */
static bool is_moe_value(const json_t *value) {
    if (json_is_string(value)) {
        const char *word = json_string_value(value);
        return strstr(word, "moe") || strcmp(word, "sparse") == 0;
    }
    return json_is_true(value) || (json_is_integer(value) && json_integer_value(value) > 0);
}

static int64_t count_list(const json_t *list) {
    int64_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        n += is_moe_value(json_array_get(list, i));
    return n;
}

/* Nemotron's pattern has an E for each. */
static int64_t count_letters(const char *pattern) {
    int64_t n = 0;
    for (; *pattern; pattern++)
        n += *pattern == 'E';
    return n;
}

static bool is_listed(const json_t *list, int64_t layer) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == layer)
            return true;
    return false;
}

moe_status moe_int_hf_count_layers(const moe_int_hf_keys *k, int64_t *ret_moe, int64_t *ret_all) {
    static const char *const lists[] = {"mlp_layer_types", "layers_block_type", "moe_layer_freq"};
    int64_t all = 1, dense = 0, step = 1, n = 0;
    const json_t *object = k->at->object, *none = json_object_get(object, "mlp_only_layers");
    const char *pattern = json_string_value(json_object_get(object, "hybrid_override_pattern"));
    moe_status status =
        moe_int_hf_size(k, "num_hidden_layers|n_layers|num_layers", MOE_INT_JSON_REQUIRED, &all);
    if (!status)
        status = moe_int_hf_size(k, "first_k_dense_replace|num_dense_layers", MOE_INT_JSON_OPTIONAL,
                                 &dense);
    if (!status)
        status = moe_int_hf_size(
            k, "moe_layer_freq|decoder_sparse_step|interleave_moe_layer_step|moe_layer_interval",
            MOE_INT_JSON_OPTIONAL, &step);
    if (status)
        return status;
    *ret_all = all;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(object, lists[i]);
        if (json_is_array(list)) {
            *ret_moe = count_list(list);
            return MOE_OK;
        }
    }
    if (pattern) {
        *ret_moe = count_letters(pattern);
        return MOE_OK;
    }
    for (int64_t layer = dense; layer < all; layer++)
        n += (step <= 1 || (layer + 1) % step == 0) && !is_listed(none, layer);
    *ret_moe = n;
    return MOE_OK;
}
