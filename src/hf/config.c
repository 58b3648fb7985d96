/* config.json to a layer description, through the family's row. */
#include "core/jsonx.h"
#include "hf/hf.h"

#include <stdio.h>
#include <string.h>

#define LARGEST_SIZE INT32_MAX /* moe_layer_desc_check has the real limits */

/* Spellings of the same setting; the first one that is present counts. */
static const char *const expert_keys[] = {"num_local_experts", "num_experts", "n_routed_experts",
                                          NULL};
static const char *const topk_keys[] = {"num_experts_per_tok", "moe_topk", NULL};
static const char *const dtype_keys[] = {"dtype", "torch_dtype", NULL};

static const char *first_present(const moe_int_json *at, const char *const *keys) {
    for (; *keys; keys++) {
        if (moe_int_json_has(at, *keys))
            return *keys;
    }
    return NULL;
}

static moe_status read_size(const moe_int_json *at, const char *key, int64_t *ret) {
    return moe_int_json_i64(at, key, MOE_INT_JSON_REQUIRED, 0, LARGEST_SIZE, ret);
}

static moe_status read_spelled(const moe_int_json *at, const char *const *keys, int64_t *ret) {
    const char *key = first_present(at, keys);
    if (key)
        return read_size(at, key, ret);
    char list[128] = "";
    for (size_t used = 0; *keys && used < sizeof list; keys++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s\"%s\"", used ? " or " : "",
                                 *keys);
    return moe_fail(at->log, MOE_E_FORMAT, "%s: %s is missing", at->where, list);
}

static moe_status read_sizes(const moe_int_json *at, const moe_int_family *f, moe_layer_desc *ret) {
    moe_status status = read_size(at, "hidden_size", &ret->d);
    if (!status)
        status = read_size(at, f->width_key, &ret->n);
    if (!status)
        status = read_spelled(at, expert_keys, &ret->E);
    ret->K = f->fixed_K;
    if (!status && !f->fixed_K)
        status = read_spelled(at, topk_keys, &ret->K);
    if (!status && f->zero_key)
        status =
            moe_int_json_i64(at, f->zero_key, MOE_INT_JSON_OPTIONAL, 0, LARGEST_SIZE, &ret->n_zero);
    return status;
}

static moe_status read_shared(const moe_int_json *at, const moe_int_family *f,
                              moe_layer_desc *ret) {
    moe_status status = MOE_OK;
    if (f->shared_width_key)
        status = read_size(at, f->shared_width_key, &ret->n_shared);
    if (f->shared_count_key) {
        int64_t count = 0;
        status = moe_int_json_i64(at, f->shared_count_key, MOE_INT_JSON_OPTIONAL, 0, LARGEST_SIZE,
                                  &count);
        ret->n_shared = count * ret->n; /* both below 2^31 */
    }
    ret->shared_gate = f->shared_gate && ret->n_shared > 0;
    return status;
}

static moe_status read_renorm(const moe_int_json *at, const moe_int_family *f,
                              moe_router_desc *ret) {
    bool renorm = f->renorm == MOE_INT_RENORM_ALWAYS || f->renorm == MOE_INT_RENORM_CONFIG_YES;
    moe_status status = MOE_OK;
    if (f->renorm == MOE_INT_RENORM_CONFIG || f->renorm == MOE_INT_RENORM_CONFIG_YES)
        status = moe_int_json_bool(at, "norm_topk_prob", MOE_INT_JSON_OPTIONAL, &renorm);
    ret->renorm = renorm;
    ret->renorm_eps = f->renorm_eps;
    return status;
}

static moe_status read_groups(const moe_int_json *at, const moe_int_family *f,
                              moe_router_desc *ret) {
    int64_t groups, kept;
    if (!f->groups_key)
        return MOE_OK;
    moe_status status = read_size(at, f->groups_key, &groups);
    if (!status)
        status = read_size(at, f->topk_groups_key, &kept);
    if (status)
        return status;
    ret->groups = (int32_t)groups;
    ret->topk_groups = (int32_t)kept;
    return MOE_OK;
}

static moe_status read_router(const moe_int_json *at, const moe_int_family *f,
                              moe_router_desc *ret) {
    ret->score = f->score;
    ret->select = f->select;
    ret->weight_on = f->weight_on;
    ret->bias = f->router_bias;
    ret->select_bias = f->select_bias;
    moe_status status = read_renorm(at, f, ret);
    if (!status)
        status = read_groups(at, f, ret);
    if (!status && f->scale_key)
        status = moe_int_json_f64(at, f->scale_key, MOE_INT_JSON_REQUIRED, &ret->scale);
    if (!status && f->jitter_key)
        status = moe_int_json_f64(at, f->jitter_key, MOE_INT_JSON_REQUIRED, &ret->jitter);
    return status;
}

