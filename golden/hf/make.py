#!/usr/bin/env python3
"""Makes golden layers with Transformers' own code: make.py OUT NAME...

Needs torch, transformers and safetensors; the normal build does not. For each family NAME (a
model_type, or one of the variants below) a small random model of its class is made, its weights
rounded to bf16, and one MoE block of it run alone, forward and backward, in evaluation mode and in
float64, casts to float32 included. OUT/NAME gets config.json, model.safetensors (that layer's
tensors under the names that save_pretrained gives them) and case.safetensors (README.md here).

Then it tries what the golden exercises: each setting and tensor in EXERCISES that the block has is
given the value with which it does nothing, and the output must change; and one expert must have no
token. A golden that does not show one of them is not written.
"""

import importlib
import pathlib
import re
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from settings import make_config
from transformers import AutoModel, AutoModelForCausalLM

import transformers

SEED = 20261128
LAYER = 1
IDLE = 7  # the expert without tokens
# Attribute or tensor of a block, and the value with which it does nothing.
EXERCISES = {
    "groups": (r"(^|\.)(n_group|num_group|n_groups)$", 1),
    "scale": (r"(^|\.)(routed_scaling_factor|route_scale|router_scaling_factor|output_multiplier)$",
              1.0),
    "clamp": (r"(^|\.)(limit|swiglu_limit|clamp_limit)$", 1e9),
    "soft cap": (r"(^|\.)(router_logit_softcapping|moe_router_logit_softcapping)$", 1e9),
    "selection bias": (r"(e_score_correction_bias|expert_bias|balancing_biases)$", 0.0),
    "renormalisation": (r"(^|\.)norm_topk_prob$", False),
    "eps": (r"(^|\.)(eps|variance_epsilon)$", 0.0),
    "scale of an expert": (r"(per_expert_scale|global_scale)$", 1.0),
}


class Float64:
    """Casts to float32, of which routers have some, keep float64: nothing is rounded."""

    def __enter__(self):
        self.kept = torch.float32, torch.float, torch.Tensor.float
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double

    def __exit__(self, *error):
        torch.float32, torch.float, torch.Tensor.float = self.kept


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


def router_of(block):
    """That of the layer in it, of two modalities the text's."""
    block = getattr(block, "block_sparse_moe", getattr(block, "text_moe", block))
    return next(getattr(block, n) for n in ("gate", "router", "router_gate") if hasattr(block, n))


def randomise(block, generator):
    """Parameters and buffers, rounded to bf16. A selection bias must decide something. Token ids
    get different experts."""
    for name, t in list(block.named_parameters()) + list(block.named_buffers()):
        if name.endswith("tid2eid"):
            rows = [torch.randperm(IDLE, generator=generator)[:t.shape[1]] for _ in range(len(t))]
            t.copy_(torch.stack(rows))
        if not t.is_floating_point():
            continue
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        fan_in = t.shape[-1]
        if t.dim() >= 2 and "bias" not in name:
            noise = noise / fan_in**0.5
        elif "norm" in name or "scale" in name:
            noise = 1 + 0.2 * noise
        elif name.endswith("balancing_biases"):  # beside a softmax that is nearly even
            noise = 0.01 * noise
        else:
            noise = 0.2 * noise
        with torch.no_grad():
            t.copy_(noise.bfloat16())


def starve(block):
    """The idle expert: its logit falls with the first element of x, which is always 3. A bias for
    the choice could bring it back, and is 0 there."""
    for name, t in list(block.named_parameters()) + list(block.named_buffers()):
        last = re.search(r"(gate|router|proj|classifier|layer|wg)\.weight$", name)
        with torch.no_grad():
            if last and ("gate" in name or "router" in name) and "experts" not in name \
                    and t.dim() == 2 and IDLE < len(t) <= 16 and t.shape[1] == 48:
                t[IDLE] = 0
                t[IDLE, 0] = -4
            if re.search(EXERCISES["selection bias"][0], name):
                t.flatten()[IDLE] = 0


