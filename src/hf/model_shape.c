/* A whole model's sizes, from config.json. */
#include "hf/hf.h"
#include "hf/keys.h"
#include "hf/moe_layers.h"
#include "moeref/whole.h"

#include <string.h>

static int64_t count_words(const json_t *list, const char *part) {
    int64_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        n += word && strstr(word, part);
    }
    return n;
}

static int64_t count_letter(const char *pattern, char letter) {
    int64_t n = 0;
    for (; *pattern; pattern++)
        n += *pattern == letter;
    return n;
}

static int64_t count_equal(const json_t *list, const char *word) {
    int64_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *at = json_string_value(json_array_get(list, i));
        n += at && strcmp(at, word) == 0;
    }
    return n;
}

/* Types of layers that attend: to a window, or to a chunk, at most as far back as a window of its
 * size, or to all. */
static void count_types(const json_t *types, moe_model_shape *m) {
    const int64_t near = count_words(types, "sliding") + count_words(types, "chunked");
    m->windowed = m->window > 0 ? near : 0;
    m->full = count_words(types, "full") + count_words(types, "global") +
              count_equal(types, "attention") + (m->window > 0 ? 0 : near);
}

/* Layers that are attention, experts or a dense FFN, and nothing besides: Nemotron-H's, by a list
 * or by a pattern of letters. */
static bool count_lone(const json_t *object, moe_model_shape *m) {
    const json_t *types = json_object_get(object, "layers_block_type");
    const char *pattern = json_string_value(json_object_get(object, "hybrid_override_pattern"));
    if (count_words(types, "moe") > 0) {
        count_types(types, m);
        m->dense_layers = count_equal(types, "mlp");
    } else if (pattern) {
        m->full = count_letter(pattern, '*');
        m->dense_layers = count_letter(pattern, '-');
    } else {
        return false;
    }
    m->unknown = m->layers - m->full - m->windowed - m->moe_layers - m->dense_layers;
    return true;
}

static int64_t count_zeros(const json_t *list, int64_t most) {
    int64_t n = 0;
    for (int64_t i = 0; i < most && i < (int64_t)json_array_size(list); i++)
        n += json_integer_value(json_array_get(list, (size_t)i)) == 0;
    return n;
}

/* Lists of numbers: MiMo's has 0 for a layer that attends to all and 1 for one with a window,
 * DeepSeek-V4's how far tokens are compressed, where 0 is a window alone; Kimi-Linear's names those
 * that attend to all. */
static bool count_numbers(const json_t *object, moe_model_shape *m) {
    const json_t *hybrid = json_object_get(object, "hybrid_layer_pattern");
    const json_t *ratios = json_object_get(object, "compress_ratios");
    const json_t *full =
        json_object_get(json_object_get(object, "linear_attn_config"), "full_attn_layers");
    if (json_is_array(hybrid)) {
        m->full = count_zeros(hybrid, m->layers);
        m->windowed = m->layers - m->full;
    } else if (json_is_array(ratios)) {
        m->windowed = count_zeros(ratios, m->layers);
    } else {
        m->full = (int64_t)json_array_size(full);
        m->full = m->full < m->layers ? m->full : m->layers;
    }
    return json_is_array(hybrid) || json_is_array(ratios) || json_is_array(full);
}

/* Of so many layers one attends to all: the others to a window, or in ways that are not modelled.
 */
static moe_status count_steps(const moe_int_hf_keys *k, moe_model_shape *m) {
    const json_t *near = json_object_get(k->at->object, "global_attn_every_n_layers");
    int64_t step = 1;
    near = near ? near : json_object_get(k->at->object, "sliding_window_pattern");
    const moe_status status =
        moe_int_hf_size(k, "full_attention_interval|attn_layer_period|layer_group_size",
                        MOE_INT_JSON_OPTIONAL, &step);
    const bool windows = m->window > 0 && json_is_integer(near) && json_integer_value(near) > 1;
    step = windows ? json_integer_value(near) : step;
    m->full = step > 1 ? m->layers / step : m->layers;
    m->windowed = windows ? m->layers - m->full : 0;
    return status;
}

/* DeepSeek-V3.2's and GLM-5's: an index chooses which tokens a token attends to. */
static moe_status warn_of_index(const moe_int_hf_keys *k) {
    int64_t most = 0;
    const moe_status status = moe_int_hf_size(k, "index_topk", MOE_INT_JSON_OPTIONAL, &most);
    if (most > 0)
        moe_log_send(
            k->at->log, MOE_LOG_WARN,
            "%s: attention to %lld tokens that an index chooses is counted as attention to "
            "all, and the index as nothing",
            k->at->where, (long long)most);
    return status;
}

/* Which layers attend to what. Families say it by a list, a pattern of letters, a step, or not at
 * all: then every layer attends to all. */
static moe_status read_kinds(const moe_int_hf_keys *k, moe_model_shape *m) {
    const json_t *object = k->at->object, *types = json_object_get(object, "layer_types");
    moe_status status = moe_int_hf_size(k, "sliding_window|attention_chunk_size",
                                        MOE_INT_JSON_OPTIONAL, &m->window);
    m->dense_layers = m->layers - m->moe_layers;
    if (status || count_lone(object, m))
        return status;
    if (json_is_array(types))
        count_types(types, m);
    else if (!count_numbers(object, m))
        status = count_steps(k, m);
    if (!status && !json_is_array(types) && m->full > 0)
        status = warn_of_index(k);
    m->unknown = m->layers - m->full - m->windowed;
    return status;
}

/* Where a layer has more than one attention and one FFN. */
static void count_more(const moe_int_family *f, moe_model_shape *m) {
    if (f->twice) {
        m->full *= 2;
        m->windowed *= 2;
    }
    if (f->twice || f->dense_beside) {
        m->beside = m->moe_layers;
        m->dense_layers += f->twice ? 2 * m->moe_layers : m->moe_layers;
    }
}

moe_status moe_int_hf_read_shape(const moe_int_hf_keys *k, const moe_int_family *family,
                                 moe_model_shape *m) {
    bool tied = false;
    unsigned char has_experts[MOE_INT_HF_LAYERS_MAX];
    moe_status status = moe_int_hf_moe_layers(k, has_experts, &m->layers);
    m->moe_layers = 0;
    for (int64_t i = 0; !status && i < m->layers; i++)
        m->moe_layers += has_experts[i] != 0;
    if (!status)
        status = read_kinds(k, m);
    count_more(family, m);
    if (!status)
        status = moe_int_hf_size(k, "vocab_size", MOE_INT_JSON_REQUIRED, &m->vocab);
    if (!status)
        status = moe_int_hf_size(k, "intermediate_size_mlp|intermediate_size|ffn_hidden_size",
                                 MOE_INT_JSON_OPTIONAL, &m->dense_n);
    if (!status)
        status = moe_int_hf_flag(k, "tie_word_embeddings", &tied);
    m->tied = tied;
    return status ? status : moe_int_hf_read_heads(k, family, m);
}
