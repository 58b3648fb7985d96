/* Which of a model's layers are MoE layers. */
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

static bool is_listed(const json_t *list, int64_t layer) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == layer)
            return true;
    return false;
}

/* One value a layer: a list, or Nemotron's pattern, which has an E where a layer has experts. */
static bool say_by_layer(const json_t *object, int64_t all, unsigned char *ret_has) {
    static const char *const lists[] = {"mlp_layer_types", "layers_block_type", "moe_layer_freq"};
    const char *pattern = json_string_value(json_object_get(object, "hybrid_override_pattern"));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(object, lists[i]);
        if (!json_is_array(list))
            continue;
        for (int64_t layer = 0; layer < all; layer++)
            ret_has[layer] = is_moe_value(json_array_get(list, (size_t)layer));
        return true;
    }
    for (int64_t layer = 0; pattern && layer < all && pattern[layer]; layer++)
        ret_has[layer] = pattern[layer] == 'E';
    return pattern != NULL;
}

moe_status moe_int_hf_moe_layers(const moe_int_hf_keys *k, unsigned char *ret_has,
                                 int64_t *ret_all) {
    int64_t all = 1, dense = 0, step = 1;
    const json_t *object = k->at->object, *none = json_object_get(object, "mlp_only_layers");
    moe_status status =
        moe_int_hf_size(k, "num_hidden_layers|n_layers|num_layers", MOE_INT_JSON_REQUIRED, &all);
    if (!status)
        status = moe_int_hf_size(k, "first_k_dense_replace|num_dense_layers", MOE_INT_JSON_OPTIONAL,
                                 &dense);
    if (!status)
        status = moe_int_hf_size(
            k, "moe_layer_freq|decoder_sparse_step|interleave_moe_layer_step|moe_layer_interval",
            MOE_INT_JSON_OPTIONAL, &step);
    if (!status && all > MOE_INT_HF_LAYERS_MAX)
        status = MOE_E_FORMAT;
    if (status)
        return status;
    *ret_all = all;
    memset(ret_has, 0, (size_t)all);
    if (say_by_layer(object, all, ret_has))
        return MOE_OK;
    for (int64_t layer = dense; layer < all; layer++)
        ret_has[layer] = (step <= 1 || (layer + 1) % step == 0) && !is_listed(none, layer);
    return MOE_OK;
}
