"""The CPU backend beside other people's layers, on few tokens and many.

    GGML_LIBRARIES=ggml/build/src python3 tests/bench/peers/cpu.py \\
        --lib build/src/libmoeref.so --backends build/backends/openblas --shape qwen3-30b

Every candidate has the same data, routing and number of threads, and is checked against float64
before it is timed. They take turns, --rounds times, each turn a warm-up and a timed pass, forward
or, with --backward, both; printed are medians of ours and of ours over theirs, turn by turn, with
the least and the largest, in CPU time of the whole process and in wall time: above 1 is slower.
Weights: fp32, bf16, int8 or int4 (codes that share a scale by 32, which `openblas:int8.1x32` reads;
the others have the values). Peers; one that is not there says so:
  fp32         ours, fp32 weights of the same values
  loop         a plain loop of torch over the experts that have tokens
  grouped_mm   torch.nn.functional.grouped_mm with an index gather, SwiGLU and a weighted sum
  onnxruntime  com.microsoft.MoE (fp32)
  ggml         mul_mat_id on f32, bf16, q8_0 or q4_0, from the folder that GGML_LIBRARIES names
With --backward fp32 and grouped_mm take part, on weights that are no codes.
"""
import argparse
import contextlib
import copy
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a peer's idle threads are in nobody's time

import torch  # noqa: E402

from capi import Moeref, Ours  # noqa: E402
from cpu_layers import (GGML_BF16, GGML_F32, GGML_Q4_0, GGML_Q8_0, Ggml, Loop,  # noqa: E402
                        OnnxRuntime)
from layers import grouped_mm  # noqa: E402
from measure import median  # noqa: E402
from oracle import GATES, Oracle, Wrong, nmse  # noqa: E402
from problem import SHAPES, Problem  # noqa: E402

# Weights: the problem's dtype, our variant, who reads them, and ggml's type.
KINDS = {
    "fp32": (torch.float32, "", "loop grouped_mm onnxruntime ggml", GGML_F32),
    "bf16": (torch.bfloat16, "", "fp32 loop grouped_mm ggml", GGML_BF16),
    "int8": (torch.float32, ":int8.1x32", "fp32 ggml", GGML_Q8_0),
    "int4": (torch.float32, ":int4.1x32", "fp32 ggml", GGML_Q4_0),
}
DIFFERENTIABLE = ("fp32", "grouped_mm")
GROUP = 32
LARGEST = {"int8": 127, "int4": 7}  # codes
# ggml rounds activations to eight bits: a step is max / 127 of 32 values, and its square over 12 is
# the error's. The maximum is some 2.3 rms in X, whose error reaches both factors of A, and 4 rms in
# A. Twice what follows, as for others.
GATE_Q8 = 2 * (2 * 2.3 ** 2 + 4 ** 2) / 127 ** 2 / 12
# Its q4_0 has other scales, max / 8, so the weights are rounded again: those of both factors of A
# and W2.
GATE_Q4 = GATE_Q8 + 2 * 3 * 2.3 ** 2 / 8 ** 2 / 12


