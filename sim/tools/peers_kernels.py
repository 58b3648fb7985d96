#!/usr/bin/env python3
"""Turns what `tests/bench/peers --kernels` measured of PyTorch's grouped_mm and of ScatterMoE into
what the model reads.

    peers_kernels.py PEERS.json KERNELS.json FOLDER

writes FOLDER/grouped_mm.json and FOLDER/scattermoe.json, kernel by kernel in the form of `moeref
bench --output json` and under the model's names; FOLDER/peers.tsv, whole passes of these, of
batched cuBLAS GEMMs and, from KERNELS.json, a later run, of the project's own kernels; and
FOLDER/sonicmoe_measured.tsv, SonicMoE's passes on shapes where its device does not wait for its
host. For `moeref calibrate --from`. Microseconds.
"""
import json
import sys
from pathlib import Path

from measured import PASSES, about, entry, is_busy, pass_rows, write_table

# The kernels of a pass in the order of their launches, as the model calls them, + for one that may
# be launched twice: ATen cuts tensors of 2^31 elements and more. Autograd computes the gradient of
# a product's mat2, the weights, before that of self.
NAMES = {
    "scattermoe": {
        "forward": ("H", "silu", "A", "Y", "O"),
        "backward": ("dS", "dY grouped", "zero dW2+", "dW2", "dA", "d up", "d silu", "d gate", "dH",
                     "X grouped", "zero dW1+", "dW1", "dXp", "dX+")
    },
    "grouped_mm": {
        "forward": ("X grouped+", "H", "A", "Y", "Y by token", "O"),
        "backward": ("dS", "zero dY", "dY", "dW2", "dA", "dH", "dW1", "dXp", "zero dX+", "dX")
    },
}
# Sorting, offsets and other small change: the model's "sort" or nothing.
SMALL = ("Mem", "DeviceRadix", "prepare_", "elementwise_kernel_with_index", "fill_reverse",
         "kernelHistogram", "triton_red_fused_cumsum", "vectorized_elementwise_kernel<BUnary",
         "vectorized_elementwise_kernel<AUnary")


def large(kernels):
    """What is not small change; ScatterMoE sorts before its first product."""
    products = [i for i, k in enumerate(kernels) if k["name"].startswith("_scatter2scatter")]
    sorting = any(k["name"].startswith("kernelHistogram") for k in kernels)
    kernels = kernels[products[0]:] if sorting else kernels
    return [k for k in kernels if not k["name"].startswith(SMALL)]


def named(kernels, names):
    out, left = {}, large(kernels)
    for name in names:
        first = left.pop(0)
        out[name.rstrip("+")] = first["us"]
        if name.endswith("+") and left and left[0]["name"] == first["name"]:
            out[name.rstrip("+")] += left.pop(0)["us"]
    if left:
        raise ValueError(f"kernels without a name: {left}")
    return out


def kernels_of(peer, shape):
    kernels = {}
    for part, names in NAMES[peer].items():
        kernels.update(named(shape[peer]["profile"][part]["kernels"], names))
    return kernels


def write_kernels(peer, measured, path):
    bench = [json.dumps(entry(s, peer, kernels_of(peer, s), s[peer]))
             for s in measured["shapes"].values() if "profile" in s.get(peer, {})]
    with open(path, "w") as out:
        head = json.dumps(about(measured, "date", "gpu_and_driver", "torch", "command"))[:-1]
        out.write(head + ', "bench": [\n' + ",\n".join(bench) + "\n]}\n")


def write_passes(measured, own, path):
    rows = []
    for method, peer, run in (("cublas", "bmm", measured), ("moeref", "ours", own),
                              ("grouped_mm", "grouped_mm", measured),
                              ("scattermoe", "scattermoe", measured)):
        for shape in run["shapes"].values():
            rows += pass_rows(method, shape, shape.get(peer, {}),
                              "balanced" if peer == "bmm" else "uniform")
    write_table(path, PASSES, rows)


def write_sonicmoe(measured, path):
    rows = []
    for shape in measured["shapes"].values():
        if is_busy(shape["sonicmoe"]):
            rows += pass_rows("sonicmoe", shape, shape["sonicmoe"])
    write_table(path, PASSES, rows)


def main(peers_path, kernels_path, folder):
    measured, own = (json.loads(Path(path).read_text()) for path in (peers_path, kernels_path))
    for peer in NAMES:
        write_kernels(peer, measured, f"{folder}/{peer}.json")
    write_passes(measured, own, f"{folder}/peers.tsv")
    write_sonicmoe(measured, f"{folder}/sonicmoe_measured.tsv")


main(*sys.argv[1:4])
