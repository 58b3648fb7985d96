/* A config.json: its text, which family it is of, and what is beside the layer. */
#include "core/file.h"
#include "core/jsonx.h"
#include "hf/hf.h"
#include "hf/keys.h"
#include "hf/moe_layers.h"
#include "hf/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DTYPE_KEY "dtype|torch_dtype"

/* Settings of which only one value is implemented. */
static moe_status check_expected(const moe_int_json *at, const moe_int_family *f) {
    for (int i = 0; i < 2 && f->expect[i][0]; i++) {
        const char *value = f->expect[i][1];
        moe_status status = moe_int_json_str(at, f->expect[i][0], MOE_INT_JSON_OPTIONAL, &value);
        if (status)
            return status;
        if (strcmp(value, f->expect[i][1]) != 0)
            return moe_fail(at->log, MOE_E_UNSUPPORTED,
                            "%s: \"%s\" is \"%s\"; for this family only \"%s\" is supported",
                            at->where, f->expect[i][0], value, f->expect[i][1]);
    }
    return MOE_OK;
}

/* Checkpoints that do not say are bf16. */
static moe_status read_dtype(const moe_int_json *at, int32_t *ret) {
    static const struct {
        const char *name;
        int32_t dtype;
    } dtypes[] = {
        {"bfloat16", MOE_BF16}, {"float16", MOE_F16}, {"float32", MOE_F32}, {"float64", MOE_F64}};
    const moe_int_hf_keys k = {at, -1};
    const char *name = "bfloat16";
    moe_status status = moe_int_hf_word(&k, DTYPE_KEY, &name);
    if (status)
        return status;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *ret = dtypes[i].dtype;
            return MOE_OK;
        }
    }
    return moe_fail(at->log, MOE_E_UNSUPPORTED, "%s: \"dtype\" \"%s\" is not supported", at->where,
                    name);
}

static moe_status fail_unknown(const moe_int_json *at, const char *model_type) {
    char list[2048] = "";
    size_t used = 0;
    for (const char *const *name = moe_families(); *name && used < sizeof list; name++)
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", *name);
    return moe_fail(at->log, MOE_E_UNSUPPORTED,
                    "%s: \"model_type\" \"%.64s\" is not a known family; known are:%s", at->where,
                    model_type, list);
}

/* Where a multimodal model keeps its language model's settings. Some have a type of the same name
 * as a text model's file: those have no width at the root. */
static const char *const text_configs[] = {"text_config", "thinker_config.text_config",
                                           "talker_config.text_config", "llm_config"};

/* The family of the object at a path of keys, NULL where the path leads nowhere. */
static moe_status family_at(const moe_int_json *root, const char *path, moe_int_json *ret_at,
                            const moe_int_family **ret) {
    char key[64];
    moe_int_json at = *root;
    const char *model_type = "";
    moe_status status = MOE_OK;
    for (size_t length; !status && *path; path += length + (path[length] == '.')) {
        moe_int_json inner;
        length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        if (!moe_int_json_has(&at, key))
            return MOE_OK;
        status = moe_int_json_object(&at, key, MOE_INT_JSON_REQUIRED, &inner);
        at = inner;
    }
    if (!status)
        status = moe_int_json_str(&at, "model_type", MOE_INT_JSON_OPTIONAL, &model_type);
    if (status)
        return status;
    *ret_at = at;
    *ret = moe_int_family_find(model_type);
    return MOE_OK;
}

moe_status moe_int_hf_find_family(const moe_int_json *root, moe_int_json *ret_at,
                                  const moe_int_family **ret) {
    const moe_int_hf_keys k = {root, -1};
    const char *model_type;
    moe_status status = moe_int_json_str(root, "model_type", MOE_INT_JSON_REQUIRED, &model_type);
    *ret = NULL;
    if (!status && moe_int_hf_has(&k, MOE_INT_HF_WIDTH))
        status = family_at(root, "", ret_at, ret);
    for (size_t i = 0; !status && !*ret && i < sizeof text_configs / sizeof *text_configs; i++)
        status = family_at(root, text_configs[i], ret_at, ret);
    if (!status && !*ret)
        status = family_at(root, "", ret_at, ret);
    if (status)
        return status;
    return *ret ? MOE_OK : fail_unknown(root, model_type);
}

/* Keeps a message, so that it can be sent again with the file's name before it. */
typedef struct kept_message {
    char text[256];
} kept_message;

