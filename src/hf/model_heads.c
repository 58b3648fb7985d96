/* The heads of a model's attention, from config.json. */
#include "hf/hf.h"
#include "hf/keys.h"

#include <stdlib.h>
#include <string.h>

/* Layers that attend to all have heads of their own, in Transformers' list of layers that differ:
 * {"05": {"head_dim": 512}}. */
static moe_status read_listed_heads(const moe_int_hf_keys *k, moe_model_shape *m) {
    json_t *list = json_object_get(k->at->object, "per_layer_config"), *own;
    const json_t *types = json_object_get(k->at->object, "layer_types");
    const char *layer;
    moe_status status = MOE_OK;
    json_object_foreach(list, layer, own) {
        const size_t index = (size_t)strtoul(layer, NULL, 10);
        const char *type = json_string_value(json_array_get(types, index));
        moe_int_json at = *k->at;
        at.object = own;
        const moe_int_hf_keys keys = {&at, -1};
        if (status || !json_is_object(own) || !type || !strstr(type, "full"))
            continue;
        status = moe_int_hf_size(&keys, "head_dim", MOE_INT_JSON_OPTIONAL, &m->qk_dim);
        if (!status)
            status =
                moe_int_hf_size(&keys, "num_key_value_heads", MOE_INT_JSON_OPTIONAL, &m->kv_heads);
    }
    return status;
}

/* Families whose windowed layers have other heads give these or those of the full layers keys of
 * their own: MiMo and Gemma 4. */
static moe_status read_other_heads(const moe_int_hf_keys *k, moe_model_shape *m) {
    const int64_t kv_heads = m->kv_heads, qk_dim = m->qk_dim, v_dim = m->v_dim;
    m->near.kv_heads = kv_heads, m->near.qk_dim = qk_dim, m->near.v_dim = v_dim;
    moe_status status =
        moe_int_hf_size(k, "swa_num_key_value_heads", MOE_INT_JSON_OPTIONAL, &m->near.kv_heads);
    if (!status)
        status = moe_int_hf_size(k, "swa_head_dim", MOE_INT_JSON_OPTIONAL, &m->near.qk_dim);
    if (!status)
        status = moe_int_hf_size(k, "swa_v_head_dim", MOE_INT_JSON_OPTIONAL, &m->near.v_dim);
    if (!status)
        status =
            moe_int_hf_size(k, "num_global_key_value_heads", MOE_INT_JSON_OPTIONAL, &m->kv_heads);
    if (!status)
        status = moe_int_hf_size(k, "global_head_dim", MOE_INT_JSON_OPTIONAL, &m->qk_dim);
    if (!status)
        status = read_listed_heads(k, m);
    if (m->qk_dim != qk_dim)
        m->v_dim = m->qk_dim;
    if (m->near.kv_heads == m->kv_heads && m->near.qk_dim == m->qk_dim && m->near.v_dim == m->v_dim)
        m->near.kv_heads = m->near.qk_dim = m->near.v_dim = 0;
    return status;
}

static moe_status read_heads(const moe_int_hf_keys *k, moe_model_shape *m) {
    int64_t nope = 0;
    moe_status status =
        moe_int_hf_size(k, "num_attention_heads|n_heads|n_head", MOE_INT_JSON_REQUIRED, &m->heads);
    m->kv_heads = m->heads;
    m->qk_dim = m->heads > 0 ? m->d / m->heads : 0;
    if (!status)
        status = moe_int_hf_size(k, "num_key_value_heads|attn_config.kv_n_heads",
                                 MOE_INT_JSON_OPTIONAL, &m->kv_heads);
    if (!status)
        status = moe_int_hf_size(k, "head_dim", MOE_INT_JSON_OPTIONAL, &m->qk_dim);
    m->v_dim = m->qk_dim;
    if (!status)
        status = moe_int_hf_size(k, "kv_lora_rank", MOE_INT_JSON_OPTIONAL, &m->kv_rank);
    if (!status && m->kv_rank == 0)
        status = moe_int_hf_size(k, "v_head_dim", MOE_INT_JSON_OPTIONAL, &m->v_dim);
    if (status || m->kv_rank == 0)
        return status ? status : read_other_heads(k, m);
    status = moe_int_hf_size(k, "q_lora_rank", MOE_INT_JSON_OPTIONAL, &m->q_rank);
    if (!status)
        status = moe_int_hf_size(k, "qk_rope_head_dim", MOE_INT_JSON_REQUIRED, &m->rope_dim);
    if (!status)
        status = moe_int_hf_size(k, "qk_nope_head_dim", MOE_INT_JSON_REQUIRED, &nope);
    if (!status)
        status = moe_int_hf_size(k, "v_head_dim", MOE_INT_JSON_REQUIRED, &m->v_dim);
    m->qk_dim = nope + m->rope_dim;
    return status;
}

/* Families whose attention always has them, by the modeling files of Transformers 5.24.0; others
 * say it by a key. */
static moe_status read_head_norms(const moe_int_hf_keys *k, moe_model_shape *m) {
    static const char *const always[] = {"qwen3", "olmoe", "flex_olmo", "lfm2", "dots1", "gemma4"};
    const char *type = json_string_value(json_object_get(k->at->object, "model_type"));
    bool norms = false;
    for (size_t i = 0; type && i < sizeof always / sizeof *always; i++)
        norms |= strncmp(type, always[i], strlen(always[i])) == 0;
    const moe_status status = moe_int_hf_flag(k, "use_qk_norm", &norms);
    m->head_norms = norms;
    return status;
}

static int64_t gate_of(const moe_int_family *f, const moe_model_shape *m) {
    switch (f->attention_gate) {
    case MOE_INT_GATE_NONE:
        break;
    case MOE_INT_GATE_HEADS:
        return 1;
    case MOE_INT_GATE_VALUES:
        return m->v_dim;
    }
    return 0;
}

/* Attention of no heads, or of none that hold anything, would be told as free. */
static moe_status check_heads(const moe_int_hf_keys *k, const moe_model_shape *m) {
    return m->heads > 0 && m->kv_heads > 0 && m->qk_dim > 0 && m->v_dim > 0
               ? MOE_OK
               : moe_fail(k->at->log, MOE_E_FORMAT,
                          "%s: %lld heads of attention, %lld of keys, %lld and %lld wide, are none",
                          k->at->where, (long long)m->heads, (long long)m->kv_heads,
                          (long long)m->qk_dim, (long long)m->v_dim);
}

moe_status moe_int_hf_read_heads(const moe_int_hf_keys *k, const moe_int_family *family,
                                 moe_model_shape *m) {
    moe_status status = read_head_norms(k, m);
    if (!status)
        status = read_heads(k, m);
    m->gate_dim = gate_of(family, m);
    return status ? status : check_heads(k, m);
}
