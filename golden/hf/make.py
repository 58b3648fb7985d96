#!/usr/bin/env python3
"""Makes golden layers with Transformers' own code: make.py OUT NAME...

Needs torch, transformers and safetensors; the normal build does not. For each family NAME (a
model_type) a small random model of its class is made, its weights rounded to bf16, and one MoE
block of it run alone, forward and backward, in evaluation mode and in float64, casts to float32
included. OUT/NAME gets config.json, model.safetensors (that layer's tensors under the names that
save_pretrained gives them) and case.safetensors (golden/hf/README.md).
"""

import importlib
import pathlib
import re
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM

import transformers

SEED = 20261128
LAYER = 1
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
)
PER_FAMILY = {
    "ernie4_5_vl_moe_text": dict(moe_intermediate_size=[24, 20]),
    "granitemoehybrid": dict(layer_types=["attention", "attention"], mamba_n_heads=8,
                             mamba_d_head=12),
    "deepseek_ocr2_text": dict(topk_method="greedy"),
    "unlimited_ocr_text": dict(topk_method="greedy"),
    "deepseek_v2": dict(topk_method="group_limited_greedy"),
    "inkling2_loop_text": dict(unpadded_vocab_size=60),
    "deepseek_v4": dict(mlp_layer_types=["moe", "moe"]),
}


class Float64:
    """Casts to float32, of which routers have some, keep float64: nothing is rounded."""

    def __enter__(self):
        self.kept = torch.float32, torch.float, torch.Tensor.float
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double

    def __exit__(self, *error):
        torch.float32, torch.float, torch.Tensor.float = self.kept


def make_config(name):
    cls = CONFIG_MAPPING[name]
    known = cls()
    wanted = {**SETTINGS, **PER_FAMILY.get(name, {})}
    while True:
        settings = {k: v for k, v in wanted.items() if hasattr(known, k)}
        try:
            return cls(**settings)
        except Exception as e:  # a list of layer types with other words: the class's own default
            dropped = [k for k in ("layer_types", "mlp_layer_types") if k in wanted]
            if not dropped:
                raise
            print(f"{name}: without {dropped[0]}: {str(e)[:80]}", file=sys.stderr)
            del wanted[dropped[0]]


def own_class(config):
    """The model class of a part of a multimodal model, which no Auto class knows."""
    package = type(config).__module__.rsplit(".", 1)[0]
    module = importlib.import_module(f"{package}.modeling_{package.rsplit('.', 1)[1]}")
    for value in vars(module).values():
        of_it = getattr(value, "config_class", None) is type(config)
        if of_it and value.__name__.endswith("Model") and "PreTrained" not in value.__name__:
            return value
    for value in vars(module).values():
        hint = getattr(value, "__annotations__", {}).get("config")
        if hint in (type(config), type(config).__name__) and value.__name__.endswith("Model") \
                and "PreTrained" not in value.__name__:
            return value
    raise ValueError(f"no model class for {type(config).__name__}")


def make_model(config):
    for maker in (AutoModelForCausalLM.from_config, AutoModel.from_config,
                  lambda c: own_class(c)._from_config(c)):
        try:
            return maker(config)
        except ValueError as e:
            error = e
    raise error


def randomise(block, generator):
    """Parameters and buffers, rounded to bf16. A selection bias must decide something."""
    for name, t in list(block.named_parameters()) + list(block.named_buffers()):
        if not t.is_floating_point():
            continue
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        fan_in = t.shape[-1]
        if t.dim() >= 2 and "bias" not in name:
            noise = noise / fan_in**0.5
        elif "norm" in name or "scale" in name:
            noise = 1 + 0.2 * noise
        else:
            noise = 0.2 * noise
        with torch.no_grad():
            t.copy_(noise.bfloat16())


def find_block(model):
    """The last layer's module that has experts and a router, or a decoder layer with such a one and
    a shared part beside it."""
    found = None
    for path, m in model.named_modules():
        children = dict(m.named_children())
        if "experts" in children and re.search(rf"\b(layers|blocks|block)\.{LAYER}\.", path + "."):
            if found is None or not path.startswith(found[0]):
                found = (path, m)
    return found


def run(block, T, d, generator):
    x = torch.randn(1, T, d, generator=generator, dtype=torch.float64).bfloat16().double()
    g = torch.randn(1, T, d, generator=generator, dtype=torch.float64).bfloat16().double()
    x.requires_grad_(True)
    seen = {}

    def hook(module, args, out):
        seen["out"] = out if isinstance(out, tuple) else (out,)

    names = ("gate", "router")
    router = next(getattr(block, n) for n in names if hasattr(block, n))
    handle = router.register_forward_hook(hook)
    with Float64():
        out = block(x)
    handle.remove()
    out = out[0] if isinstance(out, tuple) else out
    out.reshape(1, T, d).backward(g)
    return x, g, out.reshape(T, d), seen["out"]


def make(name, out_dir):
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    config = make_config(name)
    config._experts_implementation = "eager"  # plain loops, in any type
    model = make_model(config).eval()
    path, block = find_block(model)
    randomise(block, generator)
    model.bfloat16()
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        stored = {}
        for f in pathlib.Path(tmp).glob("*.safetensors"):
            stored.update(load_file(f))
        text = (pathlib.Path(tmp) / "config.json").read_text()
    layer = {k: v.contiguous() for k, v in stored.items()
             if re.search(rf"(layers|blocks|block)\.{LAYER}\.", k)
             and not re.search(r"attn|attention|mamba|conv|layernorm", k)}
    model.double()
    T = 70 + len(name)
    x, g, out, routed = run(block, T, config.hidden_size, generator)
    case = {"hidden_states": x.detach()[0].bfloat16(), "grad_output": g[0].bfloat16(),
            "expected.output": out.detach().float(),
            "expected.grad.hidden_states": x.grad[0].float()}
    for i, t in enumerate(routed):
        t = t.detach()
        case[f"expected.router_out{i}"] = t.float() if t.is_floating_point() else t.int()
    for n, p in block.named_parameters():
        if p.grad is not None and p.grad.abs().sum() > 0:
            case[f"expected.grad.{n}"] = p.grad.float()
    to = pathlib.Path(out_dir) / name
    to.mkdir(parents=True, exist_ok=True)
    (to / "config.json").write_text(text)
    save_file(layer, to / "model.safetensors")
    meta = {"family": name, "block": type(block).__name__, "module": path, "seed": str(SEED),
            "transformers": transformers.__version__, "dtype": "float64"}
    save_file({k: v.clone().contiguous() for k, v in case.items()}, to / "case.safetensors", meta)
    counts = torch.zeros(1)
    index = [t for t in routed if not t.is_floating_point()]
    if index:
        counts = torch.bincount(index[0].flatten().long())
    print(f"{name}: {type(block).__name__}, {path}, fewest tokens of an expert {int(counts.min())}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for family in sys.argv[2:]:
        make(family, sys.argv[1])