def find_block(model):
    """The last layer's module that has experts and a router, or a decoder layer with such a one and
    a shared part beside it."""
    found = None
    for path, m in model.named_modules():
        children = dict(m.named_children())
        if "attention" in path or "attn" in path:  # JetMoe's attention has experts too
            continue
        if re.search(rf"\b(layers|blocks|block)\.{LAYER}\.", path + ".") and (
                {"experts", "text_moe", "down_embed", "input_linear"} & set(children) or
                {"block_sparse_moe", "shared_mlp"} <= set(children)):
            if found is None or not path.startswith(found[0]):
                found = (path, m)
    return found


def forward(name, block, x, ids):
    """The block's output for x [1][T][d]."""
    children = dict(block.named_children())
    if len(parts_of(block)) == 2:  # a decoder layer of Granite
        return block.block_sparse_moe(x) + block.shared_mlp(x)
    if "self_attn" in children:  # a decoder layer of Gemma: router and experts see the same x
        _, weight, index = block.router(x[0])
        return block.experts(x[0], index, weight)
    if name == "nllb-moe":  # by the paper: its own loop calls the first two experts alone
        block.router.dtype = torch.float64
        _, weight, _ = block.router(x[0])
        each = [e(x[0]) for e in block.experts.values() if hasattr(e, "fc1")]
        return (1 - block.experts.moe_token_dropout) * \
            sum(weight[:, i, None] * y for i, y in enumerate(each))
    out = block(x, ids) if ids is not None else block(x)
    return out[0] if isinstance(out, tuple) else out


def run(name, block, x, ids):
    """Output, and what the router returned."""
    seen = {}

    def hook(module, args, out):
        seen["out"] = out if isinstance(out, tuple) else (out,)

    handle = router_of(block).register_forward_hook(hook)
    with Float64():
        out = forward(name, block, x, ids)
    handle.remove()
    return out.reshape(x.shape[1], -1), seen["out"]


def parts_of(block):
    """The modules that make the block's output: of a decoder layer not its norms."""
    children = dict(block.named_children())
    parts = [children[n] for n in ("block_sparse_moe", "shared_mlp") if n in children]
    return parts if len(parts) == 2 else [block]


def holders_of(block, pattern):
    """(module, name, value now) of attributes, buffers and parameters of that name."""
    found = []
    for m in (m for part in parts_of(block) for m in part.modules()):
        for k in list(vars(m)) + list(m._buffers) + list(m._parameters):
            if re.search(pattern, k) and getattr(m, k) is not None:
                now = getattr(m, k)
                found.append((m, k, now.detach().clone() if torch.is_tensor(now) else now))
    return found


def put(module, name, value):
    now = getattr(module, name)
    if not torch.is_tensor(now):
        setattr(module, name, value)
    elif torch.is_tensor(value):
        now.data.copy_(value)
    else:
        now.data.fill_(value)


def exercised(name, block, x, ids, out):
    """What of the block's features its output does not show: a list of words."""
    silent = []
    for feature, (pattern, nothing) in EXERCISES.items():
        holders = holders_of(block, pattern)
        if not any(torch.is_tensor(now) or now != nothing for _, _, now in holders):
            continue
        extra = holders_of(block, r"^topk_group$") if feature == "groups" else []
        for m, k, _ in holders + extra:
            put(m, k, nothing)
        try:
            with torch.no_grad():
                other, _ = run(name, block, x, ids)
            change = ((other - out) ** 2).sum() / (out ** 2).sum()
            if not change > 1e-9:
                silent.append(feature)
        except Exception as e:  # a group of one has no two best
            print(f"{name}: {feature} not tried: {str(e)[:70]}", file=sys.stderr)
        for m, k, now in holders + extra:
            put(m, k, now)
    return silent


