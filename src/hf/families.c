/* The families. A new one is a row in `families`; golden/hf/README.md says how.
 *
 * Facts come from the modeling files of Transformers 5.24.0 (router and experts) and from the names
 * in the families' public checkpoints. */
#include "hf/hf.h"
#include "hf/keys.h"

#include <pthread.h>
#include <string.h>

#define P(part) MOE_INT_PART_##part

/* Parts that are stored [E][in][out]. */
#define TRANSPOSED (1u << P(GATE_UP) | 1u << P(DOWN))

/* Routers that several families have. */
#define SOFTMAX(how)                                                                               \
    .score = MOE_SCORE_SOFTMAX, .renorm = MOE_INT_RENORM_##how /* top-K of a softmax over all */
#define DEEPSEEK_V3                                                                                \
    .score = MOE_SCORE_SIGMOID, .select = MOE_SELECT_GROUP_TOPK, .scaled = true,                   \
    .renorm = MOE_INT_RENORM_CONFIG_YES, .renorm_eps = 1e-20, .select_bias = true
#define DEEPSEEK_V2                                                                                \
    SHARED_COUNT, .score = MOE_SCORE_SOFTMAX, .select = MOE_SELECT_GROUP_MAX,                      \
                  .plain_select = "greedy", .scaled = true
#define SIGMOID_BIAS(how) /* as DeepSeek-V3, without groups */                                     \
    .score = MOE_SCORE_SIGMOID, .renorm = MOE_INT_RENORM_##how, .select_bias = true
#define SHARED_COUNT .shared_count_key = "n_shared_experts|num_shared_experts"
#define SHARED_WIDTH .shared_width_key = "shared_expert_intermediate_size"
#define GATED(by)    .attention_gate = MOE_INT_GATE_##by
#define INTERMEDIATE .width_key = "intermediate_size"

/* A limit that Transformers takes literally, 0 too, and its own where the file has none. */
#define LIMIT .silu = MOE_ACT_SWIGLU_LIMIT, .limit_key = "swiglu_limit", .limit_absent = 10
#define INKLING2                                                                                   \
    SIGMOID_BIAS(ALWAYS), .renorm_eps = 1e-20, .scaled = true, .silu = MOE_ACT_SWIGLU_SOFTCAP,     \
                          .alpha_key = "mlp_gate_softcap", .limit_key = "mlp_up_softcap",          \
                          .score_key = "scoring_func",                                             \
                          .other_score = {"sqrtsoftplus", MOE_SCORE_SQRT_SOFTPLUS},                \
                          .names = {                                                               \
                              [P(GATE_UP)] = "~experts.w13_weight|experts.gate_up_proj",           \
                              [P(DOWN)] = "experts.w2_weight|experts.down_proj",                   \
    }

#define GEMMA4                                                                                     \
    SOFTMAX(ALWAYS), .module = "", .block = &moe_int_block_gemma4, .dense_beside = true,           \
                     .names = {[P(ROUTER)] = "router.proj.weight"}

/* A Granite decoder layer: the routed block and one fused shared part beside it. */
#define GRANITE_SHARED                                                                             \
    INTERMEDIATE,                                                                                  \
        .shared_width_key = "shared_intermediate_size", .score = MOE_SCORE_SOFTMAX_TOPK,           \
        .module = "",                                                                              \
        .names = {                                                                                 \
            [P(ROUTER)] = "block_sparse_moe.router.layer.weight|block_sparse_moe.router.weight",   \
            [P(GATE_UP)] =                                                                         \
                "block_sparse_moe.input_linear.weight|block_sparse_moe.experts.gate_up_proj",      \
            [P(DOWN)] =                                                                            \
                "block_sparse_moe.output_linear.weight|block_sparse_moe.experts.down_proj",        \
            [P(SHARED_GATE_UP)] = "shared_mlp.input_linear.weight",                                \
            [P(SHARED_DOWN)] = "shared_mlp.output_linear.weight",                                  \
    }

