/* The families. A new one is a word in `names` and a row in `families`; golden/hf/README.md says
 * how.
 *
 * Facts come from the modeling files of Transformers 5.17.0 (router and experts) and from the names
 * in the families' public checkpoints. */
#include "hf/hf.h"

#include <string.h>

#define P(part) MOE_INT_PART_##part

/* Names that several families share. */
#define SPLIT_W123                                                                                 \
    [P(GATE)] = "experts.%d.w1.weight", [P(UP)] = "experts.%d.w3.weight",                          \
    [P(DOWN)] = "experts.%d.w2.weight"
#define SPLIT_PROJ                                                                                 \
    [P(GATE)] = "experts.%d.gate_proj.weight", [P(UP)] = "experts.%d.up_proj.weight",              \
    [P(DOWN)] = "experts.%d.down_proj.weight"
#define FUSED [P(GATE_UP)] = "experts.gate_up_proj", [P(DOWN)] = "experts.down_proj"
#define FUSED_BIASES                                                                               \
    [P(GATE_UP_BIAS)] = "experts.gate_up_proj_bias", [P(DOWN_BIAS)] = "experts.down_proj_bias"
#define SHARED(name)                                                                               \
    [P(SHARED_GATE)] = name ".gate_proj.weight", [P(SHARED_UP)] = name ".up_proj.weight",          \
    [P(SHARED_DOWN)] = name ".down_proj.weight"
#define SHARED_WITH_SIGMOID                                                                        \
    SHARED("shared_expert"), [P(SHARED_SIGMOID)] = "shared_expert_gate.weight"

enum {
    MIXTRAL,
    QWEN2_MOE,
    QWEN3_MOE,
    OLMOE,
    DEEPSEEK_V3,
    MINIMAX_M2,
    GPT_OSS,
    GRANITEMOE,
    LLAMA4_TEXT,
    LONGCAT_FLASH,
    QWEN3_NEXT,
    PHIMOE,
    FAMILY_COUNT
};

static const char *const names[FAMILY_COUNT + 1] = {
    [MIXTRAL] = "mixtral",         [QWEN2_MOE] = "qwen2_moe",
    [QWEN3_MOE] = "qwen3_moe",     [OLMOE] = "olmoe",
    [DEEPSEEK_V3] = "deepseek_v3", [MINIMAX_M2] = "minimax_m2",
    [GPT_OSS] = "gpt_oss",         [GRANITEMOE] = "granitemoe",
    [LLAMA4_TEXT] = "llama4_text", [LONGCAT_FLASH] = "longcat_flash",
    [QWEN3_NEXT] = "qwen3_next",   [PHIMOE] = "phimoe",
};

