/* config.json to a layer description, through the family's row. */
#include "core/jsonx.h"
#include "hf/hf.h"
#include "hf/keys.h"

#include <stdio.h>
#include <string.h>

/* Settings that have the same few spellings everywhere. */
#define MODEL_WIDTH_KEY "hidden_size|d_model"
#define WIDTH_KEY       "moe_intermediate_size"
#define EXPERTS_KEY                                                                                \
    "num_local_experts|num_experts|n_routed_experts|moe_num_experts|ffn_config.moe_num_experts"
#define TOPK_KEY                                                                                   \
    "num_experts_per_tok|moe_topk|num_experts_per_token|moe_k|top_k_experts|ffn_config.moe_top_k"
#define GROUPS_KEY      "n_group|num_expert_group"
#define TOPK_GROUPS_KEY "topk_group"
#define RENORM_KEY      "norm_topk_prob|moe_renormalize"
#define SCALE_KEY                                                                                  \
    "routed_scaling_factor|route_scale|router_scaling_factor|moe_router_scaling_factor|"           \
    "moe_routed_scaling_factor"
#define ACT_KEY                                                                                    \
    "hidden_act|hidden_activation|activation_function|mlp_hidden_act|dense_act_fn|"                \
    "ffn_config.ffn_act_fn.name"
#define DTYPE_KEY "dtype|torch_dtype"

static moe_status read_sizes(const moe_int_hf_keys *k, const moe_int_family *f,
                             moe_layer_desc *ret) {
    const moe_int_json_need need = MOE_INT_JSON_REQUIRED;
    moe_status status = moe_int_hf_size(k, MODEL_WIDTH_KEY, need, &ret->d);
    if (!status)
        status = moe_int_hf_size(k, f->width_key ? f->width_key : WIDTH_KEY, need, &ret->n);
    if (!status)
        status = moe_int_hf_size(k, EXPERTS_KEY, need, &ret->E);
    ret->K = f->fixed_K;
    if (!status && !f->fixed_K)
        status = moe_int_hf_size(k, TOPK_KEY, need, &ret->K);
    if (!status && f->zero_key)
        status = moe_int_hf_size(k, f->zero_key, MOE_INT_JSON_OPTIONAL, &ret->n_zero);
    return status;
}

/* All factors are below 2^31. */
static moe_status read_shared(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_layer_desc *ret) {
    int64_t width = f->shared_count_key ? ret->n : 0, count = f->shared_width_key ? 1 : 0;
    moe_status status = MOE_OK;
    if (f->shared_width_key)
        status = moe_int_hf_size(k, f->shared_width_key, MOE_INT_JSON_REQUIRED, &width);
    if (!status && f->shared_count_key)
        status = moe_int_hf_size(k, f->shared_count_key, MOE_INT_JSON_OPTIONAL, &count);
    ret->n_shared = count * width;
    ret->shared_gate = f->shared_gate && ret->n_shared > 0;
    return status;
}

static moe_status read_renorm(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_router_desc *ret) {
    bool renorm = f->renorm == MOE_INT_RENORM_ALWAYS || f->renorm == MOE_INT_RENORM_CONFIG_YES;
    moe_status status = MOE_OK;
    if (f->renorm == MOE_INT_RENORM_CONFIG || f->renorm == MOE_INT_RENORM_CONFIG_YES)
        status = moe_int_hf_flag(k, RENORM_KEY, &renorm);
    ret->renorm = renorm;
    ret->renorm_eps = f->renorm_eps;
    return status;
}

static bool has_groups(int32_t select) {
    return select == MOE_SELECT_GROUP_TOPK;
}

