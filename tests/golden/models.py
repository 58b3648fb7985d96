#!/usr/bin/env python3
"""What config.json is read as, beside the model that Transformers builds: models.py MOEREF.

Each family's own configuration with its defaults, and patterns of layers, are built on the meta
device, where weights have shapes and no memory. `moeref predict --layers all` must know how many
layers have routed experts, how many experts, how wide, and how wide the shared ones. Exits with 77
where Transformers is not installed or is another than the families' (5.24).
"""

import collections
import importlib
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit(77)

if not transformers.__version__.startswith("5.24."):
    print(f"skipped: Transformers is {transformers.__version__}, not 5.24")
    sys.exit(77)

MODELS = pathlib.Path(transformers.__file__).parent / "models"
# Defaults that Transformers itself cannot build a model of with experts.
FILLED = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "deepseek_ocr2_text": {"num_experts_per_tok": 6, "n_routed_experts": 64, "topk_group": 1,
                           "n_group": 1, "num_hidden_layers": 3,
                           "mlp_layer_types": ["dense", "sparse", "sparse"]},
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
NOT_BUILT = {
    "dbrx": "its default configuration has no rope_theta, which its model asks for",
    "doge": "its experts are rows of embeddings, chosen by product keys",
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
]


def find_configs():
    """Configuration classes by model type, with the module that has their models."""
    found = {}
    for path in sorted(MODELS.glob("*/configuration_*.py")):
        module = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and getattr(kind, "model_type", ""):
                found.setdefault(kind.model_type, (kind, path))
    return found


def build(config, kind, path):
    with torch.device("meta"):
        try:
            return transformers.AutoModel.from_config(config)
        except ValueError:  # a part of a model
            return part_class(kind, path)(config)


def part_class(kind, path):
    stem = path.stem.replace("configuration", "modeling")
    module = importlib.import_module(f"transformers.models.{path.parent.name}.{stem}")
    kinds = [k for n, k in inspect.getmembers(module, inspect.isclass)
             if k.__module__ == module.__name__ and getattr(k, "config_class", None) is kind
             and n.endswith("Model") and not n.endswith("PreTrainedModel")]
    return min(kinds, key=lambda k: len(k.__name__))


def expert_shapes(module, name):
    """[experts][out][in] of each weight of a routed bank of experts; [] of any other module."""
    last = name.rsplit(".", 1)[-1]
    if last == "experts" and isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
        each = [list(m.parameters()) for m in module.children()]
        count = sum(bool(weights) for weights in each)
        return [(count, *p.shape) for p in each[0] if p.ndim == 2]
    if "Experts" in type(module).__name__ and "shared" not in name:
        return [tuple(p.shape) for p in module.parameters(recurse=False) if p.ndim == 3]
    return []


def layers_of(model):
    """Banks of routed experts by layer: the shapes of their weights."""
    banks = collections.defaultdict(list)
    for name, module in model.named_modules():
        layer = re.match(r"(?:\w+\.)*?(?:layers|block)\.(\d+)\.", name)
        if layer and not re.search("attn|attention|vision|audio", name):
            banks[int(layer[1])] += expert_shapes(module, name)
    return {layer: shapes for layer, shapes in banks.items() if shapes}


def experts_of(shapes, n, gated):
    """How many, by each weight, if weights have n and 2 n on a side; else none."""
    sides = [set(shape[1:]) for shape in shapes]
    down = any(n in side for side in sides)
    up = any(2 * n in side for side in sides) or len(shapes) == 3 or not gated
    return {shape[0] for shape in shapes} if down and up else set()


def shared_width(model, layer):
    """Columns of all shared experts' last weights, 0 without any."""
    width = 0
    for name, p in model.named_parameters():
        is_last = re.search(r"(down_proj|output_linear|w2|fc2)(\.weight)?$", name)
        if is_last and re.search(rf"layers\.{layer}\.", name) and "shared" in name:
            width += p.shape[-1] * (p.shape[0] if p.ndim == 3 else 1)
    return width


def choices(model, layer):
    """Experts of a token, by any module of the layer that says it."""
    modules = [m for name, m in model.named_modules()
               if re.search(rf"(layers|block)\.{layer}\.", name) and "vision" not in name]
    words = ("top_k", "num_experts_per_tok", "moe_topk", "num_experts_per_token", "moe_k")
    said = [getattr(m, word, None) for m in modules for word in words]
    return {k for k in said if isinstance(k, int)}


def read(moeref, path):
    """The layer's words and how many layers have experts, None where the model has two stacks of
    layers; or what was said, and no words."""
    run = subprocess.run([moeref, "predict", "--config", path, "--layers", "all", "--pass", "fwd",
                          "--method", "cublas", "--output", "json"], capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    counted = [line["moe_layers"] for line in lines if "moe_layers" in line]
    two_stacks = "an encoder and a decoder" in run.stderr
    if not lines or (run.returncode and not two_stacks):
        return None, run.stderr.strip().splitlines()[-1:]
    words = dict(w.split("=") for w in lines[0]["case"].split() if "=" in w)
    return words, None if two_stacks else counted[0]


def differences(words, with_experts, model):
    banks = layers_of(model)
    first = min(banks)
    gated = "glu" in words.get("act", "swiglu")
    experts = experts_of(banks[first], int(words["n"]), gated)
    allowed = {int(words["E"]), int(words["E"]) + int(words.get("zero", 0))}
    if with_experts not in (None, len(banks)):
        yield f"{with_experts} layers with experts, not {len(banks)}"
    if not experts or not experts <= allowed:
        yield f"E={words['E']} n={words['n']}, weights are {banks[first]}"
    if choices(model, first) - {int(words["K"])}:
        yield f"K={words['K']}, not {choices(model, first)}"
    if int(words.get("shared", 0)) != shared_width(model, first):
        yield f"shared={words.get('shared', 0)}, not {shared_width(model, first)}"


def check(moeref, family, extra, kind, path):
    config = kind(**{**FILLED.get(family, {}), **extra})
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        words, told = read(moeref, os.path.join(folder, "config.json"))
    if words is None:
        return told
    return list(differences(words, told, build(config, kind, path)))


def main():
    configs, failed, unbuilt = find_configs(), 0, {}
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
            unbuilt[family] = f"{type(error).__name__} {error}"
            continue
        failed += bool(wrong)
        print(family, extra or "", "; ".join(wrong) if wrong else "ok", flush=True)
    for family, why in unbuilt.items():
        known = NOT_BUILT.get(family)
        failed += not known
        print(family, f"not built: {known}" if known else f"FAILED: {why}")
    return failed


if __name__ == "__main__":
    sys.exit(main() > 0)
