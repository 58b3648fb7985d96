"""What a call of the torch operator costs the host, beside what torch's own calls cost it there.

    PYTHONPATH=... python3 tests/bench/peers/host.py [--tokens 4,512] [--json FILE]

Each row is the median time to put one call into an empty queue, microseconds, over rounds in which
the rows take turns. Rows:
  linear            torch.nn.Linear under no_grad; `linear_train`: with a gradient to come
  function          an autograd.Function of the operator's tensors that allocates O and no more:
                    what Python's autograd takes alone
  inference         moeref.torch.experts under no_grad
  train             its forward with a gradient to come; `unrecorded`: the same without autograd
  train_backward    forward and backward
"""
import argparse
import json
import time
from statistics import median

import torch

import moeref.torch
from moeref import _experts
from moeref._torch_operator import open_experts

D, N, E, K = 2048, 768, 128, 8  # the layer of Qwen3-30B-A3B


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index, weights, w1, w2):
        ctx.save_for_backward(x, index, weights, w1, w2)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, d_out):
        return (None,) * 5


def no_grad(run):
    def call():
        with torch.no_grad():
            run()
    return call


def rows(tokens):
    def normal(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02

    x, w1, w2 = normal(tokens, D), normal(E, 2 * N, D), normal(E, D, N)
    index = torch.rand(tokens, E, device="cuda").topk(K, dim=1).indices
    weights = torch.rand(tokens, K, device="cuda")
    given = (x, index, weights, w1, w2)
    for t in (x, weights, w1, w2):
        t.requires_grad_()
    d_out, linear = normal(tokens, D), torch.nn.Linear(D, D, device="cuda", dtype=torch.bfloat16)
    trains = open_experts(x, index, weights, w1, w2, False,
                          "cuda|act=swiglu on=output glu=concat", False, True)

    def experts():
        return moeref.torch.experts(*given)

    def train_backward():
        for t in (x, weights, w1, w2):
            t.grad = None
        experts().backward(d_out)

    return {"linear": no_grad(lambda: linear(x)), "linear_train": lambda: linear(x),
            "function": lambda: Function.apply(*given), "inference": no_grad(experts),
            "train": experts, "train_backward": train_backward,
            "unrecorded": no_grad(lambda: _experts.forward(trains, None, *given, None, None))}


def host_us(run, calls):
    """One call, of `calls` that find the queue empty and do not fill it."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return 1e6 * (time.perf_counter() - start) / calls


def measure(tokens, rounds, calls):
    todo = rows(tokens)
    for run in todo.values():
        host_us(run, calls)
    samples = {name: [] for name in todo}
    for _ in range(rounds):
        for name, run in todo.items():
            samples[name].append(host_us(run, calls))
    return {name: {"us": median(s), "fastest_us": min(s)} for name, s in samples.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="4,512", help="T, separated by commas (default 4,512)")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--calls", type=int, default=20, help="of a row in a round")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device: on the CPU nothing is queued")
    found = {}
    for tokens in map(int, args.tokens.split(",")):
        found[tokens] = measure(tokens, args.rounds, args.calls)
        for name, s in found[tokens].items():
            print(f"T={tokens:<6} {name:16} {s['us']:8.1f} us  fastest {s['fastest_us']:.1f}")
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"device": torch.cuda.get_device_name(), "torch": torch.__version__,
                       "layer": {"d": D, "n": N, "E": E, "K": K}, "tokens": found}, out, indent=1)


if __name__ == "__main__":
    main()