/* Without groups in the file, or with a method that has none, all experts are one group. */
static moe_status read_select(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_router_desc *ret) {
    int64_t groups = 1, kept = 1;
    const char *method = "";
    ret->select = f->select;
    moe_status status = moe_int_hf_word(k, "topk_method", &method);
    if (status || !has_groups(f->select))
        return status;
    if (f->plain_select && strcmp(method, f->plain_select) == 0) {
        ret->select = MOE_SELECT_TOPK;
        return MOE_OK;
    }
    status = moe_int_hf_size(k, GROUPS_KEY, MOE_INT_JSON_OPTIONAL, &groups);
    if (!status && moe_int_hf_has(k, GROUPS_KEY))
        status = moe_int_hf_size(k, TOPK_GROUPS_KEY, MOE_INT_JSON_REQUIRED, &kept);
    ret->groups = (int32_t)groups;
    ret->topk_groups = (int32_t)kept;
    return status;
}

static moe_status read_score(const moe_int_hf_keys *k, const moe_int_family *f,
                             moe_router_desc *ret) {
    const char *name = "";
    ret->score = f->score;
    moe_status status = f->score_key ? moe_int_hf_word(k, f->score_key, &name) : MOE_OK;
    if (!status && f->other_score.name && strcmp(name, f->other_score.name) == 0)
        ret->score = f->other_score.score;
    return status;
}

static moe_status read_select_bias(const moe_int_hf_keys *k, const moe_int_family *f,
                                   moe_router_desc *ret) {
    bool has = f->select_bias;
    moe_status status = f->select_bias_key ? moe_int_hf_flag(k, f->select_bias_key, &has) : MOE_OK;
    ret->select_bias = has;
    return status;
}

static moe_status read_router(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_router_desc *ret) {
    ret->weight_on = f->weight_on;
    ret->bias = f->router_bias;
    moe_status status = read_score(k, f, ret);
    if (!status)
        status = read_select_bias(k, f, ret);
    if (!status)
        status = read_renorm(k, f, ret);
    if (!status)
        status = read_select(k, f, ret);
    if (!status && f->scaled)
        status = moe_int_hf_real(k, SCALE_KEY, MOE_INT_JSON_OPTIONAL, &ret->scale);
    if (!status && f->jitter_key)
        status = moe_int_hf_real(k, f->jitter_key, MOE_INT_JSON_REQUIRED, &ret->jitter);
    return status;
}

/* How the block's code multiplies what the router module hands out. */
static moe_status read_factors(const moe_int_hf_keys *k, const moe_int_family *f,
                               moe_int_hf_config *ret) {
    const char *strategy = "";
    moe_router_desc *r = &ret->layer.router;
    moe_status status = f->average_key ? moe_int_hf_word(k, f->average_key, &strategy) : MOE_OK;
    ret->weight_factor = ret->shared_factor = 1;
    if (f->reports == MOE_INT_REPORTS_UNSCALED)
        ret->weight_factor = r->scale;
    if (f->reports == MOE_INT_REPORTS_SHARE_OF_K)
        ret->weight_factor = (double)ret->layer.K;
    if (ret->layer.n_shared && strcmp(strategy, "average") == 0) {
        ret->shared_factor = 0.5;
        ret->weight_factor *= 0.5;
        r->scale *= 0.5;
    }
    return status;
}

