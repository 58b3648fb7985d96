"""Every family as a layer of parts.py or a block of blocks.py: settings of config.json, what they
mean, and names of tensors.
"""

from math import ceil

from sizes import K, N, S, T

EXPERTS = {"W1": "experts.gate_up_proj", "W2": "experts.down_proj"}


def shared(word, gate=False):
    names = {k: f"{word}.{m}_proj.weight"
             for k, m in (("gate_s", "gate"), ("up_s", "up"), ("W2s", "down"))}
    return {**names, **({"Wgs": "shared_expert_gate.weight"} if gate else {})}


# Stored [E][in][out]; of DBRX W2 alone, as rows [E n].
TRANSPOSED = {"gpt_oss": ("W1", "W2"), "llama4_text": ("W1", "W2"), "aria_text": ("W1", "W2"),
              "openai_privacy_filter": ("W1", "W2"), "dbrx": ("W2",)}
# What a router module hands out instead of the weights that count: a factor, "dense" weights, or
# nothing that has their form.
REPORTS = {"beam": 1 / 2.5, "laguna": 1 / 2.5, "minimax_m3_vl_text": 1 / 2.5, "step3p5": 1 / 2.5,
           "openai_privacy_filter": 1 / K, "llama4_text": "dense", "nllb-moe": "dense",
           "switch_transformers": None, "jetmoe": None}
# Logits in float32, as goldens of Transformers have them: those near the cap are lost.
NEAR_CAP = "laguna near_cap"
REPORTS[NEAR_CAP] = REPORTS["laguna"]


def family(config, c, names=None, module="mlp", sizes=None, block=None, bias=None):
    """config: beside sizes; c: parts.route's and parts.experts' choices; bias: name of the one for
    the choice; sizes: keys that differ."""
    keys = {"d": "hidden_size", "n": "moe_intermediate_size", "E": "num_experts",
            "K": "num_experts_per_tok", **(sizes or {})}
    return dict(config=config, c=dict({"K": K}, **c), module=module, keys=keys, block=block,
                bias=bias, names={"router": "gate.weight", **EXPERTS, **(names or {})})


INTERMEDIATE = {"n": "intermediate_size"}
LOCAL = {"E": "num_local_experts"}
ROUTED = {"E": "n_routed_experts"}
SHARED = shared("shared_experts")
COUNT = {"n_shared_experts": 2}
BIAS = "gate.e_score_correction_bias"
V3 = dict(score="sigmoid", groups=4, kept=2, norm=True, eps=1e-20, scale=2.5)
V3_CONFIG = dict(n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5)
SIGMOID = dict(score="sigmoid", norm=True)
SWIGLU_OSS = dict(act="gpt_oss", alpha=1.702, limit=0.75)


def v3(config=None, c=None, **more):
    more.setdefault("names", SHARED)
    more.setdefault("sizes", ROUTED)
    more.setdefault("bias", BIAS)
    return family({**V3_CONFIG, **COUNT, **(config or {})}, {**V3, "shared": 2 * N, **(c or {})},
                  **more)


def softmax(config=None, c=None, **more):
    return family(config or {}, {"score": "softmax", **(c or {})}, **more)


def with_shared(config=None, c=None, word="shared_expert", gate=False, **more):
    return softmax({"shared_expert_intermediate_size": S, **(config or {})},
                   {"shared": S, **(c or {})}, names=shared(word, gate), **more)


NORM = {"norm": True}
GRANITE = dict(
    config={"shared_intermediate_size": S}, c={"score": "softmax_topk", "shared": S},
    sizes={**INTERMEDIATE, **LOCAL}, module="",
    names={"router": "block_sparse_moe.router.weight",
           "W1": "block_sparse_moe.input_linear.weight",
           "W2": "block_sparse_moe.output_linear.weight", "W1s": "shared_mlp.input_linear.weight",
           "W2s": "shared_mlp.output_linear.weight"})
