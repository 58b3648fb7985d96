#!/usr/bin/env python3
"""large.py NAME OUT [EXPERTS]: a checkpoint of one MoE layer at its model's full size, random
weights, written expert by expert: OUT/config.json and OUT/model.safetensors. What checks of real
sizes take is measured on it:

    golden/hf/large.py olmoe olmoe          # 0.81 GB
    golden/hf/large.py deepseek_v3 v3       # 22.6 GB
    moeref check --backend openblas --hf olmoe
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np

BF16 = "BF16"
MODELS = {
    "olmoe": dict(
        config=dict(model_type="olmoe", hidden_size=2048, intermediate_size=1024, num_experts=64,
                    num_experts_per_tok=8, norm_topk_prob=False, hidden_act="silu",
                    num_hidden_layers=1, dtype="bfloat16"),
        module="model.layers.0.mlp.", experts="num_experts", d=2048, n=1024),
    "deepseek_v3": dict(
        config=dict(model_type="deepseek_v3", hidden_size=7168, intermediate_size=18432,
                    moe_intermediate_size=2048, n_routed_experts=256, n_shared_experts=1,
                    num_experts_per_tok=8, n_group=8, topk_group=4, norm_topk_prob=True,
                    routed_scaling_factor=2.5, hidden_act="silu", first_k_dense_replace=3,
                    num_hidden_layers=4, dtype="bfloat16"),
        module="model.layers.3.mlp.", experts="n_routed_experts", d=7168, n=2048, shared=1,
        select_bias=True),
}


def glu(prefix, d, n):
    return {prefix + "gate_proj.weight": (n, d), prefix + "up_proj.weight": (n, d),
            prefix + "down_proj.weight": (d, n)}


def tensors(model):
    """Names and shapes, in the order in which they are written."""
    module, d, n = model["module"], model["d"], model["n"]
    experts = model["config"][model["experts"]]
    shapes = {module + "gate.weight": (experts, d)}
    if model.get("select_bias"):
        shapes[module + "gate.e_score_correction_bias"] = (experts,)
    for e in range(experts):
        shapes |= glu(f"{module}experts.{e}.", d, n)
    if model.get("shared"):
        shapes |= glu(module + "shared_experts.", d, n * model["shared"])
    return shapes


def header(shapes):
    at, entries = 0, {}
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[name] = {"dtype": BF16, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def bf16(values):
    """Rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    bits += 0x7FFF + (bits >> 16 & 1)
    return (bits >> 16).astype("<u2")


class Values:
    """Normal values of a standard deviation in bf16, from a pool: a place in it, with the signs of
    another place. Drawing each anew would take longer than the check."""

    COUNT = 1 << 25

    def __init__(self, random, deviation):
        self.random = random
        pool = random.standard_normal(self.COUNT, dtype=np.float32)
        self.pool = bf16(pool * np.float32(deviation))

    def take(self, count):
        at, signs = self.random.integers(0, self.COUNT - count, 2)
        return self.pool[at:at + count] ^ (self.pool[signs:signs + count] & np.uint16(0x8000))


def main(name, out, experts=None):
    model = MODELS[name]
    if experts:
        model["config"][model["experts"]] = int(experts)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(model["config"], indent=2) + "\n")
    shapes = tensors(model)
    random, pools = np.random.Generator(np.random.SFC64(1)), {}
    with open(out / "model.safetensors", "wb") as f:
        f.write(header(shapes))
        for tensor, shape in shapes.items():
            deviation = 0.01 if len(shape) == 1 else shape[-1] ** -0.5
            if deviation not in pools:
                pools[deviation] = Values(random, deviation)
            pools[deviation].take(math.prod(shape)).tofile(f)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in MODELS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
