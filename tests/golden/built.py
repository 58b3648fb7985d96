"""Models that Transformers builds without memory: where their experts lie, how large they are."""

import collections
import importlib
import inspect
import itertools
import math
import pathlib
import re

import torch
import transformers

MODELS = pathlib.Path(transformers.__file__).parent / "models"


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
    if hasattr(module, "moe_num_experts") and hasattr(module, "w1"):  # all experts' rows together
        count = module.moe_num_experts
        return [(count, p.shape[0] // count, p.shape[1]) for p in module.parameters()]
    if hasattr(module, "down_embed"):  # an expert is a row of each
        count, width = module.down_embed.weight.shape
        return [(count, 1, width), (count, width, 1)]
    if "Experts" in type(module).__name__ and "shared" not in name:
        return [tuple(p.shape) for p in module.parameters(recurse=False) if p.ndim == 3]
    return []


LAYER = re.compile(r"((?:\w+\.)*?(?:layers|blocks?)\.(\d+))\.")


def banks_of(model):
    """Banks of routed experts by layer: names below the model, and the shapes of their weights."""
    banks = collections.defaultdict(list)
    for name, module in model.named_modules():
        layer = LAYER.match(name)
        if layer and not re.search("attn|attention|vision|audio", name):
            shapes = expert_shapes(module, name)
            if shapes:
                banks[int(layer[2])].append((name, shapes))
    return banks


def shapes_of(bank):
    return list(itertools.chain.from_iterable(shapes for _, shapes in bank))


def experts_of(shapes, n, d, gated):
    """How many, by each weight, if weights have n and 2 n on a side and d on the other."""
    sides = [sorted(shape[1:]) for shape in shapes]
    down = sorted((n, d)) in sides
    up = sorted((2 * n, d)) in sides or len(shapes) == 3 or not gated
    return {shape[0] for shape in shapes} if down and up else set()


def shared_width(model, layer):
    """Columns of all shared experts' last weights, 0 without any."""
    width = 0
    for name, p in model.named_parameters():
        is_last = re.search(r"(down_proj|output_linear|w2|fc2)(\.weight)?$", name)
        is_shared = "shared" in name or re.search(r"mlp\.down_proj", name) and has_rows(model, name)
        if is_last and re.search(rf"layers\.{layer}\.", name) and is_shared:
            width += p.shape[-1] * (p.shape[0] if p.ndim == 3 else 1)
    return width


def has_rows(model, name):
    """Is it beside experts that are rows of embeddings?"""
    return hasattr(model.get_submodule(name.split(".down_proj")[0]), "down_embed")


def block_tensors(model, bank):
    """Name below its layer, and tensor, of all that the block of a bank has."""
    name = bank[0][0]
    root = LAYER.match(name)[1] + "."
    block = name.removesuffix(".mlp").rsplit(".", 1)[0] + "."
    if hasattr(model.get_submodule(name), "down_embed"):
        block = name + "."
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        within = block != root and name.startswith(block)
        beside = name.startswith(root) and re.search(r"shared|router|experts", name)
        if (within or beside) and not re.search("vision|attn|attention", name):
            yield name[len(root):], tensor


def part_of(name):
    if "shared" in name or re.match(r"mlp\.(gate|up|down)_proj\.", name):
        return "shared"
    if re.search(r"latent_proj|(pre|post)_expert_proj", name):
        return "projections"
    if re.search(r"experts\.(?!e_score)|_embed\.|(in|out)put_linear", name):
        return "experts"
    return "router"


def parameters(model, bank, left_out, zero):
    """Values in each part of a layer but those of tensors that `left_out` finds; matrices of `zero`
    experts that do nothing are no weights."""
    parts = collections.Counter()
    count = shapes_of(bank)[-1][0]
    for name, tensor in block_tensors(model, bank):
        if re.search(left_out, name):
            continue
        part, values = part_of(name), math.prod(tensor.shape)
        if zero and part == "experts" and tensor.shape[0] == count + zero:
            values = values // tensor.shape[0] * count
        parts[part] += values
    return parts


def matrices_around(model, banks):
    """Values in the matrices outside the MoE blocks."""
    inside = {id(tensor) for bank in banks.values() for _, tensor in block_tensors(model, bank)}
    return sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in inside)


def choices(model, layer):
    """Experts of a token, by any module of the layer that says it."""
    modules = [m for name, m in model.named_modules()
               if re.search(rf"(layers|block)\.{layer}\.", name) and "vision" not in name]
    words = ("top_k", "num_experts_per_tok", "moe_topk", "num_experts_per_token", "moe_k")
    said = [getattr(m, word, None) for m in modules for word in words]
    return {k for k in said if isinstance(k, int)}