GEMMA = dict(config={"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 0.01},
             c={"score": "softmax", "norm": True, "act": "gelu_pytorch_tanh", "eps_norm": 0.01},
             sizes={"K": "top_k_experts"}, module="", block="gemma4",
             names={"router": "router.proj.weight"})
SOFTCAP = dict(score="sigmoid", norm=True, eps=1e-20, scale=2.5, act="softcap", alpha=0.75,
               limit=0.5)
SOFTCAP_CONFIG = dict(mlp_gate_softcap=0.75, mlp_up_softcap=0.5, routed_scaling_factor=2.5)
LIMIT = dict(act="limit", limit=0.5, shared_limit=0.5)

# Groups ranked by their best expert.
V2 = family({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
             "routed_scaling_factor": 2.5, **COUNT},
            {"score": "softmax", "groups": 4, "kept": 2, "how": "max", "scale": 2.5,
             "shared": 2 * N}, names=SHARED, sizes=ROUTED)
GREEDY = softmax({"topk_method": "greedy", "n_group": 4, "topk_group": 2,
                  "routed_scaling_factor": 2.5, **COUNT}, {"scale": 2.5, "shared": 2 * N},
                 names=SHARED, sizes=ROUTED)
LAGUNA = family({"shared_expert_intermediate_size": S, "moe_router_logit_softcapping": 0.7,
                 "moe_routed_scaling_factor": 2.5},
                {"score": "sigmoid_cap", "cap": 0.7, "norm": True, "scale": 2.5, "shared": S},
                names=shared("shared_experts"), bias=BIAS)

FAMILIES = {
    "mixtral": softmax(c=NORM, sizes={**INTERMEDIATE, **LOCAL}, module="block_sparse_moe"),
    "qwen2_moe": with_shared({"norm_topk_prob": False}, gate=True),
    "qwen3_moe": softmax({"norm_topk_prob": True}, NORM),
    "olmoe": softmax({"norm_topk_prob": False}, sizes=INTERMEDIATE),
    "minimax_m2": family({}, SIGMOID, bias="e_score_correction_bias",
                         sizes={**INTERMEDIATE, **LOCAL}, module="block_sparse_moe"),
    "gpt_oss": family({"swiglu_limit": 0.75},
                      {"score": "softmax_topk", "interleaved": True, **SWIGLU_OSS},
                      names={"router": "router.weight", "br": "router.bias",
                             "b1": "experts.gate_up_proj_bias", "b2": "experts.down_proj_bias"},
                      sizes={**INTERMEDIATE, **LOCAL}),
    "granitemoe": family({}, {"score": "softmax_topk"}, sizes={**INTERMEDIATE, **LOCAL},
                         names={"router": "router.layer.weight", "W1": "input_linear.weight",
                                "W2": "output_linear.weight"}, module="block_sparse_moe"),
    "llama4_text": family({}, {"score": "sigmoid", "on_input": True, "shared": N},
                          names={"router": "router.weight", **shared("shared_expert")},
                          sizes={**INTERMEDIATE, **LOCAL}, module="feed_forward"),
    "longcat_flash": family({"zero_expert_num": 2, "routed_scaling_factor": 2.5,
                             "zero_expert_type": "identity"},
                            {"score": "softmax", "scale": 2.5, "zero_experts": 2},
                            names={"router": "router.classifier.weight"},
                            bias="router.e_score_correction_bias",
                            sizes={"n": "expert_ffn_hidden_size", "K": "moe_topk", **ROUTED}),
    "qwen3_next": with_shared(c=NORM, gate=True),
    "phimoe": family({"router_jitter_noise": 0.3, "num_experts_per_tok": 3},
                     {"score": "sparsemixer", "jitter": 0.3, "K": 2},
                     names={"router": "router.weight"}, sizes={**INTERMEDIATE, **LOCAL}),
    "deepseek_v3": v3(),
    **{name: v3() for name in ("deepseek_v32 glm4_moe glm4_moe_lite glm_moe_dsa glm4v_moe_text "
                               "dots1 solar_open sarvam_mla").split()},
    "sarvam_moe": v3(bias="gate.expert_bias"),
    "exaone_moe": v3({"n_shared_experts": None, "num_shared_experts": 2},
                     sizes={"E": "num_experts"}, bias="e_score_correction_bias"),
    "mimo_v2_flash": v3({"n_shared_experts": None}, {"shared": 0}, names={}),
    "beam": v3({"n_shared_experts": None}, {"shared": 0}, names={}),
    "bailing_hybrid": v3({"n_shared_experts": None, "num_shared_experts": 2},
                         sizes={"E": "num_experts"}, bias="gate.expert_bias"),
    "kimi_linear": v3({"n_shared_experts": None, "num_shared_experts": 2, "n_group": None,
                       "num_expert_group": 4},
                      sizes={"E": "num_experts", "K": "num_experts_per_token"},
                      module="block_sparse_moe"),
    "dots3_note_text": v3({"shared_experts_intermediate_size": 5}, {"shared": 10}),
    "nemotron_h": v3({"moe_shared_expert_intermediate_size": S, "mlp_hidden_act": "relu2"},
                     {"act": "relu2", "gated": False, "shared": S}, module="mixer",
                     names={"W1": "experts.up_proj", **shared("shared_experts")}),
    "nemotron_h latent": v3({"moe_shared_expert_intermediate_size": S, "mlp_hidden_act": "relu2",
                             "moe_latent_size": 9},
                            {"act": "relu2", "gated": False, "shared": S, "latent": 9},
                            module="mixer", block="latent",
                            names={"W1": "experts.up_proj", **shared("shared_experts")}),
    "mistral4": v3(c={"score": "softmax"}, bias=None),
    "mistral_large4_text": v3({"norm_topk_prob": None}, {"score": "softmax"}, bias=None,
                              module=""),
    "afmoe": family({"route_scale": 2.5, "num_shared_experts": 2},
                    {**SIGMOID, "eps": 1e-20, "scale": 2.5, "shared": 2 * N},
                    names={"router": "router.gate.weight", **SHARED}, bias="expert_bias"),
    "hy_v3": family({"router_scaling_factor": 2.5, "num_shared_experts": 2},
                    {**SIGMOID, "eps": 1e-20, "scale": 2.5, "shared": 2 * N},
                    names=shared("shared_mlp"), bias="expert_bias"),
    "lfm2_moe": family({"routed_scaling_factor": 2.5, "use_expert_bias": True,
                        "norm_topk_prob": True}, {**SIGMOID, "eps": 1e-6, "scale": 2.5},
                       bias="expert_bias", module="feed_forward"),
    "flint": family({"shared_expert_intermediate_size": S}, {**SIGMOID, "shared": S},
                    names=shared("shared_expert")),
    "cohere2_moe": family({"norm_topk_prob": True, "num_shared_experts": 2,
                           "shared_expert_combination_strategy": "average"},
                          {**SIGMOID, "shared": 2 * N, "average": True}, names=SHARED,
                          sizes=INTERMEDIATE),
    "minimax_m3_vl_text": family(
        {"shared_intermediate_size": S, "routed_scaling_factor": 2.5, "swiglu_limit": 0.75,
         "swiglu_alpha": 1.5},
        {**SIGMOID, "scale": 2.5, "shared": S, "act": "gpt_oss", "alpha": 1.5, "limit": 0.75,
         "shared_limit": 0.75},
        names={"W1s": "shared_experts.gate_up_proj.weight",
               "W2s": "shared_experts.down_proj.weight"},
        bias="e_score_correction_bias", sizes={**INTERMEDIATE, **LOCAL}),
    "kolibri1": family({"shared_expert_intermediate_size": S, "norm_topk_prob": True},
                       {"score": "sigmoid_logit", "norm": True, "shared": S},
                       names=shared("shared_expert"), bias=BIAS),
    "laguna": LAGUNA,
    NEAR_CAP: LAGUNA,
    "glm5_next_text": v3({"swiglu_limit": 0.5}, LIMIT),
    "hy_v4": v3({"swiglu_limit": 0.5}, {"act": "limit", "limit": 0.5}),
    "hy_v4_vl_text": v3({"swiglu_limit": 0.5}, {"act": "limit", "limit": 0.5}),
    "deepseek_v4": family({"n_shared_experts": 1, "routed_scaling_factor": 2.5,
                           "swiglu_limit": 0.5, "scoring_func": "sqrtsoftplus"},
                          {"score": "sqrtsoftplus", "norm": True, "eps": 1e-20, "scale": 2.5,
                           "shared": N, **LIMIT}, names=SHARED, bias=BIAS, sizes=ROUTED),
    "deepseek_v4 hash": family({"n_shared_experts": 1, "routed_scaling_factor": 2.5,
                                "swiglu_limit": 0.5, "mlp_layer_types": ["hash_moe"]},
                               {"score": "sqrtsoftplus", "norm": True, "eps": 1e-20, "scale": 2.5,
                                "shared": N, **LIMIT}, names=SHARED, sizes=ROUTED, block="hash"),
    "step3p5": family({"share_expert_dim": S, "moe_router_scaling_factor": 2.5,
                       "swiglu_limits": [0.25], "swiglu_limits_shared": [0.5]},
                      {**SIGMOID, "scale": 2.5, "shared": S, "act": "limit_after", "limit": 0.25,
                       "shared_limit": 0.5}, names=shared("shared_expert"), bias=BIAS),
    "inkling2_text": family(SOFTCAP_CONFIG, SOFTCAP, bias=BIAS),
    "inkling2_loop_text": family(SOFTCAP_CONFIG, SOFTCAP, bias=BIAS),
    "inkling2_text sqrtsoftplus": family({**SOFTCAP_CONFIG, "scoring_func": "sqrtsoftplus"},
                                         {**SOFTCAP, "score": "sqrtsoftplus"}, bias=BIAS),
    "deepseek_v2": V2,
    "deepseek_v2 greedy": GREEDY,
    "axk2": v3(c={"how": "zero"}),
    "flex_olmo": softmax({"norm_topk_prob": True}, NORM, sizes=INTERMEDIATE),
    "mellum": softmax(c=NORM),
    "minimax": softmax(c=NORM, sizes={**INTERMEDIATE, **LOCAL}, module="block_sparse_moe"),
    "jamba": softmax(sizes=INTERMEDIATE, names={"router": "router.weight"},
                     module="feed_forward"),
    "qwen3_omni_moe_text": softmax(c=NORM),
    "qwen3_vl_moe_text": softmax({"norm_topk_prob": False}, NORM),
    "qwen3_5_moe_text": with_shared(c=NORM, gate=True),
    "qwen4_exp_text": with_shared(c=NORM, gate=True),
    "qwen3_omni_moe_talker_text": with_shared({"norm_topk_prob": True}, NORM, gate=True),
    "lara_mini": with_shared(c=NORM),
    "hunyuan_v1_moe": softmax(c={**NORM, "shared": N},
                              names={"router": "gate.wg.weight", **shared("shared_mlp")},
                              sizes={"n": "intermediate_size", "K": "moe_topk"}),
    **{name + how: f for name in ("deepseek_ocr2_text", "unlimited_ocr_text")
       for how, f in (("", V2), (" greedy", GREEDY))},
    "ernie4_5_moe": softmax({"moe_num_shared_experts": 2}, {**NORM, "shared": 2 * N},
                            names=SHARED, bias="moe_statics.e_score_correction_bias",
                            sizes={"E": "moe_num_experts", "K": "moe_k"}),
    "ernie4_5_vl_moe_text": softmax({"moe_num_shared_experts": 2}, {**NORM, "shared": 2 * N},
                                    names={"router": "text_moe.gate.weight",
                                           "W1": "text_moe.experts.gate_up_proj",
                                           "W2": "text_moe.experts.down_proj", **SHARED},
                                    bias="text_moe.gate.moe_statics.e_score_correction_bias",
                                    sizes={"E": "moe_num_experts", "K": "moe_k"}),
    "dbrx": softmax(c=NORM, names={"router": "router.layer.weight", "gate": "experts.mlp.w1",
                                   "up": "experts.mlp.v1", "W2": "experts.mlp.w2"},
                    sizes={"d": "d_model", "n": "ffn_config.ffn_hidden_size",
                           "E": "ffn_config.moe_num_experts", "K": "ffn_config.moe_top_k"},
                    module="ffn"),
    **{name: family(**GRANITE)
       for name in ("granitemoeshared", "granitemoehybrid", "granitemoe_swa")},
    "aria_text": family({"moe_num_shared_experts": 2}, {"score": "softmax_topk", "shared": 2 * N},
                        names={"router": "router.weight", **SHARED},
                        sizes={**INTERMEDIATE, "E": "moe_num_experts", "K": "moe_topk"}),
    "openai_privacy_filter": family(
        {"swiglu_limit": 0.75}, {"score": "softmax_topk", **SWIGLU_OSS},
        names={"router": "router.weight", "br": "router.bias", "b1": "experts.gate_up_proj_bias",
               "b2": "experts.down_proj_bias"}, sizes={**INTERMEDIATE, **LOCAL}),
    "switch_transformers": family(
        {"expert_capacity": 3, "dense_act_fn": "relu"},
        {"score": "softmax", "act": "relu", "gated": False, "K": 1, "capacity": 3},
        names={"router": "router.classifier.weight", "W1": "experts.expert_%d.wi.weight",
               "W2": "experts.expert_%d.wo.weight"},
        sizes={"d": "d_model", "n": "d_ff"}),
    "axk1": v3({"rms_norm_eps": 0.01}, {"eps_norm": 0.01}, block="norm_out"),
    "gemma4_text": family(**GEMMA),
    "diffusion_gemma_text": family(**GEMMA),
    "jetmoe": family({"activation_function": "silu"}, {"score": "softmax_topk"},
                     sizes={**INTERMEDIATE, **LOCAL}, block="bias_out",
                     names={"router": "router.layer.weight", "W1": "input_linear.weight",
                            "W2": "output_linear.weight"}),
    "muse_spark_text": family(
        {"moe_hidden_size": 9, "output_multiplier": 0.75, "rms_norm_eps": 0.01,
         "post_norm_eps": 0.02, "routed_scaling_factor": 2.5},
        {**SIGMOID, "eps": 1e-15, "scale": 2.5, "latent": 9}, sizes=LOCAL, bias=BIAS,
        block="muse_spark"),
    "zaya": family({"router_hidden_size": 7, "rms_norm_eps": 0.01}, {"score": "softmax", "K": 1},
                   names={"router": "gate.router_mlp.out_proj.weight"},
                   bias="gate.balancing_biases", block="zaya"),
    "inkling_text": family({"route_scale": 2.5, "n_shared_experts": 2},
                           {**SIGMOID, "scale": 2.5, "sinks": 2}, sizes=ROUTED, bias=BIAS,
                           block="inkling"),
    "doge": family({"intermediate_size": S, "norm_topk_prob": False},
                   {"score": "softmax_topk", "shared": S, "gated": False, "act": "silu",
                    "shared_gated": True},
                   names={"router": "router_gate.weight", "W1": "down_embed.weight",
                          "W2": "up_embed.weight", "gate_s": "gate_proj.weight",
                          "up_s": "up_proj.weight", "W2s": "down_proj.weight"},
                   sizes={"n": None}, block="product_keys"),
    "nllb-moe": family({"expert_capacity": 64, "moe_eval_capacity_token_fraction": 0.3,
                        "moe_token_dropout": 0.25, "activation_function": "relu"},
                       {"score": "softmax", "norm": True, "act": "relu", "gated": False, "K": 2,
                        "capacity": ceil(0.3 * T), "scale": 0.75},
                       names={"router": "router.classifier.weight",
                              "W1": "experts.expert_%d.fc1.weight",
                              "W2": "experts.expert_%d.fc2.weight",
                              "b1": "experts.expert_%d.fc1.bias",
                              "b2": "experts.expert_%d.fc2.bias"},
                       sizes={"d": "d_model", "n": "encoder_ffn_dim", "K": None}, module="ffn",
                       block="two_stages"),
}