static moe_status read_act(const moe_int_hf_keys *k, const moe_int_family *f, moe_layer_desc *ret) {
    static const struct {
        const char *name;
        int32_t act[2]; /* with and without a gate; MOE_ACT_COUNT: not known */
    } acts[] = {{"silu", {MOE_ACT_SWIGLU, MOE_ACT_SILU}},
                {"swish", {MOE_ACT_SWIGLU, MOE_ACT_SILU}},
                {"gelu", {MOE_ACT_GEGLU, MOE_ACT_GELU}},
                {"relu", {MOE_ACT_REGLU, MOE_ACT_RELU}},
                {"relu2", {MOE_ACT_COUNT, MOE_ACT_RELU2}}};
    const char *name = "silu";
    moe_status status = moe_int_hf_word(k, ACT_KEY, &name);
    if (status)
        return status;
    ret->glu_layout = f->glu_layout;
    ret->expert_bias = f->expert_bias;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        int32_t act = acts[i].act[f->ungated];
        if (strcmp(name, acts[i].name) != 0 || act == MOE_ACT_COUNT)
            continue;
        if (f->clamped && act != MOE_ACT_SWIGLU)
            break;
        ret->act = f->clamped ? MOE_ACT_SWIGLU_CLAMP : act;
        if (f->clamped)
            status = moe_int_hf_real(k, "swiglu_alpha", MOE_INT_JSON_OPTIONAL, &ret->act_alpha);
        if (!status && f->limit_key)
            status = moe_int_hf_real(k, f->limit_key, MOE_INT_JSON_OPTIONAL, &ret->act_limit);
        return status;
    }
    return moe_fail(k->at->log, MOE_E_UNSUPPORTED,
                    "%s: \"hidden_act\" \"%s\" is not supported here", k->at->where, name);
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
    const moe_int_hf_keys k = {at, -1};
    const char *name = "float32";
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

/* Where a multimodal model keeps its language model's settings. */
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

static moe_status find_family(const moe_int_json *root, moe_int_json *ret_at,
                              const moe_int_family **ret) {
    const char *model_type;
    moe_status status = moe_int_json_str(root, "model_type", MOE_INT_JSON_REQUIRED, &model_type);
    *ret = NULL;
    if (!status)
        status = family_at(root, "", ret_at, ret);
    for (size_t i = 0; !status && !*ret && i < sizeof text_configs / sizeof *text_configs; i++)
        status = family_at(root, text_configs[i], ret_at, ret);
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

static moe_status read_layer(const moe_int_hf_keys *k, const moe_int_family *f,
                             moe_int_hf_config *ret) {
    moe_status status = read_sizes(k, f, &ret->layer);
    if (!status)
        status = read_shared(k, f, &ret->layer);
    if (!status)
        status = read_router(k, f, &ret->layer.router);
    if (!status)
        status = read_factors(k, f, ret);
    return status ? status : read_act(k, f, &ret->layer);
}

static moe_status read_config(const json_t *object, const char *name, int64_t layer,
                              const moe_log *log, moe_int_hf_config *ret) {
    moe_int_json root = moe_int_json_root(object, name, log), at;
    const moe_int_hf_keys k = {&at, layer};
    moe_int_hf_config config = {0};
    moe_layer_desc_init(&config.layer);
    moe_status status = find_family(&root, &at, &config.family);
    if (!status)
        status = check_expected(&at, config.family);
    if (!status)
        status = read_layer(&k, config.family, &config);
    if (!status)
        status = read_dtype(moe_int_hf_has(&k, DTYPE_KEY) ? &at : &root, &config.dtype);
    if (!status)
        status = check_layer(&config.layer, name, log);
    if (status)
        return status;
    *ret = config;
    return MOE_OK;
}

moe_status moe_int_hf_config_parse(const char *text, size_t size, const char *name, int64_t layer,
                                   const moe_log *log, moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = moe_int_json_parse(text, size, name, log, &object);
    if (!status)
        status = read_config(object, name, layer, log, ret);
    json_decref(object);
    return status;
}

moe_status moe_int_hf_config_load(const char *path, int64_t layer, const moe_log *log,
                                  moe_int_hf_config *ret) {
    json_t *object = NULL;
    moe_status status = moe_int_json_load(path, log, &object);
    if (!status)
        status = read_config(object, path, layer, log, ret);
    json_decref(object);
    return status;
}

moe_status moe_layer_from_config(const char *path, const moe_log *log, moe_layer_desc *ret,
                                 int32_t *ret_dtype) {
    moe_int_hf_config config;
    moe_status status = moe_int_hf_config_load(path, -1, log, &config);
    if (status)
        return status;
    *ret = config.layer;
    *ret_dtype = config.dtype;
    return MOE_OK;
}
