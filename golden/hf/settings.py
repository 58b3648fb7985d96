"""Small configurations of the families, of which make.py makes models."""

import sys

from transformers import CONFIG_MAPPING

import transformers

# Small sizes that differ from each other, so that a swapped dimension shows; where a family's
# configuration lacks a setting, it is not set.
SETTINGS = dict(
    hidden_size=48, intermediate_size=30, moe_intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=64, num_experts=12,
    num_local_experts=12, n_routed_experts=12, moe_num_experts=12, num_experts_per_tok=3,
    moe_topk=3, moe_k=3, n_group=4, topk_group=2, num_shared_experts=2, n_shared_experts=2,
    moe_num_shared_experts=2, shared_expert_intermediate_size=28, shared_intermediate_size=28,
    share_expert_dim=28, shared_experts_intermediate_size=20, norm_topk_prob=True,
    routed_scaling_factor=1.5, route_scale=1.5, router_scaling_factor=1.5,
    moe_routed_scaling_factor=1.5, moe_router_scaling_factor=1.5, first_k_dense_replace=0,
    num_dense_layers=0, decoder_sparse_step=1, swiglu_limit=1.5, moe_router_logit_softcapping=2.0,
    q_lora_rank=32, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    mlp_layer_types=["sparse", "sparse"], layer_types=["full_attention", "full_attention"],
    mlp_only_layers=[], pad_token_id=0, bos_token_id=1, eos_token_id=2,
    top_k_experts=3, rms_norm_eps=0.01, post_norm_eps=0.02, moe_hidden_size=40,
    router_hidden_size=36, output_multiplier=0.75, d_model=48, encoder_ffn_dim=20,
    decoder_ffn_dim=20, moe_shared_expert_intermediate_size=28, encoder_layers=2, decoder_layers=2,
)
SMALL = dict(num_experts=8, num_local_experts=8, n_routed_experts=8, moe_intermediate_size=16)
GEMMA = dict(SMALL, enable_moe_block=True, num_kv_shared_layers=0, sliding_window=64,
             layer_types=["sliding_attention", "full_attention"], head_dim=16, global_head_dim=16)
# Variants of a family are entries of their own, with the family under "model_type".
PER_FAMILY = {
    "cohere2_moe": dict(expert_selection_fn="sigmoid"),
    "dots3_note_text": dict(num_key_value_heads=4),
    "glm5_next_text": dict(num_key_value_heads=4, qk_rope_head_dim=0),
    "hy_v4_vl_text": dict(qk_rope_head_dim=64),
    "ernie4_5_vl_moe_text": dict(moe_intermediate_size=[24, 20], rope_parameters=dict(
        rope_type="default", rope_theta=1e4, mrope_section=[2, 2, 2])),
    "qwen3_omni_moe_talker_text": dict(shared_expert_intermediate_size=28),
    "qwen4_exp_text": dict(indexer_budget=8, indexer_compress_ratio=2, indexer_n_heads=2,
                           indexer_kv_heads=1, indexer_head_dim=16),
    "step3p5": dict(swiglu_limits=[1.5, 1.5], swiglu_limits_shared=[1.0, 1.0]),
    "granitemoehybrid": dict(layer_types=["attention", "attention"], mamba_n_heads=8,
                             mamba_d_head=12),
    "deepseek_ocr2_text": dict(topk_method="group_limited_greedy"),
    "unlimited_ocr_text": dict(topk_method="group_limited_greedy"),
    "deepseek_v2": dict(topk_method="group_limited_greedy"),
    "inkling2_text": dict(unpadded_vocab_size=60),
    "inkling2_loop_text": dict(unpadded_vocab_size=60),
    "inkling_text": dict(SMALL, unpadded_vocab_size=60),
    "deepseek_v4": dict(mlp_layer_types=["moe", "moe"], n_shared_experts=1),
    "deepseek_v4_hash": dict(SMALL, model_type="deepseek_v4", n_shared_experts=1,
                             mlp_layer_types=["hash_moe", "hash_moe"]),
    "nemotron_h": dict(layer_types=["moe", "moe"]),
    "nemotron_h_latent": dict(SMALL, model_type="nemotron_h", layer_types=["moe", "moe"],
                              moe_latent_size=40),
    "doge": dict(is_moe=True, num_experts=16, intermediate_size=28, norm_topk_prob=False),
    "zaya": dict(SMALL, num_experts_per_tok=1, layer_types=["hybrid", "hybrid"]),
    "nllb-moe": dict(num_experts=6, moe_token_dropout=0.25, moe_eval_capacity_token_fraction=0.25,
                     encoder_sparse_step=1, decoder_sparse_step=1, encoder_attention_heads=4,
                     decoder_attention_heads=4, router_bias=True),
    "axk1": SMALL,
    "jetmoe": dict(SMALL, intermediate_size=16),
    "muse_spark_text": SMALL,
    "gemma4_text": GEMMA,
    "diffusion_gemma_text": GEMMA,
    "dbrx": dict(ffn_config=dict(moe_num_experts=12, moe_top_k=3, ffn_hidden_size=24),
                 n_layers=2, n_heads=4, attn_config=dict(kv_n_heads=2, rope_theta=1e4)),
    "longcat_flash": dict(moe_topk=3, zero_expert_num=2, expert_ffn_hidden_size=24,
                          num_key_value_heads=4, num_layers=2, num_hidden_layers=4),
    "phimoe": dict(num_local_experts=8),
}


def has(config, key):
    try:
        return hasattr(config, key)
    except Exception:  # a setting of each layer
        return True


def make_config(name, change=None):
    """A family's, with some settings changed."""
    own = {**PER_FAMILY.get(name, {}), **(change or {})}
    model_type = own.pop("model_type", name)
    if model_type not in CONFIG_MAPPING:
        sys.exit(f"Transformers {transformers.__version__} has no model type {model_type}")
    cls = CONFIG_MAPPING[model_type]
    known = cls()
    wanted = {**SETTINGS, **own}
    while True:
        settings = {k: v for k, v in wanted.items() if k in own or has(known, k)}
        try:
            return cls(**settings)
        except Exception as e:  # a list of layer types with other words: the class's own default
            dropped = [k for k in ("layer_types", "mlp_layer_types") if k in wanted]
            if not dropped:
                raise
            print(f"{name}: without {dropped[0]}: {str(e)[:80]}", file=sys.stderr)
            del wanted[dropped[0]]
