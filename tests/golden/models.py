#!/usr/bin/env python3
"""What config.json is read as, beside the model that Transformers builds: models.py MOEREF.

Each family's own configuration with its defaults, and patterns of layers, are built on the meta
device, where weights have shapes and no memory. `moeref predict --layers all` must know how many
layers have routed experts, how many experts, how wide on either side, and how wide the shared ones;
it and `moeref memory` must count as many parameters as the model's MoE layers have, and `memory`
in each part; around them `predict` must count the model's matrices, where it does not warn that
some are left out. Exits with 77 where Transformers is not installed or is another than the
families' (5.24).
"""

import collections
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch  # noqa: F401, which Transformers builds with
    import transformers
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit(77)

if not transformers.__version__.startswith("5.24."):
    print(f"skipped: Transformers is {transformers.__version__}, not 5.24")
    sys.exit(77)

from built import (banks_of, build, choices, experts_of, find_configs, matrices_around, parameters,
                   shapes_of, shared_width)

# Defaults that Transformers itself cannot build a model of with experts.
FILLED = {
    "dbrx": {"d_model": 6144, "n_heads": 48, "n_layers": 4,
             "attn_config": {"kv_n_heads": 8, "rope_theta": 500000.0},
             "ffn_config": {"hidden_size": 6144, "ffn_hidden_size": 10752, "moe_num_experts": 16,
                            "moe_top_k": 4}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "deepseek_ocr2_text": {"num_experts_per_tok": 6, "n_routed_experts": 64, "topk_group": 1,
                           "n_group": 1, "num_hidden_layers": 3,
                           "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "doge": {"is_moe": True},
    "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2,
              "moe_intermediate_size": 1408, "first_k_dense_replace": 1},
    "gemma4_text": {"enable_moe_block": True, "num_experts": 128, "top_k_experts": 8,
                    "moe_intermediate_size": 704},
    "diffusion_gemma_text": {"num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704},
    "hunyuan_v1_moe": {"num_experts": 64, "moe_topk": 8, "head_dim": 128},
    "lfm2_moe": {"layer_types": ["full_attention"] * 32},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 768},
    "qwen4_exp_text": {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256,
                       "indexer_budget": 1024, "indexer_compress_ratio": 4},
}
# What a block has beside a layer, which predictions leave out and say so: names of its tensors.
LEFT_OUT = {
    "axk1": r"post_mlp_layernorm",
    "jetmoe": r"mlp\.bias$",
    "gemma4_text": r"router\.(scale|per_expert_scale)$",
    "diffusion_gemma_text": r"router\.(scale|per_expert_scale)$",
    "muse_spark_text": r"_expert_norm",
    "deepseek_v4": r"tid2eid",
    "doge": r"mlp\.gate_proj\.",
}
# Whose router is counted as a linear map of all experts, and is another network.
OTHER_ROUTER = {
    "zaya": "three layers and a norm",
    "inkling_text": "it has logits of the shared experts too, and a scale",
    "doge": "two sets of keys",
}
# Their layers of one size have parameters of two: with a selection bias, and chosen by token id.
TWO_KINDS = {"deepseek_v4"}
# What of a model around its MoE layers is not counted, without a word.
OTHER_REST = {
    "gemma4_text": "embeddings of each layer",
    "diffusion_gemma_text": "values that are keys, in layers that attend to all",
    "jetmoe": "attention has experts of its own",
    "ernie4_5_vl_moe_text": "experts of images",
    "mimo_v2_flash": "heads of windowed layers, which save_pretrained does not write",
    "doge": "a mask that its attention learns",
}
# Ways to say which layers have experts.
PATTERNS = [
    ("qwen2_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [3, 4]}),
    ("qwen3_moe", {"decoder_sparse_step": 3}),
    ("qwen3_next", {"mlp_only_layers": [0, 1, 5]}),
    ("llama4_text", {"interleave_moe_layer_step": 2}),
    ("llama4_text", {"moe_layers": [1, 6, 7]}),
    ("deepseek_v3", {"first_k_dense_replace": 7}),
    ("glm4_moe", {"first_k_dense_replace": 4}),
    ("afmoe", {"num_dense_layers": 5}),
    ("jamba", {"expert_layer_period": 4, "expert_layer_offset": 2}),
    ("ernie4_5_moe", {"moe_layer_start_index": 3, "moe_layer_end_index": 20,
                      "moe_layer_interval": 2}),
    ("nemotron_h", {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp",
                                          "moe", "moe"]}),
    ("mimo_v2_flash", {"mlp_layer_types": (["dense"] * 2 + ["sparse"]) * 16}),
    ("nemotron_h", {"moe_latent_size": 1024}),
    ("granitemoeshared", {"shared_intermediate_size": 512}),
]


def run(moeref, verb, path, *more):
    """What moeref says of a forward pass in 16 bits, and why it says no more."""
    said = subprocess.run([moeref, verb, "--config", path, "--pass", "fwd", "--dtype", "bf16",
                           "--method", "cublas", "--output", "json", *more],
                          capture_output=True, text=True)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    return lines, said.stderr, said.returncode


class Read:
    """What was understood of a config.json. `layers` and `all` are None where the model has two
    stacks of layers."""

    def __init__(self, moeref, path):
        lines, said, code = run(moeref, "predict", path, "--layers", "all")
        two_stacks = "an encoder and a decoder" in said
        self.told = []
        if not lines or (code and not two_stacks):
            self.told = said.strip().splitlines()[-1:]
            return
        self.words = dict(w.split("=") for w in lines[0]["case"].split() if "=" in w)
        self.sizes = lines[0]["layer"]
        summed = next((line for line in lines if "moe_layers" in line), None)
        self.layers = None if two_stacks else summed["moe_layers"]
        self.all = None if two_stacks else summed["param_bytes"] // 2
        whole = next((line for line in lines if "weight_bytes" in line), None)
        self.whole = None
        if whole and "mix tokens in ways" not in said:
            self.whole = whole["weight_bytes"] // 2
        self.kept = run(moeref, "memory", path)[0][0]
        self.kept_all = None
        if not two_stacks:
            kept = run(moeref, "memory", path, "--layers", "all")[0][0]
            self.kept_all = kept["weight_bytes"] // 2

    def parts(self):
        """Values in each part of a layer, by moeref memory's list of its tensors."""
        parts = collections.Counter()
        for tensor in self.kept["tensors"]:
            if tensor["kind"] != "weight":
                continue
            name = tensor["name"]
            part = ("shared" if "shared" in name else
                    "experts" if name in ("W1", "W2", "b1", "b2") else
                    "projections" if name in ("W_in", "W_out") else "router")
            parts[part] += tensor["bytes"] // 2
        return parts


def sizes_wrong(r, model, banks):
    words, first = r.words, min(banks)
    zero = int(words.get("zero", 0))
    gated = "glu" in words.get("act", "swiglu")
    experts = experts_of(shapes_of(banks[first]), int(words["n"]), int(words["d"]), gated)
    if r.layers not in (None, len(banks)):
        yield f"{r.layers} layers with experts, not {len(banks)}"
    if not experts or not experts <= {int(words["E"]), int(words["E"]) + zero}:
        yield (f"E={words['E']} n={words['n']} d={words['d']}, weights are "
               f"{shapes_of(banks[first])}")
    if choices(model, first) - {int(words["K"])}:
        yield f"K={words['K']}, not {choices(model, first)}"
    if int(words.get("shared", 0)) != shared_width(model, first):
        yield f"shared={words.get('shared', 0)}, not {shared_width(model, first)}"
    if model.config.hidden_size != r.sizes["hidden"]:
        yield f"hidden={r.sizes['hidden']}, not {model.config.hidden_size}"


def counts_wrong(r, family, model, banks):
    zero = int(r.words.get("zero", 0))
    left_out = LEFT_OUT.get(family, "^$")
    each = {layer: parameters(model, bank, left_out, zero) for layer, bank in banks.items()}
    ours, theirs = r.parts(), each[max(each)]
    if family in OTHER_ROUTER:
        ours.pop("router"), theirs.pop("router")
    if ours != theirs:
        yield f"parameters {dict(ours)}, not {dict(theirs)}"
    if r.all is None or family in OTHER_ROUTER:
        return
    total = sum(sum(parts.values()) for parts in each.values())
    if r.all != total:
        yield f"predict: {r.all} parameters in all layers, not {total}"
    if r.kept_all != total and family not in TWO_KINDS:
        yield f"memory: {r.kept_all} parameters in all layers, not {total}"


def rest_wrong(r, family, model, banks):
    """Matrices alone: norms and biases are not counted."""
    if r.whole is None or family in OTHER_REST:
        return
    config = model.config
    rest = matrices_around(model, banks)
    if not getattr(config, "tie_word_embeddings", False):
        rest += config.vocab_size * config.hidden_size  # the head, which a base model has not
    if r.whole - r.all != rest:
        yield f"{r.whole - r.all} parameters around the MoE layers, not {rest}"


def check(moeref, family, extra, kind, path):
    config = kind(**{**FILLED.get(family, {}), **extra})
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        r = Read(moeref, os.path.join(folder, "config.json"))
    if r.told:
        return r.told
    model = build(config, kind, path)
    banks = banks_of(model)
    return [*sizes_wrong(r, model, banks), *counts_wrong(r, family, model, banks),
            *rest_wrong(r, family, model, banks)]


def main():
    configs, failed = find_configs(), 0
    listed = subprocess.run([sys.argv[1], "list", "--output", "json"], check=True,
                            capture_output=True, text=True).stdout
    families = [f["name"] if isinstance(f, dict) else f for f in json.loads(listed)["families"]]
    for family, extra in [(f, {}) for f in families] + PATTERNS:
        if family not in configs:
            print(family, "is no model type of this Transformers")
            continue
        try:
            wrong = check(sys.argv[1], family, extra, *configs[family])
        except Exception as error:  # whatever Transformers does not build
            wrong = [f"FAILED: {type(error).__name__} {error}"]
        failed += bool(wrong)
        print(family, extra or "", "; ".join(wrong) if wrong else "ok", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main() > 0)
