/* Blocks around layers. Facts come from the modeling files of Transformers 5.24.0. */
#include "hf/blocks.h"

#define LINEAR(...)                                                                                \
    { MOE_INT_OP_LINEAR, __VA_ARGS__ }
#define SCALE(...)                                                                                 \
    { MOE_INT_OP_SCALE, __VA_ARGS__ }
#define RMS(eps)                                                                                   \
    { MOE_INT_OP_RMS, .key = eps }
#define ROUTER(...) .op[MOE_INT_PLACE_ROUTER] = {__VA_ARGS__}
#define BEFORE(...) .op[MOE_INT_PLACE_BEFORE] = {__VA_ARGS__}
#define PAIR(...)   .op[MOE_INT_PLACE_PAIR] = {__VA_ARGS__}
#define AFTER(...)  .op[MOE_INT_PLACE_AFTER] = {__VA_ARGS__}
#define OUT(...)    .op[MOE_INT_PLACE_OUT] = {__VA_ARGS__}
#define GATE        LINEAR("gate.weight")

const moe_int_block_row moe_int_block_norm_out = {
    .what = "a norm of its output",
    ROUTER(GATE),
    OUT(RMS("rms_norm_eps"), SCALE("^post_mlp_layernorm.weight|post_mlp_layernorm.weight")),
};

const moe_int_block_row moe_int_block_bias_out = {
    .what = "a bias of its output",
    ROUTER(LINEAR("router.layer.weight")),
    OUT({MOE_INT_OP_SHIFT, "bias"}),
    .report_sorted = true,
};

const moe_int_block_row moe_int_block_gemma4 = {
    .what = "a norm before the router and a scale of each expert",
    ROUTER(RMS("rms_norm_eps"), SCALE("router.scale", .over_root = true),
           LINEAR("router.proj.weight")),
    .scale = "router.per_expert_scale",
    .report_softmax = true,
};

const moe_int_block_row moe_int_block_muse_spark = {
    .what = "projections and norms around the experts",
    .left_out = "norms around the experts",
    .latent_key = "moe_hidden_size",
    ROUTER(GATE, SCALE(.key = "output_multiplier")),
    BEFORE(LINEAR("pre_expert_proj.weight", .key = "moe_hidden_size"), RMS("rms_norm_eps"),
           SCALE("pre_expert_norm.weight", .offset = 1)),
    PAIR(SCALE("experts.post_expert_norm.weight", .offset = 1), RMS("post_norm_eps")),
    AFTER(LINEAR("post_expert_proj.weight")),
};

/* Its router also adds the previous layer's state, which a block alone has not. */
const moe_int_block_row moe_int_block_zaya = {
    .what = "a network for a router, and a choice of no expert",
    ROUTER(LINEAR("gate.down_proj.weight", "gate.down_proj.bias", "router_hidden_size"),
           RMS("rms_norm_eps"), SCALE("gate.router_mlp.norm.weight"),
           LINEAR("gate.router_mlp.fc1.weight", "gate.router_mlp.fc1.bias", "router_hidden_size"),
           {MOE_INT_OP_GELU},
           LINEAR("gate.router_mlp.fc2.weight", "gate.router_mlp.fc2.bias", "router_hidden_size"),
           {MOE_INT_OP_GELU}, LINEAR("gate.router_mlp.out_proj.weight")),
    .skip = true,
    .state_at = 1,
};

const moe_int_block_row moe_int_block_inkling = {
    .what = "shared experts inside the routed ones' sum",
    ROUTER(GATE),
    .sinks_key = "n_shared_experts",
    .scale = "gate.global_scale",
};

const moe_int_block_row moe_int_block_latent = {
    .what = "projections around the experts",
    .left_out = "",
    .when = MOE_INT_BLOCK_LATENT,
    .latent_key = "moe_latent_size",
    ROUTER(GATE),
    BEFORE(LINEAR("fc1_latent_proj.weight", "fc1_latent_proj.bias", "moe_latent_size")),
    AFTER(LINEAR("fc2_latent_proj.weight", "fc2_latent_proj.bias")),
};

const moe_int_block_row moe_int_block_hash = {
    .what = "experts chosen by token id",
    .when = MOE_INT_BLOCK_HASH,
    ROUTER(GATE),
    .choice = MOE_INT_CHOICE_TOKEN_IDS,
    .table = "gate.tid2eid",
};

const moe_int_block_row moe_int_block_product_keys = {
    .what = "experts chosen by product keys",
    .left_out = "product keys, and the gate of its shared expert",
    ROUTER(LINEAR("router_gate.weight")),
    .choice = MOE_INT_CHOICE_PRODUCT_KEYS,
    .shared_gated = true,
};

const moe_int_block_row moe_int_block_nllb = {
    .what = "a capacity that first choices have before second ones",
    ROUTER(LINEAR("router.classifier.weight", "router.classifier.bias")),
    .choice = MOE_INT_CHOICE_TWO_STAGES,
    .fraction_key = "moe_eval_capacity_token_fraction",
    .keep_key = "moe_token_dropout",
    .forward_only = true,
};