static moe_status read_act(const moe_int_json *at, const moe_int_family *f, moe_layer_desc *ret) {
    static const struct {
        const char *name;
        int32_t act;
    } acts[] = {{"silu", MOE_ACT_SWIGLU},
                {"swish", MOE_ACT_SWIGLU},
                {"gelu", MOE_ACT_GEGLU},
                {"relu", MOE_ACT_REGLU}};
    const char *name = "silu";
    moe_status status = moe_int_json_str(at, "hidden_act", MOE_INT_JSON_OPTIONAL, &name);
    if (status)
        return status;
    ret->glu_layout = f->glu_layout;
    ret->expert_bias = f->expert_bias;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (strcmp(name, acts[i].name) != 0)
            continue;
        if (f->clamped && acts[i].act != MOE_ACT_SWIGLU)
            break;
        ret->act = f->clamped ? MOE_ACT_SWIGLU_CLAMP : acts[i].act;
        if (f->limit_key)
            status = moe_int_json_f64(at, f->limit_key, MOE_INT_JSON_OPTIONAL, &ret->act_limit);
        return status;
    }
    return moe_fail(at->log, MOE_E_UNSUPPORTED, "%s: \"hidden_act\" \"%s\" is not supported here",
                    at->where, name);
}

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

/* Absent means float32, as Transformers has it. */
static moe_status read_dtype(const moe_int_json *at, int32_t *ret) {
    static const struct {
        const char *name;
        int32_t dtype;
    } dtypes[] = {
        {"bfloat16", MOE_BF16}, {"float16", MOE_F16}, {"float32", MOE_F32}, {"float64", MOE_F64}};
    const char *key = first_present(at, dtype_keys), *name = "float32";
    moe_status status = key ? moe_int_json_str(at, key, MOE_INT_JSON_REQUIRED, &name) : MOE_OK;
    if (status)
        return status;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *ret = dtypes[i].dtype;
            return MOE_OK;
        }
    }
    return moe_fail(at->log, MOE_E_UNSUPPORTED, "%s: \"%s\" \"%s\" is not supported", at->where,
                    key, name);
}

static moe_status fail_unknown(const moe_int_json *at, const char *model_type) {
    char list[512] = "";
    size_t used = 0;
    for (const char *const *name = moe_families(); *name && used < sizeof list; name++)
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", *name);
    return moe_fail(at->log, MOE_E_UNSUPPORTED,
                    "%s: \"model_type\" \"%.64s\" is not a known family; known are:%s", at->where,
                    model_type, list);
}

/* A multimodal model keeps its language model's settings in "text_config". */
static moe_status find_family(const moe_int_json *root, moe_int_json *ret_at,
                              const moe_int_family **ret) {
    const char *model_type, *text_type = "";
    moe_status status = moe_int_json_str(root, "model_type", MOE_INT_JSON_REQUIRED, &model_type);
    if (status)
        return status;
    *ret_at = *root;
    *ret = moe_int_family_find(model_type);
    if (!*ret && moe_int_json_has(root, "text_config")) {
        status = moe_int_json_object(root, "text_config", MOE_INT_JSON_REQUIRED, ret_at);
        if (!status)
            status = moe_int_json_str(ret_at, "model_type", MOE_INT_JSON_OPTIONAL, &text_type);
        if (status)
            return status;
        *ret = moe_int_family_find(text_type);
    }
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

static moe_status read_config(const json_t *object, const char *name, const moe_log *log,
                              moe_int_hf_config *ret) {
    moe_int_json root = moe_int_json_root(object, name, log), at;
    moe_int_hf_config config = {0};
    moe_layer_desc_init(&config.layer);
    moe_status status = find_family(&root, &at, &config.family);
    if (!status)
        status = check_expected(&at, config.family);
    if (!status)
        status = read_sizes(&at, config.family, &config.layer);
    if (!status)
        status = read_shared(&at, config.family, &config.layer);
    if (!status)
        status = read_router(&at, config.family, &config.layer.router);
    if (!status)
        status = read_act(&at, config.family, &config.layer);
    if (!status)
        status = read_dtype(first_present(&at, dtype_keys) ? &at : &root, &config.dtype);
    if (!status)
        status = check_layer(&config.layer, name, log);
    if (status)
        return status;
    *ret = config;
    return MOE_OK;
}

moe_status moe_int_hf_config_parse(const char *text, size_t size, const char *name,
                                   const moe_log *log, moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = moe_int_json_parse(text, size, name, log, &object);
    if (!status)
        status = read_config(object, name, log, ret);
    json_decref(object);
    return status;
}

moe_status moe_int_hf_config_load(const char *path, const moe_log *log, moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = moe_int_json_load(path, log, &object);
    if (!status)
        status = read_config(object, path, log, ret);
    json_decref(object);
    return status;
}

moe_status moe_layer_from_config(const char *path, const moe_log *log, moe_layer_desc *ret,
                                 int32_t *ret_dtype) {
    moe_int_hf_config config;
    moe_status status = moe_int_hf_config_load(path, log, &config);
    if (status)
        return status;
    *ret = config.layer;
    *ret_dtype = config.dtype;
    return MOE_OK;
}