static const moe_int_family families[FAMILY_COUNT] =
    {
        [MIXTRAL] =
            {
                .width_key = "intermediate_size",
                .score = MOE_SCORE_SOFTMAX,
                .renorm = MOE_INT_RENORM_ALWAYS,
                .module = "block_sparse_moe",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_W123},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED},
            },
        [QWEN2_MOE] =
            {
                .width_key = "moe_intermediate_size",
                .shared_width_key = "shared_expert_intermediate_size",
                .score = MOE_SCORE_SOFTMAX,
                .renorm = MOE_INT_RENORM_CONFIG,
                .shared_gate = true,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ, SHARED_WITH_SIGMOID},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED, SHARED_WITH_SIGMOID},
            },
        [QWEN3_MOE] =
            {
                .width_key = "moe_intermediate_size",
                .score = MOE_SCORE_SOFTMAX,
                .renorm = MOE_INT_RENORM_CONFIG,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED},
            },
        [OLMOE] =
            {
                .width_key = "intermediate_size",
                .score = MOE_SCORE_SOFTMAX,
                .renorm = MOE_INT_RENORM_CONFIG,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED},
            },
        [DEEPSEEK_V3] =
            {
                .width_key = "moe_intermediate_size",
                .shared_count_key = "n_shared_experts",
                .groups_key = "n_group",
                .topk_groups_key = "topk_group",
                .scale_key = "routed_scaling_factor",
                .expect = {{"scoring_func", "sigmoid"}, {"topk_method", "noaux_tc"}},
                .score = MOE_SCORE_SIGMOID,
                .select = MOE_SELECT_GROUP_TOPK,
                .renorm = MOE_INT_RENORM_CONFIG_YES,
                .renorm_eps = 1e-20,
                .select_bias = true,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "gate.weight",
                         [P(SELECT_BIAS)] = "gate.e_score_correction_bias",
                         SPLIT_PROJ,
                         SHARED("shared_experts")},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED, SHARED("shared_experts")},
            },
        [MINIMAX_M2] =
            {
                .width_key = "intermediate_size",
                .expect = {{"scoring_func", "sigmoid"}},
                .score = MOE_SCORE_SIGMOID,
                .renorm = MOE_INT_RENORM_ALWAYS,
                .select_bias = true,
                .module = "block_sparse_moe",
                .disk = {[P(ROUTER)] = "gate.weight",
                         [P(SELECT_BIAS)] = "e_score_correction_bias",
                         SPLIT_W123},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED},
            },
        [GPT_OSS] =
            {
                .width_key = "intermediate_size",
                .limit_key = "swiglu_limit",
                .score = MOE_SCORE_SOFTMAX_TOPK,
                .router_bias = true,
                .expert_bias = true,
                .clamped = true,
                .glu_layout = MOE_GLU_INTERLEAVED,
                .transposed = true,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "router.weight",
                         [P(ROUTER_BIAS)] = "router.bias",
                         FUSED,
                         FUSED_BIASES},
                .memory = {[P(ROUTER)] = "router.weight",
                           [P(ROUTER_BIAS)] = "router.bias",
                           FUSED,
                           FUSED_BIASES},
            },
        [GRANITEMOE] =
            {
                .width_key = "intermediate_size",
                .score = MOE_SCORE_SOFTMAX_TOPK,
                .module = "block_sparse_moe",
                .disk = {[P(ROUTER)] = "router.layer.weight",
                         [P(GATE_UP)] = "input_linear.weight",
                         [P(DOWN)] = "output_linear.weight"},
                .memory = {[P(ROUTER)] = "router.weight", FUSED},
            },
        [LLAMA4_TEXT] =
            {
                .width_key = "intermediate_size",
                .shared_width_key = "intermediate_size",
                .score = MOE_SCORE_SIGMOID,
                .weight_on = MOE_WEIGHT_ON_INPUT,
                .transposed = true,
                .dense_scores = true,
                .module = "feed_forward",
                .disk = {[P(ROUTER)] = "router.weight", FUSED, SHARED("shared_expert")},
                .memory = {[P(ROUTER)] = "router.weight", FUSED, SHARED("shared_expert")},
            },
        [LONGCAT_FLASH] =
            {
                .width_key = "expert_ffn_hidden_size",
                .zero_key = "zero_expert_num",
                .scale_key = "routed_scaling_factor",
                .expect = {{"zero_expert_type", "identity"}},
                .score = MOE_SCORE_SOFTMAX,
                .select_bias = true,
                .zero_gradients = true,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "router.classifier.weight",
                         [P(SELECT_BIAS)] = "router.e_score_correction_bias",
                         SPLIT_PROJ},
                .memory = {[P(ROUTER)] = "router.classifier.weight", FUSED},
            },
        [QWEN3_NEXT] =
            {
                .width_key = "moe_intermediate_size",
                .shared_width_key = "shared_expert_intermediate_size",
                .score = MOE_SCORE_SOFTMAX,
                .renorm = MOE_INT_RENORM_CONFIG_YES,
                .shared_gate = true,
                .module = "mlp",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ, SHARED_WITH_SIGMOID},
                .memory = {[P(ROUTER)] = "gate.weight", FUSED, SHARED_WITH_SIGMOID},
            },
        [PHIMOE] =
            {
                .width_key = "intermediate_size",
                .jitter_key = "router_jitter_noise",
                .fixed_K = 2,
                .score = MOE_SCORE_SPARSEMIXER,
                .module = "block_sparse_moe",
                .disk = {[P(ROUTER)] = "gate.weight", SPLIT_W123},
                .memory = {[P(ROUTER)] = "router.weight", FUSED},
            },
};

const char *const *moe_families(void) {
    return names;
}

const moe_int_family *moe_int_family_find(const char *model_type) {
    for (int i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(names[i], model_type) == 0)
            return &families[i];
    }
    return NULL;
}

const char *moe_int_family_name(const moe_int_family *family) {
    return names[family - families];
}