def round_to_codes(w, largest):
    """As moe_quantise: scale = max |w| / largest of GROUP columns, in fp32."""
    groups = w.view(*w.shape[:-1], -1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / largest
    groups.copy_((groups / scale).round_().mul_(scale))


def check(name, layer, oracle, kind, backward):
    layer.forward()
    if backward:
        layer.backward()
        oracle.check(layer)
        return
    error = float(nmse(layer.output("O")[oracle.tokens], oracle.rows["O"]))
    gate = 2 * GATES[oracle.p.dtype][0]  # who rounds more often than a fused kernel, too
    if name == "ggml":
        gate = {GGML_Q8_0: GATE_Q8, GGML_Q4_0: GATE_Q4}.get(kind, gate)
    if not error <= gate:
        raise RuntimeError(f"wrong: O has NMSE {error:.1e}, over {gate:.1e}")


def turn(layer, backward):
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        layer.forward()
        if backward:
            layer.backward()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def as_fp32(p):
    """The same problem with fp32 tensors."""
    ret = copy.copy(p)
    ret.dtype = torch.float32
    ret.x, ret.do, ret.w1, ret.w2 = (t.float() for t in (p.x, p.do, p.w1, p.w2))
    return ret


def make(name, p, moeref, kind, backward, stack):
    if name == "fp32":
        return stack.enter_context(Ours(as_fp32(p), moeref, not backward))
    if backward:
        return grouped_mm(p)
    if name == "ggml":
        return stack.enter_context(contextlib.closing(Ggml(p, kind)))
    return {"loop": Loop, "grouped_mm": grouped_mm, "onnxruntime": OnnxRuntime}[name](p)


def candidates(p, ours, moeref, names, kind, backward, stack):
    """Those that are here and right."""
    oracle, layers = Oracle(p), {}
    for name in ["ours", *names]:
        try:
            layer = ours if name == "ours" else make(name, p, moeref, kind, backward, stack)
            check(name, layer, oracle, kind, backward)
            layers[name] = layer
        except (ImportError, OSError, RuntimeError, Wrong) as error:
            print(f"  {name}: {str(error)[:160]}")
    return layers


def measure(p, opened, names, kind, args):
    """{name: [(ms CPU, ms wall) of every round]}"""
    plain, own = opened
    with contextlib.ExitStack() as stack, torch.set_grad_enabled(args.backward):
        ours = stack.enter_context(Ours(p, own, not args.backward))
        layers = candidates(p, ours, plain, names, kind, args.backward, stack)
        times = {name: [] for name in layers}
        for _ in range(args.rounds):
            for name, layer in layers.items():
                times[name].append(turn(layer, args.backward))
    return times


def over(ours, theirs):
    """"0.78 CPU (0.71 to 0.90), 0.80 wall (...)" """
    said = []
    for i, name in enumerate(("CPU", "wall")):
        ratios = [a[i] / b[i] for a, b in zip(ours, theirs)]
        said.append(f"{median(ratios):.2f} {name} ({min(ratios):.2f} to {max(ratios):.2f})")
    return ", ".join(said)


def parse():
    parser = argparse.ArgumentParser(prog="cpu.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help="libmoeref.so")
    parser.add_argument("--backends", required=True, help="folder of the backend's shared object")
    parser.add_argument("--backend", default="openblas", help="NAME or NAME:VARIANT")
    parser.add_argument("--shape", default="olmoe", help="d, n, E and K, one after the other of "
                        + ", ".join(SHAPES))
    parser.add_argument("--tokens", default="1,4,16,128,1024")
    parser.add_argument("--weights", default="fp32,bf16,int8")
    parser.add_argument("--peers", default="fp32,loop,grouped_mm,onnxruntime,ggml")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backward", action="store_true", help="forward and backward")
    args = parser.parse_args()
    for shape in args.shape.split(","):
        if shape not in SHAPES:
            parser.error(f"--shape has {shape!r}; there are {', '.join(SHAPES)}")
    return args


def describe():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if "model name" in line), "?")
    core = os.environ.get("OPENBLAS_CORETYPE") or "not set"
    return f"{model}, {torch.get_num_threads()} threads, OPENBLAS_CORETYPE {core}"


def run(shape, weights, plain, args):
    """A line for each number of tokens."""
    dtype, variant, readers, kind = KINDS[weights]
    own = Moeref(args.lib, args.backends, args.backend + variant) if variant else plain
    names = [name for name in args.peers.split(",")
             if name in readers.split() and (name in DIFFERENTIABLE or not args.backward)]
    for tokens in map(int, args.tokens.split(",")):
        SHAPES["asked"] = (tokens, *SHAPES[shape][1:])
        p = Problem("asked", "cpu", dtype)
        if weights in LARGEST:
            round_to_codes(p.w1, LARGEST[weights])
            round_to_codes(p.w2, LARGEST[weights])
        ms = measure(p, (plain, own), names, kind, args)
        ours = ms.pop("ours")
        cpu, wall = (median([t[i] for t in ours]) for i in range(2))
        print(f"{shape} {weights} T={tokens}: ours {cpu:.1f} ms CPU, {wall:.1f} ms wall; over "
              + "; ".join(f"{name} {over(ours, t)}" for name, t in ms.items()), flush=True)


def main():
    args = parse()
    print(describe())
    plain = Moeref(args.lib, args.backends, args.backend)
    for shape in args.shape.split(","):
        for weights in args.weights.split(","):
            run(shape, weights, plain, args)


if __name__ == "__main__":
    main()
