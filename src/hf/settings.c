/* One layer's settings to its description, through the family's row. */
#include "hf/settings.h"
#include "core/jsonx.h"
#include "layer/traits.h"

#include <string.h>

/* Settings that have the same few spellings everywhere. */
#define WIDTH_KEY "moe_intermediate_size"
#define EXPERTS_KEY                                                                                \
    "num_local_experts|num_experts|n_routed_experts|moe_num_experts.0|moe_num_experts|"            \
    "ffn_config.moe_num_experts"
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

static moe_status read_sizes(const moe_int_hf_keys *k, const moe_int_family *f,
                             moe_layer_desc *ret) {
    const moe_int_json_need need = MOE_INT_JSON_REQUIRED;
    moe_status status = moe_int_hf_size(k, MOE_INT_HF_WIDTH, need, &ret->d);
    ret->n = f->fixed_n;
    if (!status && !f->fixed_n)
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

/* Without groups in the file, or with a method that has none, all experts are one group. */
static moe_status read_select(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_router_desc *ret) {
    int64_t groups = 1, kept = 1;
    const char *method = "";
    ret->select = f->select;
    moe_status status = moe_int_hf_word(k, "topk_method", &method);
    if (status || !moe_int_has_groups(f->select))
        return status;
    if (f->plain_select && (!*method || strcmp(method, f->plain_select) == 0)) {
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
    if (status || !*name || strcmp(name, "sigmoid") == 0)
        return status;
    if (strcmp(name, f->other_score.name) != 0)
        return moe_fail(k->at->log, MOE_E_UNSUPPORTED, "%s: \"%s\" \"%s\" is not supported here",
                        k->at->where, f->score_key, name);
    ret->score = f->other_score.score;
    return MOE_OK;
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
    if (ret->score == MOE_SCORE_SIGMOID_CAP && ret->jitter <= 0) /* no cap */
        ret->score = MOE_SCORE_SIGMOID;
    if (!status && f->capacity_key)
        status = moe_int_hf_size(k, f->capacity_key, MOE_INT_JSON_REQUIRED, &ret->capacity);
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

#define NO_LIMIT 1e30 /* no value reaches it, and float32 holds it */

/* Where a family's code knows layers without a limit, one that is absent, null or 0 does not limit.
 * Others clamp at whatever the file says: gates to at most 0 and ups to 0 by a limit of 0, so that
 * no expert has an output, while other programs take 0 for none. */
static moe_status read_limit(const moe_int_hf_keys *k, const moe_int_family *f, const char *key,
                             double *ret) {
    double limit = f->limit_absent;
    moe_status status = moe_int_hf_real(k, key, MOE_INT_JSON_OPTIONAL, &limit);
    if (!status && f->limit_absent > 0 && !(limit > 0))
        return moe_fail(
            k->at->log, MOE_E_UNSUPPORTED,
            "%s: \"%s\" is %g, to which the code of %s clamps, so that its experts have "
            "no output; give one above 0 (1e30 limits nothing)",
            k->at->where, key, limit, f->model_type);
    *ret = limit != 0 ? limit : NO_LIMIT;
    return status;
}

static moe_status read_limits(const moe_int_hf_keys *k, const moe_int_family *f,
                              moe_layer_desc *ret) {
    const bool limits = ret->act == MOE_ACT_SWIGLU_LIMIT || ret->act == MOE_ACT_SWIGLU_LIMIT_AFTER;
    moe_status status = MOE_OK;
    if (f->alpha_key)
        status = moe_int_hf_real(k, f->alpha_key, MOE_INT_JSON_OPTIONAL, &ret->act_alpha);
    if (!status && f->limit_key && !limits)
        status = moe_int_hf_real(k, f->limit_key, MOE_INT_JSON_OPTIONAL, &ret->act_limit);
    if (status || !limits)
        return status;
    status = read_limit(k, f, f->limit_key, &ret->act_limit);
    if (f->shared_limit_key && !*f->shared_limit_key)
        ret->act_alpha = NO_LIMIT;
    else if (!status)
        status = read_limit(k, f, f->shared_limit_key ? f->shared_limit_key : f->limit_key,
                            &ret->act_alpha);
    return status;
}

static moe_status read_act(const moe_int_hf_keys *k, const moe_int_family *f, moe_layer_desc *ret) {
    static const struct {
        const char *name;
        int32_t act[2]; /* with and without a gate; MOE_ACT_COUNT: not known */
    } acts[] = {{"silu", {MOE_ACT_SWIGLU, MOE_ACT_SILU}},
                {"swish", {MOE_ACT_SWIGLU, MOE_ACT_SILU}},
                {"gelu", {MOE_ACT_GEGLU, MOE_ACT_GELU}},
                {"gelu_pytorch_tanh", {MOE_ACT_GEGLU_TANH, MOE_ACT_COUNT}},
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
        if (f->silu && act != MOE_ACT_SWIGLU)
            break;
        if (f->block && f->block->shared_gated && acts[i].act[0] == MOE_ACT_COUNT)
            break;
        ret->act = f->silu ? f->silu : act;
        return read_limits(k, f, ret);
    }
    return moe_fail(k->at->log, MOE_E_UNSUPPORTED,
                    "%s: \"hidden_act\" \"%s\" is not supported here", k->at->where, name);
}

moe_status moe_int_hf_read_layer(const moe_int_hf_keys *k, const moe_int_family *f,
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