static void keep_message(void *user, moe_log_level level, const char *message) {
    kept_message *kept = user;
    if (level == MOE_LOG_ERROR)
        snprintf(kept->text, sizeof kept->text, "%s", message);
}

static moe_status check_layer(const moe_layer_desc *layer, const char *name, const moe_log *log) {
    kept_message kept = {""};
    moe_log keeper = {keep_message, &kept};
    moe_status status = moe_layer_desc_check(layer, 1, &keeper);
    return status ? moe_fail(log, MOE_E_FORMAT, "%s: %s", name, kept.text) : MOE_OK;
}

static moe_status read_config(const json_t *object, const char *name, int64_t layer,
                              const moe_log *log, moe_int_hf_config *ret) {
    moe_int_json root = moe_int_json_root(object, name, log), at;
    const moe_int_hf_keys k = {&at, layer};
    moe_int_hf_config config = {0};
    moe_layer_desc_init(&config.layer);
    moe_status status = moe_int_hf_find_family(&root, &at, &config.family);
    if (!status)
        status = check_expected(&at, config.family);
    if (!status)
        status = moe_int_hf_read_layer(&k, config.family, &config);
    if (!status)
        status = read_dtype(moe_int_hf_has(&k, DTYPE_KEY) ? &at : &root, &config.dtype);
    if (!status)
        status = check_layer(&config.layer, name, log);
    if (!status)
        status = moe_int_hf_read_block(&k, config.family, &config);
    if (status)
        return status;
    const moe_int_hf_keys whole = {&root, -1};
    config.dtype_said = moe_int_hf_has(&k, DTYPE_KEY) || moe_int_hf_has(&whole, DTYPE_KEY);
    config.quantised = moe_int_json_has(&root, "quantization_config") ||
                       moe_int_json_has(&at, "quantization_config");
    config.two_stacks = json_is_true(json_object_get(at.object, "is_encoder_decoder"));
    moe_log silent = {0};
    at.log = &silent;
    moe_int_hf_moe_layers(&k, config.has_experts, &config.layers);
    *ret = config;
    return MOE_OK;
}

/* Python writes numbers that JSON does not have: Infinity and NaN become 1e308 and null. The copy
 * has room for that, the caller frees it. */
static char *without_infinities(const char *text, size_t size, size_t *ret_size) {
    char *copy = malloc(2 * size + 1), *to = copy;
    bool quoted = false;
    for (size_t i = 0; copy && i < size; i++) {
        if (!quoted && size - i >= 8 && memcmp(text + i, "Infinity", 8) == 0) {
            memcpy(to, "1e308", 5);
            to += 5;
            i += 7;
        } else if (!quoted && size - i >= 3 && memcmp(text + i, "NaN", 3) == 0) {
            memcpy(to, "null", 4);
            to += 4;
            i += 2;
        } else {
            quoted ^= text[i] == '"';
            *to++ = text[i];
            if (quoted && text[i] == '\\' && i + 1 < size)
                *to++ = text[++i];
        }
    }
    *ret_size = (size_t)(to - copy);
    return copy;
}

static moe_status parse_object(const char *text, size_t size, const char *name, const moe_log *log,
                               json_t **ret) {
    size_t copied;
    char *copy = without_infinities(text, size, &copied);
    if (!copy)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory", name);
    const moe_status status = moe_int_json_parse(copy, copied, name, log, ret);
    free(copy);
    return status;
}

moe_status moe_int_hf_config_parse(const char *text, size_t size, const char *name, int64_t layer,
                                   const moe_log *log, moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = parse_object(text, size, name, log, &object);
    if (!status)
        status = read_config(object, name, layer, log, ret);
    json_decref(object);
    return status;
}

#define FILE_LIMIT 100000000 /* bytes */

moe_status moe_int_hf_load_object(const char *path, const moe_log *log, json_t **ret) {
    char *text = NULL;
    size_t size = 0;
    moe_status status = moe_int_file_read(path, FILE_LIMIT, log, &text, &size);
    if (!status)
        status = parse_object(text, size, path, log, ret);
    free(text);
    return status;
}

moe_status moe_int_hf_config_load(const char *path, int64_t layer, const moe_log *log,
                                  moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = moe_int_hf_load_object(path, log, &object);
    if (!status)
        status = read_config(object, path, layer, log, ret);
    json_decref(object);
    return status;
}
