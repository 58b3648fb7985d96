/* The families. A new one is a row in `families`; golden/hf/README.md says how.
 *
 * Facts come from the modeling files of Transformers 5.17.0 (router and experts) and from the names
 * in the families' public checkpoints. */
#include "hf/hf.h"

#include <pthread.h>
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

static const moe_int_family families[] = {
    {
        .model_type = "mixtral",
        .width_key = "intermediate_size",
        .score = MOE_SCORE_SOFTMAX,
        .renorm = MOE_INT_RENORM_ALWAYS,
        .module = "block_sparse_moe",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_W123},
        .memory = {[P(ROUTER)] = "gate.weight", FUSED},
    },
    {
        .model_type = "qwen2_moe",
        .width_key = "moe_intermediate_size",
        .shared_width_key = "shared_expert_intermediate_size",
        .score = MOE_SCORE_SOFTMAX,
        .renorm = MOE_INT_RENORM_CONFIG,
        .shared_gate = true,
        .module = "mlp",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ, SHARED_WITH_SIGMOID},
        .memory = {[P(ROUTER)] = "gate.weight", FUSED, SHARED_WITH_SIGMOID},
    },
    {
        .model_type = "qwen3_moe",
        .width_key = "moe_intermediate_size",
        .score = MOE_SCORE_SOFTMAX,
        .renorm = MOE_INT_RENORM_CONFIG,
        .module = "mlp",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ},
        .memory = {[P(ROUTER)] = "gate.weight", FUSED},
    },
    {
        .model_type = "olmoe",
        .width_key = "intermediate_size",
        .score = MOE_SCORE_SOFTMAX,
        .renorm = MOE_INT_RENORM_CONFIG,
        .module = "mlp",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ},
        .memory = {[P(ROUTER)] = "gate.weight", FUSED},
    },
    {
        .model_type = "deepseek_v3",
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
    {
        .model_type = "minimax_m2",
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
    {
        .model_type = "gpt_oss",
        .width_key = "intermediate_size",
        .limit_key = "swiglu_limit",
        .score = MOE_SCORE_SOFTMAX_TOPK,
        .router_bias = true,
        .expert_bias = true,
        .clamped = true,
        .glu_layout = MOE_GLU_INTERLEAVED,
        .transposed = true,
        .module = "mlp",
        .disk =
            {[P(ROUTER)] = "router.weight", [P(ROUTER_BIAS)] = "router.bias", FUSED, FUSED_BIASES},
        .memory =
            {[P(ROUTER)] = "router.weight", [P(ROUTER_BIAS)] = "router.bias", FUSED, FUSED_BIASES},
    },
    {
        .model_type = "granitemoe",
        .width_key = "intermediate_size",
        .score = MOE_SCORE_SOFTMAX_TOPK,
        .module = "block_sparse_moe",
        .disk = {[P(ROUTER)] = "router.layer.weight",
                 [P(GATE_UP)] = "input_linear.weight",
                 [P(DOWN)] = "output_linear.weight"},
        .memory = {[P(ROUTER)] = "router.weight", FUSED},
    },
    {
        .model_type = "llama4_text",
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
    {
        .model_type = "longcat_flash",
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
    {
        .model_type = "qwen3_next",
        .width_key = "moe_intermediate_size",
        .shared_width_key = "shared_expert_intermediate_size",
        .score = MOE_SCORE_SOFTMAX,
        .renorm = MOE_INT_RENORM_CONFIG_YES,
        .shared_gate = true,
        .module = "mlp",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_PROJ, SHARED_WITH_SIGMOID},
        .memory = {[P(ROUTER)] = "gate.weight", FUSED, SHARED_WITH_SIGMOID},
    },
    {
        .model_type = "phimoe",
        .width_key = "intermediate_size",
        .jitter_key = "router_jitter_noise",
        .fixed_K = 2,
        .score = MOE_SCORE_SPARSEMIXER,
        .module = "block_sparse_moe",
        .disk = {[P(ROUTER)] = "gate.weight", SPLIT_W123},
        .memory = {[P(ROUTER)] = "router.weight", FUSED},
    },
};

#define FAMILY_COUNT (sizeof families / sizeof *families)

static const char *names[FAMILY_COUNT + 1];

static void list_names(void) {
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        names[i] = families[i].model_type;
}

const char *const *moe_families(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_names);
    return names;
}

const moe_int_family *moe_int_family_find(const char *model_type) {
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i].model_type, model_type) == 0)
            return &families[i];
    }
    return NULL;
}