/* clang-format off */
static const moe_int_family families[] = {
    {.model_type = "mixtral", INTERMEDIATE, SOFTMAX(ALWAYS)},
    {.model_type = "qwen2_moe", SHARED_WIDTH, SOFTMAX(CONFIG), .shared_gate = true},
    {.model_type = "qwen3_moe", SOFTMAX(CONFIG)},
    {.model_type = "olmoe", INTERMEDIATE, SOFTMAX(CONFIG)},
    {.model_type = "deepseek_v3|kimi_k2", SHARED_COUNT, DEEPSEEK_V3,
     .expect = {{"scoring_func", "sigmoid"}, {"topk_method", "noaux_tc"}}},
    {.model_type = "minimax_m2", INTERMEDIATE, SIGMOID_BIAS(ALWAYS),
     .expect = {{"scoring_func", "sigmoid"}}},
    {.model_type = "gpt_oss", INTERMEDIATE, .limit_key = "swiglu_limit",
     .score = MOE_SCORE_SOFTMAX_TOPK, .router_bias = true, .expert_bias = true,
     .silu = MOE_ACT_SWIGLU_CLAMP, .alpha_key = "swiglu_alpha", .glu_layout = MOE_GLU_INTERLEAVED,
     .transposed = TRANSPOSED},
    {.model_type = "granitemoe", INTERMEDIATE, .score = MOE_SCORE_SOFTMAX_TOPK},
    {.model_type = "llama4_text", INTERMEDIATE, .shared_width_key = "intermediate_size",
     .score = MOE_SCORE_SIGMOID, .weight_on = MOE_WEIGHT_ON_INPUT, .transposed = TRANSPOSED,
     .reports = MOE_INT_REPORTS_DENSE},
    {.model_type = "longcat_flash", .width_key = "expert_ffn_hidden_size",
     .zero_key = "zero_expert_num", .expect = {{"zero_expert_type", "identity"}}, .twice = true,
     .score = MOE_SCORE_SOFTMAX, .scaled = true, .select_bias = true, .zero_gradients = true},
    {.model_type = "qwen3_next", GATED(VALUES), SHARED_WIDTH, SOFTMAX(CONFIG_YES),
     .shared_gate = true},
    {.model_type = "phimoe", INTERMEDIATE, .jitter_key = "router_jitter_noise", .fixed_K = 2,
     .score = MOE_SCORE_SPARSEMIXER},

    /* DeepSeek-V3's router */
    {.model_type = "deepseek_v32", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "glm4_moe", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "glm4_moe_lite", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "glm_moe_dsa", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "glm4v_moe_text", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "dots1", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "dots3_note_text", .shared_width_key = "shared_experts_intermediate_size",
     SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "solar_open", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "sarvam_mla", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "sarvam_moe", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "exaone_moe", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "mimo_v2_flash", DEEPSEEK_V3},
    {.model_type = "bailing_hybrid", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "kimi_linear", SHARED_COUNT, DEEPSEEK_V3},
    {.model_type = "beam", GATED(VALUES), DEEPSEEK_V3, .reports = MOE_INT_REPORTS_UNSCALED},
    {.model_type = "nemotron_h", .shared_width_key = "moe_shared_expert_intermediate_size",
     DEEPSEEK_V3, .ungated = true, .module = "mixer", .block = &moe_int_block_latent},
    {.model_type = "mistral4", SHARED_COUNT, .score = MOE_SCORE_SOFTMAX,
     .select = MOE_SELECT_GROUP_TOPK, .scaled = true, .renorm = MOE_INT_RENORM_CONFIG_YES,
     .renorm_eps = 1e-20},
    {.model_type = "mistral_large4_text", SHARED_COUNT, .score = MOE_SCORE_SOFTMAX,
     .select = MOE_SELECT_GROUP_TOPK, .scaled = true, .renorm = MOE_INT_RENORM_ALWAYS,
     .renorm_eps = 1e-20, .module = "mlp|"},

    /* sigmoid without groups */
    {.model_type = "afmoe", GATED(VALUES), SHARED_COUNT, SIGMOID_BIAS(ALWAYS), .renorm_eps = 1e-20,
     .scaled = true},
    {.model_type = "hy_v3", SHARED_COUNT, SIGMOID_BIAS(ALWAYS), .renorm_eps = 1e-20,
     .scaled = true},
    {.model_type = "lfm2_moe", SIGMOID_BIAS(CONFIG_YES), .renorm_eps = 1e-6, .scaled = true,
     .select_bias_key = "use_expert_bias"},
    {.model_type = "flint", SHARED_WIDTH, .score = MOE_SCORE_SIGMOID,
     .renorm = MOE_INT_RENORM_CONFIG_YES},
    {.model_type = "cohere2_moe", INTERMEDIATE, SHARED_COUNT, .score = MOE_SCORE_SIGMOID,
     .renorm = MOE_INT_RENORM_CONFIG_YES, .score_key = "expert_selection_fn",
     .other_score = {"softmax", MOE_SCORE_SOFTMAX_TOPK},
     .average_key = "shared_expert_combination_strategy"},
    {.model_type = "minimax_m3_vl_text|minimax_m3", INTERMEDIATE,
     .shared_width_key = "shared_intermediate_size", SIGMOID_BIAS(ALWAYS), .scaled = true,
     .silu = MOE_ACT_SWIGLU_CLAMP, .alpha_key = "swiglu_alpha", .limit_key = "swiglu_limit",
     .reports = MOE_INT_REPORTS_UNSCALED},

    {.model_type = "kolibri1", SHARED_WIDTH, .score = MOE_SCORE_SIGMOID_LOGIT,
     .select_bias = true, .renorm = MOE_INT_RENORM_CONFIG_YES,
     .names = {[P(SELECT_BIAS)] = "^moe.router.expert_bias|gate.e_score_correction_bias"}},
    {.model_type = "laguna", GATED(HEADS), SHARED_WIDTH, .score = MOE_SCORE_SIGMOID_CAP,
     .select_bias = true, .jitter_key = "moe_router_logit_softcapping",
     .renorm = MOE_INT_RENORM_ALWAYS, .scaled = true, .reports = MOE_INT_REPORTS_UNSCALED},

    /* clamped and capped SwiGLU */
    {.model_type = "glm5_next_text", SHARED_COUNT, DEEPSEEK_V3, LIMIT},
    {.model_type = "hy_v4", SHARED_COUNT, DEEPSEEK_V3, LIMIT, .shared_limit_key = ""},
    {.model_type = "hy_v4_vl_text", SHARED_COUNT, DEEPSEEK_V3, LIMIT, .shared_limit_key = ""},
    {.model_type = "deepseek_v4", SHARED_COUNT, .score = MOE_SCORE_SQRT_SOFTPLUS,
     .select_bias = true, .renorm = MOE_INT_RENORM_ALWAYS, .renorm_eps = 1e-20, .scaled = true,
     LIMIT, .expect = {{"scoring_func", "sqrtsoftplus"}}, .block = &moe_int_block_hash},
    {.model_type = "step3p5|step3p7", GATED(HEADS), .shared_width_key = "share_expert_dim",
     SIGMOID_BIAS(ALWAYS), .scaled = true, .silu = MOE_ACT_SWIGLU_LIMIT_AFTER,
     .limit_key = "swiglu_limits", .shared_limit_key = "swiglu_limits_shared",
     .reports = MOE_INT_REPORTS_UNSCALED},
    {.model_type = "inkling2_text", INKLING2},
    {.model_type = "inkling2_loop_text", INKLING2},

    /* groups ranked by their best expert, and masked by 0 */
    {.model_type = "deepseek_v2", DEEPSEEK_V2},
    {.model_type = "deepseek_ocr2_text", DEEPSEEK_V2},
    {.model_type = "unlimited_ocr_text", DEEPSEEK_V2},
    {.model_type = "axk2", SHARED_COUNT, .score = MOE_SCORE_SIGMOID,
     .select = MOE_SELECT_GROUP_ZERO, .scaled = true, .renorm = MOE_INT_RENORM_CONFIG_YES,
     .renorm_eps = 1e-20, .select_bias = true},

    /* softmax */
    {.model_type = "flex_olmo", INTERMEDIATE, SOFTMAX(CONFIG)},
    {.model_type = "mellum", SOFTMAX(CONFIG_YES)},
    {.model_type = "minimax", INTERMEDIATE, SOFTMAX(ALWAYS)},
    {.model_type = "jamba", INTERMEDIATE, SOFTMAX(NEVER)},
    {.model_type = "qwen3_omni_moe_text", SOFTMAX(CONFIG_YES)},
    {.model_type = "qwen3_vl_moe_text", SOFTMAX(ALWAYS)},
    {.model_type = "qwen3_5_moe_text", GATED(VALUES), SHARED_WIDTH, SOFTMAX(ALWAYS),
     .shared_gate = true},
    {.model_type = "qwen4_exp_text", GATED(VALUES), SHARED_WIDTH, SOFTMAX(CONFIG_YES),
     .shared_gate = true},
    {.model_type = "qwen3_omni_moe_talker_text", SHARED_WIDTH, SOFTMAX(CONFIG),
     .shared_gate = true},
    {.model_type = "lara_mini", SHARED_WIDTH, SOFTMAX(CONFIG_YES)},
    {.model_type = "hunyuan_v1_moe", .width_key = "intermediate_size",
     .shared_width_key = "intermediate_size", SOFTMAX(ALWAYS)},
    {.model_type = "ernie4_5_moe", .shared_count_key = "moe_num_shared_experts", SOFTMAX(ALWAYS),
     .select_bias = true},
    {.model_type = "ernie4_5_vl_moe_text", /* lists: of text, of images */
     .left_out = "experts of images",
     .width_key = "moe_intermediate_size.0|moe_intermediate_size",
     .shared_count_key = "moe_num_shared_experts",
     SOFTMAX(ALWAYS), .select_bias = true,
     .names = {[P(ROUTER)] = "gate.weight|text_moe.gate.weight",
               [P(SELECT_BIAS)] = "moe_statics.e_score_correction_bias|"
                                  "text_moe.gate.moe_statics.e_score_correction_bias",
               [P(GATE_UP)] = "text_moe.experts.gate_up_proj",
               [P(DOWN)] = "experts.%d.down_proj.weight|text_moe.experts.down_proj"}},
    {.model_type = "dbrx", .width_key = "ffn_config.ffn_hidden_size", SOFTMAX(ALWAYS),
     .transposed = 1u << P(DOWN),
     .names = {[P(GATE)] = "experts.mlp.w1", [P(UP)] = "experts.mlp.v1",
               [P(DOWN)] = "experts.mlp.w2"}},

    /* softmax over the chosen */
    {.model_type = "granitemoeshared", GRANITE_SHARED},
    {.model_type = "granitemoehybrid", GRANITE_SHARED},
    {.model_type = "granitemoe_swa", GRANITE_SHARED},
    {.model_type = "aria_text", INTERMEDIATE, .shared_count_key = "moe_num_shared_experts",
     .score = MOE_SCORE_SOFTMAX_TOPK, .transposed = TRANSPOSED,
     .expect = {{"hidden_act", "silu"}}}, /* which is of the shared expert alone */
    {.model_type = "openai_privacy_filter", INTERMEDIATE, .limit_key = "swiglu_limit",
     .score = MOE_SCORE_SOFTMAX_TOPK, .router_bias = true, .expert_bias = true,
     .silu = MOE_ACT_SWIGLU_CLAMP, .alpha_key = "swiglu_alpha", .glu_layout = MOE_GLU_CONCAT,
     .transposed = TRANSPOSED, .reports = MOE_INT_REPORTS_SHARE_OF_K},

    /* blocks with more than a layer */
    {.model_type = "axk1", SHARED_COUNT, DEEPSEEK_V3, .block = &moe_int_block_norm_out},
    {.model_type = "gemma4_text", GEMMA4, .left_out = "embeddings of each layer"},
    {.model_type = "diffusion_gemma_text", GEMMA4},
    {.model_type = "jetmoe", INTERMEDIATE, .score = MOE_SCORE_SOFTMAX_TOPK,
     .left_out = "experts inside attention", .block = &moe_int_block_bias_out},
    {.model_type = "muse_spark_text", GATED(VALUES), SIGMOID_BIAS(ALWAYS), .renorm_eps = 1e-15,
     .scaled = true,
     .block = &moe_int_block_muse_spark},
    {.model_type = "zaya", SOFTMAX(NEVER), .select_bias = true, .block = &moe_int_block_zaya,
     .names = {[P(ROUTER)] = "gate.router_mlp.out_proj.weight",
               [P(SELECT_BIAS)] = "gate.balancing_biases"}},
    {.model_type = "inkling_text", SHARED_COUNT, SIGMOID_BIAS(ALWAYS), .scaled = true,
     .block = &moe_int_block_inkling,
     .names = {[P(SHARED_GATE_UP)] = "shared_experts.gate_up_proj",
               [P(SHARED_GATE)] = "shared_experts.gate_proj",
               [P(SHARED_UP)] = "shared_experts.up_proj",
               [P(SHARED_DOWN)] = "shared_experts.down_proj"}},
    {.model_type = "doge", .fixed_n = 1, .shared_width_key = "intermediate_size",
     .score = MOE_SCORE_SOFTMAX_TOPK, .renorm = MOE_INT_RENORM_CONFIG, .ungated = true,
     .transposed = 1u << P(DOWN), .block = &moe_int_block_product_keys,
     .names = {[P(ROUTER)] = "router_gate.weight", [P(UP)] = "down_embed.weight",
               [P(DOWN)] = "up_embed.weight", [P(SHARED_GATE_UP)] = "gate_up_proj.weight",
               [P(SHARED_GATE)] = "gate_proj.weight", [P(SHARED_UP)] = "up_proj.weight",
               [P(SHARED_DOWN)] = "down_proj.weight"}},
    {.model_type = "nllb-moe", .width_key = "encoder_ffn_dim", SOFTMAX(ALWAYS), .fixed_K = 2,
     .capacity_key = "expert_capacity", .ungated = true, .expert_bias = true,
     .block = &moe_int_block_nllb, .reports = MOE_INT_REPORTS_DENSE,
     .names = {[P(UP)] = "experts.expert_%d.fc1.weight",
               [P(DOWN)] = "experts.expert_%d.fc2.weight",
               [P(GATE_UP_BIAS)] = "experts.expert_%d.fc1.bias",
               [P(DOWN_BIAS)] = "experts.expert_%d.fc2.bias"}},

    /* T5 */
    {.model_type = "switch_transformers", .width_key = "d_ff", SOFTMAX(NEVER), .fixed_K = 1,
     .select = MOE_SELECT_CAPACITY, .capacity_key = "expert_capacity", .ungated = true,
     .reports = MOE_INT_REPORTS_ONE_HOT,
     .names = {[P(UP)] = "experts.expert_%d.wi.weight",
               [P(DOWN)] = "experts.expert_%d.wo.weight"}},
};
/* clang-format on */

#define FAMILY_COUNT (sizeof families / sizeof *families)

#define NAME_BYTES 48
static char name_text[FAMILY_COUNT][NAME_BYTES];
static const char *names[FAMILY_COUNT + 1];

static void list_names(void) {
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        moe_int_hf_next_word(families[i].model_type, name_text[i], NAME_BYTES);
        names[i] = name_text[i];
    }
}

const char *const *moe_families(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_names);
    return names;
}

const moe_int_family *moe_int_family_find(const char *model_type) {
    char name[NAME_BYTES];
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        for (const char *next = families[i].model_type; next;) {
            next = moe_int_hf_next_word(next, name, NAME_BYTES);
            if (strcmp(name, model_type) == 0)
                return &families[i];
        }
    }
    return NULL;
}

const char *moe_family_block(const char *name) {
    const moe_int_family *family = moe_int_family_find(name);
    return family && family->block ? family->block->what : "";
}
