/* What a config.json alone says: a layer, which layers have experts, and a whole model's sizes. */
#include "core/jsonx.h"
#include "hf/hf.h"
#include "hf/keys.h"
#include "hf/moe_layers.h"

/* What a reader of shapes should know beside them. */
static void say_notes(const moe_int_hf_config *c, const char *path, const moe_log *log) {
    if (!c->dtype_said)
        moe_log_send(log, MOE_LOG_WARN, "%s: no dtype, taken as bf16", path);
    if (c->quantised)
        moe_log_send(log, MOE_LOG_WARN, "%s: its weights are quantised; taken as %s", path,
                     moe_dtype_name((moe_dtype)c->dtype));
    const char *left_out = !c->block            ? ""
                           : c->block->left_out ? c->block->left_out
                                                : c->block->what;
    if (*left_out)
        moe_log_send(log, MOE_LOG_WARN, "%s: the layer is taken without %s", path, left_out);
}

/* As moe_layer_from_config has it: d is the experts' width. */
static void take_layer(const moe_int_hf_config *c, moe_layer_desc *ret, int64_t *ret_hidden) {
    const bool projected = c->block && c->block->latent_key;
    *ret = c->layer;
    *ret_hidden = projected ? c->layer.d : 0;
    if (projected)
        ret->d = c->numbers.latent;
}

moe_status moe_layers_from_config(const char *path, const moe_log *log, int64_t *ret_moe,
                                  int64_t *ret_all) {
    moe_int_hf_config config = {0};
    moe_status status = moe_int_hf_config_load(path, -1, log, &config);
    if (status)
        return status;
    if (config.two_stacks)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "%s: the model has an encoder and a decoder; all layers are read of models "
                        "that have one stack of them",
                        path);
    if (!config.layers)
        return moe_fail(log, MOE_E_FORMAT,
                        "%s does not say how many layers the model has, or more than %d", path,
                        MOE_INT_HF_LAYERS_MAX);
    *ret_moe = 0;
    for (int64_t layer = 0; layer < config.layers; layer++)
        *ret_moe += config.has_experts[layer];
    *ret_all = config.layers;
    return MOE_OK;
}

moe_status moe_model_shape_from_config(const char *path, const moe_log *log, moe_model_shape *ret) {
    moe_model_shape m = {0};
    moe_int_hf_config config;
    json_t *object = NULL;
    moe_int_json root, at;
    const moe_int_family *family;
    moe_status status = moe_int_hf_config_load(path, -1, log, &config);
    if (!status)
        status = moe_int_hf_load_object(path, log, &object);
    if (!status) {
        root = moe_int_json_root(object, path, log);
        status = moe_int_hf_find_family(&root, &at, &family);
    }
    if (!status) {
        const moe_int_hf_keys k = {&at, -1};
        m.layer = config.layer;
        m.d = config.layer.d;
        status = moe_int_hf_read_shape(&k, family, &m);
    }
    json_decref(object);
    if (!status)
        *ret = m;
    return status;
}

moe_status moe_layer_from_config(const char *path, const moe_log *log, moe_layer_desc *ret,
                                 int64_t *ret_hidden, int32_t *ret_dtype) {
    moe_int_hf_config config = {0};
    moe_status status = moe_int_hf_config_load(path, -1, log, &config);
    if (status)
        return status;
    say_notes(&config, path, log);
    take_layer(&config, ret, ret_hidden);
    *ret_dtype = config.dtype;
    return MOE_OK;
}

moe_status moe_layer_of_config(const char *path, int64_t layer, const moe_log *log,
                               moe_layer_desc *ret, int64_t *ret_hidden) {
    moe_int_hf_config config = {0};
    moe_status status = moe_int_hf_config_load(path, -1, log, &config);
    if (status)
        return status;
    if (layer < 0 || layer >= config.layers || !config.has_experts[layer])
        return MOE_E_NOTFOUND;
    status = moe_int_hf_config_load(path, layer, log, &config);
    if (!status)
        take_layer(&config, ret, ret_hidden);
    return status;
}
