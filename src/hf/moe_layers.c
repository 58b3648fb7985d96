/* Which of a model's layers are MoE layers. */
#include "hf/moe_layers.h"
#include "hf/keys.h"

#include <stdlib.h>
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

static bool has_moe_value(const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (is_moe_value(json_array_get(list, i)))
            return true;
    return false;
}

/* One value a layer: a list, or Nemotron's pattern, which has an E where a layer has experts. Types
 * of layers that name no experts (Jamba's) say nothing of them. */
static bool say_by_layer(const json_t *object, int64_t all, unsigned char *ret_has) {
    enum { BLOCK_TYPES = 1 };
    static const char *const lists[] = {"mlp_layer_types", "layers_block_type", "moe_layer_freq"};
    const char *pattern = json_string_value(json_object_get(object, "hybrid_override_pattern"));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(object, lists[i]);
        if (!json_is_array(list) || (i == BLOCK_TYPES && !has_moe_value(list)))
            continue;
        for (int64_t layer = 0; layer < all; layer++)
            ret_has[layer] = is_moe_value(json_array_get(list, (size_t)layer));
        return true;
    }
    for (int64_t layer = 0; pattern && layer < all && pattern[layer]; layer++)
        ret_has[layer] = pattern[layer] == 'E';
    return pattern != NULL;
}

/* The numbers of the layers with experts: a list, or its numbers in a text, "3,4,5". */
static bool say_by_number(const json_t *object, int64_t all, unsigned char *ret_has) {
    const json_t *list = json_object_get(object, "moe_layers");
    const char *text = json_string_value(json_object_get(object, "moe_layers_enum"));
    list = json_is_array(list) ? list : json_object_get(object, "moe_layers_enum");
    for (int64_t layer = 0; json_is_array(list) && layer < all; layer++)
        ret_has[layer] = is_listed(list, layer);
    for (char *end; text && *text; text = *end ? end + 1 : end) {
        const long long layer = strtoll(text, &end, 10);
        if (end != text && layer >= 0 && layer < all)
            ret_has[layer] = 1;
    }
    return json_is_array(list) || text;
}

/* Layers `first` to `last` with layer % step == rest. */
typedef struct rule {
    int64_t first, last, step, rest;
} rule;

/* An integer that may be negative; absent, null or none of it: `otherwise`. */
static int64_t integer_of(const json_t *object, const char *key, int64_t otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

/* Steps of most families count layers from 1, DeepSeek's and Jamba's from 0. */
static moe_status read_rule(const moe_int_hf_keys *k, int64_t all, rule *ret) {
    const json_t *object = k->at->object;
    int64_t step = 1, from_zero = 1;
    rule r = {integer_of(object, "moe_layer_start_index", 0),
              integer_of(object, "moe_layer_end_index", -1), 1, 0};
    moe_status status = moe_int_hf_size(k, "first_k_dense_replace|num_dense_layers",
                                        MOE_INT_JSON_OPTIONAL, &r.first);
    if (!status)
        status =
            moe_int_hf_size(k, "decoder_sparse_step|interleave_moe_layer_step|moe_layer_interval",
                            MOE_INT_JSON_OPTIONAL, &step);
    if (!status)
        status = moe_int_hf_size(k, "moe_layer_freq|expert_layer_period", MOE_INT_JSON_OPTIONAL,
                                 &from_zero);
    if (!status && from_zero > 1)
        status = moe_int_hf_size(k, "expert_layer_offset", MOE_INT_JSON_OPTIONAL, &r.rest);
    r.step = from_zero > 1 ? from_zero : step > 1 ? step : 1;
    r.rest = from_zero > 1 ? r.rest : r.step - 1;
    r.first = r.first < 0 ? 0 : r.first;
    r.last = r.last < 0 ? all - 1 : r.last;
    *ret = r;
    return status;
}

moe_status moe_int_hf_moe_layers(const moe_int_hf_keys *k, unsigned char *ret_has,
                                 int64_t *ret_all) {
    const json_t *object = k->at->object, *none = json_object_get(object, "mlp_only_layers");
    /* Nemotron-H's list counts even where a number stands beside it. */
    int64_t all = (int64_t)json_array_size(json_object_get(object, "layers_block_type"));
    rule r;
    moe_status status = all > 0 ? MOE_OK
                                : moe_int_hf_size(k, "num_hidden_layers|n_layers|num_layers",
                                                  MOE_INT_JSON_REQUIRED, &all);
    if (!status)
        status = read_rule(k, all, &r);
    if (!status && all > MOE_INT_HF_LAYERS_MAX)
        status = MOE_E_FORMAT;
    if (status)
        return status;
    *ret_all = all;
    memset(ret_has, 0, (size_t)all);
    if (say_by_layer(object, all, ret_has) || say_by_number(object, all, ret_has))
        return MOE_OK;
    for (int64_t layer = r.first; layer < all && layer <= r.last; layer++)
        ret_has[layer] = layer % r.step == r.rest && !is_listed(none, layer);
    return MOE_OK;
}
