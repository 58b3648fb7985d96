"""The CPU backend beside torch's layers, forward, on few tokens and many.

    python3 tests/bench/peers/cpu.py --lib build/src/libmoeref.so --backends build/backends/openblas

Every candidate has the same data, routing and number of threads, and is checked against float64
before it is timed. They take turns, --rounds times, each turn a warm-up and a timed pass; printed
are medians of ours and ours over theirs, in CPU time of the whole process and in wall time: above 1
is slower. Weights never fit the caches, so each turn reads them from memory. Peers:
  loop        a plain loop over the experts that have tokens
  grouped_mm  torch.nn.functional.grouped_mm with an index gather, SwiGLU and a weighted sum
"""
import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a peer's idle threads are in nobody's time

import torch  # noqa: E402

from capi import Moeref, Ours  # noqa: E402
from layers import grouped_mm, swiglu  # noqa: E402
from measure import median  # noqa: E402
from oracle import GATES, Oracle, nmse  # noqa: E402
from problem import SHAPES, Problem  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Loop:
    def __init__(self, p):
        self.p, self.out = p, None
        self.rows = [(e, *p.rows(e)) for e in range(p.E) if p.load[e]]

    def forward(self):
        p = self.p
        self.out = torch.zeros_like(p.x)
        for e, token, place in self.rows:
            y = swiglu(p.x[token] @ p.w1[e].T, p.n) @ p.w2[e].T
            self.out.index_add_(0, token, (p.weight[token, place, None] * y).to(p.dtype))

    def output(self, _name):
        return self.out


def check(layer, oracle):
    layer.forward()
    error = float(nmse(layer.output("O")[oracle.tokens], oracle.rows["O"]))
    if not error <= 2 * GATES[oracle.p.dtype][0]:  # who rounds more often than a fused kernel, too
        raise RuntimeError(f"wrong: O has NMSE {error:.1e}")


def turn(layer):
    layer.forward()
    wall, cpu = time.perf_counter(), time.process_time()
    layer.forward()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def candidates(p, oracle, ours, names):
    layers = {"ours": ours}
    for name in names:
        layers[name] = {"loop": Loop, "grouped_mm": grouped_mm}[name](p)
    for name, layer in list(layers.items()):
        try:
            check(layer, oracle)
        except RuntimeError as error:
            print(f"  {name}: {str(error)[:80]}")
            del layers[name]
    return layers


def measure(p, moeref, args):
    oracle = Oracle(p)
    with Ours(p, moeref, forward_only=True) as ours, torch.no_grad():
        layers = candidates(p, oracle, ours, args.peers.split(","))
        times = {name: [] for name in layers}
        for _ in range(args.rounds):
            for name, layer in layers.items():
                times[name].append(turn(layer))
    return {name: [median([t[i] for t in turns]) for i in range(2)]
            for name, turns in times.items()}


def parse():
    parser = argparse.ArgumentParser(prog="cpu.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help="libmoeref.so")
    parser.add_argument("--backends", required=True, help="folder of the backend's shared object")
    parser.add_argument("--backend", default="openblas", help="NAME or NAME:VARIANT")
    parser.add_argument("--shape", default="olmoe", choices=SHAPES, help="d, n, E and K")
    parser.add_argument("--tokens", default="1,16,128,1024")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--peers", default="loop,grouped_mm")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def main():
    args = parse()
    moeref = Moeref(args.lib, args.backends, args.backend)
    for dtype in args.dtypes.split(","):
        for tokens in map(int, args.tokens.split(",")):
            SHAPES["asked"] = (tokens, *SHAPES[args.shape][1:])
            ms = measure(Problem("asked", "cpu", DTYPES[dtype]), moeref, args)
            ours = ms["ours"]
            print(f"{dtype} T={tokens}: ours {ours[0]:.1f} ms CPU, {ours[1]:.1f} ms wall; over "
                  + ", ".join(f"{name} {ours[0] / t[0]:.2f} CPU {ours[1] / t[1]:.2f} wall"
                              for name, t in ms.items() if name != "ours"), flush=True)


if __name__ == "__main__":
    main()