def layer_tensors(model, path):
    """config.json and the stored tensors of the block, and of its layer where it may be named."""
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        stored = {}
        for f in pathlib.Path(tmp).glob("*.safetensors"):
            stored.update(load_file(f))
        text = (pathlib.Path(tmp) / "config.json").read_text()
    root = re.escape(path.split(f".{LAYER}.")[0].split(".")[-1]) if "." in path else "layers"
    of_layer = {k: v.contiguous() for k, v in stored.items()
                if re.search(rf"({root}|layers|blocks|block)\.{LAYER}\.", k)
                and not re.search(r"attn|attention|mamba|conv|(?<!post_mlp_)layernorm", k)}
    inside = [k for k in of_layer if path in k]
    if "decoder" in path or "encoder" in path:  # the same layer of the other half has the same name
        of_layer = {k: v for k, v in of_layer.items() if k in inside} or of_layer
    return text, of_layer


def idle_experts(routed, block):
    index = [t for t in routed if torch.is_tensor(t) and not t.is_floating_point()]
    experts = getattr(router_of(block), "num_experts", 0)
    if not index or not experts or index[0].dim() != 2 or index[0].shape[1] >= experts:
        return None
    counts = torch.bincount(index[0].flatten().long(), minlength=experts)
    return [int(e) for e in (counts == 0).nonzero().flatten()]


def case_of(block, x, g, ids, out, routed):
    case = {"hidden_states": x.detach()[0].bfloat16(), "grad_output": g[0].bfloat16(),
            "expected.output": out.detach().float()}
    if ids is not None:
        case["input_ids"] = ids[0].int()
    for i, t in enumerate(routed):
        if torch.is_tensor(t):
            t = t.detach()
            case[f"expected.router_out{i}"] = t.float() if t.is_floating_point() else t.int()
    if x.grad is None:
        del case["grad_output"]
        return case
    case["expected.grad.hidden_states"] = x.grad[0].float()
    for n, p in block.named_parameters():
        if p.grad is not None and p.grad.abs().sum() > 0:
            case[f"expected.grad.{n}"] = p.grad.float()
    return case


def make(name, out_dir, change=None):
    """Whether the golden was written; with settings changed it need not show anything."""
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    config = make_config(name, change)
    config._experts_implementation = "eager"  # plain loops, in any type
    model = make_model(config).eval()
    path, block = find_block(model)
    randomise(block, generator)
    starve(block)
    model.bfloat16()
    text, layer = layer_tensors(model, path)
    model.double()
    T, d = 70 + len(name), 48
    x = torch.randn(1, T, d, generator=generator, dtype=torch.float64).bfloat16().double()
    g = torch.randn(1, T, d, generator=generator, dtype=torch.float64).bfloat16().double()
    x[..., 0] = 3
    ids = None
    if name.endswith("_hash"):
        ids = torch.randint(config.vocab_size, (1, T), generator=generator)
    x.requires_grad_(True)
    out, routed = run(name, block, x, ids)
    if name != "nllb-moe":
        out.reshape(1, T, d).backward(g)
    silent = [] if change else exercised(name, block, x, ids, out.detach())
    idle = idle_experts(routed, block)
    if idle == [] and not change:
        silent.append("an idle expert")
    if silent:
        print(f"{name}: NOT WRITTEN, it does not exercise: {', '.join(silent)}")
        return False
    to = pathlib.Path(out_dir) / name
    to.mkdir(parents=True, exist_ok=True)
    (to / "config.json").write_text(text)
    save_file(layer, to / "model.safetensors")
    meta = {"family": name, "block": type(block).__name__, "module": path, "seed": str(SEED),
            "transformers": transformers.__version__, "dtype": "float64", "idle_expert": str(idle)}
    case = case_of(block, x, g, ids, out, routed)
    save_file({k: v.clone().contiguous() for k, v in case.items()}, to / "case.safetensors", meta)
    print(f"{name}: {type(block).__name__}, {path}, experts without tokens {idle}")
    return True


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(not all([make(family, sys.argv[1]) for family in sys.argv[2:]]))
