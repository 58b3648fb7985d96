#!/usr/bin/env python3
"""Which arithmetic SonicMoE's kernels have: every stage of layers whose sums cancel, forward and
backward, by sonic-moe's own operators in the order in which its two autograd functions call them,
with the routing given. Each layer becomes a file of stages, held to the bank on the spot.

sonicmoe_layers.py MOEREF FOLDER [--tuned]. By hand, on a device with torch and sonic-moe, with
QUACK_COMPILE_WORKERS=1. Without --tuned its products take their default tiles; with it they are
tuned first, which takes minutes."""
import functools
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sonicmoe.functional import backward, forward
from sonicmoe.functional.triton_kernels import TC_topk_router_metadata_triton

MOEREF, FOLDER = sys.argv[1], Path(sys.argv[2])
TUNED = "--tuned" in sys.argv
CANCEL = "T=448 d=320 n=384 E=2 K=1 route=uniform data=cancel glu=interleaved seed=7"
LINES = {
    "bf16": f"{CANCEL} dtype=bf16",
    "fp16": f"{CANCEL} dtype=fp16",
    "pairs": "T=256 d=768 n=512 E=8 K=4 route=uniform glu=interleaved dtype=bf16 seed=7",
    "long": "T=256 d=4096 n=1024 E=4 K=2 route=uniform data=cancel glu=interleaved dtype=bf16 "
            "seed=7",
}
PLAN = ("topk_index", "topk_weight", "plan_token", "plan_offsets")


def run(*words):
    done = subprocess.run([MOEREF, *words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def save(name, tensors):
    path = str(FOLDER / f"{name}.safetensors")
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)
    return path


def exported(line):
    path = str(FOLDER / "sonic_case.safetensors")
    run("golden", "--case", line, "--export", path)
    return {k: v.cuda() for k, v in load_file(path).items()}


def say_bits(*words):
    report = run("check", *words, "--bits", "find", "--no-explanation")
    said = [row for row in report.splitlines() if "bits:" in row]
    print("\n".join(said) if said else report, flush=True)


class Routing:
    """The plan's pairs as SonicMoE numbers them: (token, choice), and the row of each."""

    def __init__(self, t, experts):
        choice = t["topk_index"].sort(dim=1).values.int().contiguous()
        self.T, self.K = choice.shape
        self.pairs = choice.numel()

        def ints(count):
            return torch.empty(count, dtype=torch.int32, device="cuda")

        self.offsets, self.gather, self.scatter, self.reverse = (
            ints(experts + 1), ints(self.pairs), ints(self.pairs), ints(self.pairs))
        TC_topk_router_metadata_triton(choice, experts, ints(experts), self.offsets, self.gather,
                                       self.scatter, self.reverse)
        # Rows of the plan: by expert, then by token. Its weights, in SonicMoE's order.
        self.row = choice.flatten().argsort(stable=True).argsort()
        self.weight = t["topk_weight"][self.row].contiguous()
        same = torch.equal(self.reverse.long(), self.row)
        print(f"  its rows are {'in' if same else 'NOT in'} the plan's order")

    def in_plan_order(self, rows):
        out = torch.empty_like(rows)
        out[self.row] = rows[self.reverse.long()]
        return out


def layer(t):
    """All stages, and A' = s*A."""
    x, do = t["X"], t["dO"]
    w1, w2 = t["W1"].permute(1, 2, 0), t["W2"].permute(1, 2, 0)
    (T, d), (hw, _, E) = x.shape, w1.shape
    n = hw // 2
    r = Routing(t, E)

    def new(*shape):
        return torch.full(shape, float("nan"), dtype=x.dtype, device="cuda")

    h, a, y, dh, weighted, dxp = (new(r.pairs, w) for w in (hw, n, d, hw, n, d))
    o, dx = new(T, d), new(T, d)
    ds = torch.empty(r.pairs, device="cuda")
    dw1, dw2 = (torch.full_like(w, float("nan")) for w in (w1, w2))
    forward._up_projection_forward(x, w1, h, a, None, r.offsets, r.gather, "swiglu")
    forward._down_projection_forward(w2, a, y, None, r.offsets)
    forward._router_forward(y, o, r.weight, r.reverse, None, r.K, d, False)
    backward._down_projection_backward_act(do, h, w2, dh, ds, None, None, weighted, r.weight,
                                           r.offsets, r.gather, r.scatter, "swiglu")
    backward._down_projection_backward_weight(do, weighted, dw2, r.offsets, r.gather)
    backward._up_projection_backward_act(w1, dxp, dh, None, r.offsets, True)
    backward._up_projection_backward_weight(x, dw1, dh, r.offsets, r.gather, True)
    backward._token_broadcast_backward(dx, dxp, r.reverse, None, r.K, d, False)
    torch.cuda.synchronize()
    by_pair = {"H": h, "A": a, "Y": y, "dH": dh, "dXp": dxp}
    return ({**{k: r.in_plan_order(v) for k, v in by_pair.items()}, "O": o, "dX": dx,
             "dW1": dw1.permute(2, 0, 1), "dW2": dw2.permute(2, 0, 1)}, r.in_plan_order(weighted))


def hold(name, line, t, stages, weighted):
    dtype = "fp16" if "fp16" in line else "bf16"
    say_bits("--outputs", save(f"sonic_{name}", stages), "--case", line, "--arithmetic", dtype)
    # dW2 = dO^T A' is, turned round, dW1 = dH^T X of a layer without gates whose X is this dO and
    # whose dH is this A': so it is held to the A' that SonicMoE stored.
    inputs = {"X": t["dO"], "dO": t["dO"], "W1": t["W1"][:, ::2], "W2": t["W2"],
              **{k: t[k] for k in PLAN}}
    print("  dW2 of the A' that it stored, as dW1:")
    say_bits("--inputs", save(f"sonic_{name}_turned_in", inputs), "--outputs",
             save(f"sonic_{name}_turned", {"dH": weighted, "dW1": stages["dW2"].transpose(1, 2)}),
             "--case", f"{line.replace(' data=cancel', '')} act=relu".replace(
                 "glu=interleaved", "glu=concat"), "--arithmetic", dtype)


def main():
    print("torch", torch.__version__, torch.cuda.get_device_name())
    for module, names in ((forward, ("gemm", "gemm_gated")), (backward, ("gemm", "gemm_dgated"))):
        for name in names:
            setattr(module, name, functools.partial(getattr(module, name), tuned=TUNED))
    wrong = 0
    for name, line in LINES.items():
        start = time.perf_counter()
        print(f"{name}: {line}", flush=True)
        try:
            t = exported(line)
            stages, weighted = layer(t)
        except Exception as error:  # not for this type, size or build
            print(f"  {type(error).__name__}: {str(error).strip()[:300]!r}", flush=True)
            wrong = 1
            continue
        print(f"  made in {time.perf_counter() - start:.1f} s", flush=True)
        hold(name, line, t, stages, weighted)
    return wrong


sys.exit(main())
