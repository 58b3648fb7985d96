"""The project's backend beside other people's layers, on one device, in one process.

    python3 tests/bench/peers --lib build/src/libmoeref.so --backends build/backends/cuda \\
        --out golden/timing/h100-sxm/peers.json [--shapes 7b-n256,olmoe] \\
        [--peers bmm,ours,grouped_mm] [--kernels]
    python3 tests/bench/peers --alternate --peers sonicmoe,scattermoe --out kernels.json

Every candidate sees the same shape, the same uniform routing and N(0,1) data, and is checked
against float64 before it is timed (oracle.py): one that is wrong is not timed. A measurement is the
median over --seconds of continuous work that follows as long a warm-up (settled clocks). TFLOP/s
are model FLOPs: 6 P d n forward, twice that backward. The router is in nobody's time. Peers:
  moeref      this project's operator in torch (the package `moeref` on PYTHONPATH)
  ours        the backend that --backend names, through the C API; burst figures are its first tenth
              of a second
  bmm         one dense batched GEMM per product with P/E rows an expert: a bound, no layer
  grouped_mm  torch.nn.functional.grouped_mm with an index gather, SwiGLU and a weighted sum,
              compiled
  scattermoe  needs `scattermoe` (github.com/shawntan/scattermoe) on PYTHONPATH
  sonicmoe    needs `sonic-moe`, `quack-kernels` and the nvidia-cutlass-dsl they pin. quack compiles
              some 80 kernels at first use: minutes, unless QUACK_CACHE_DIR holds them. Set
              QUACK_COMPILE_WORKERS=1: with compile workers it may wait for ever. Every shape is
              tuned anew, before its time is taken
  loop        a plain loop over experts in PyTorch
Without a GPU: --device cpu --backend openblas --backends build/backends/openblas --dtype fp32 \\
        --shapes smoke --peers ours,loop
With --alternate each peer's passes and the operator's take turns in one queue, and the durations of
their kernels alone are compared, without the sorting of choices (told apart).
A peer that cannot run is recorded with the reason; one that is not installed is an error before
anything is measured. The JSON is written again after every peer.
"""
import argparse
import gc
import json
import sys
import time
from importlib.util import find_spec

import torch

from alternate import alternate, print_alternate
from capi import Moeref, Ours
from layers import LAYERS, PACKAGES, time_bmm
from measure import NotFinished, profile_layer, smi, time_layer, time_limit, time_ours
from oracle import Oracle, Wrong
from problem import DEFAULT_SHAPES, SHAPES, Problem
from report import print_checks, print_kernels, print_ratios

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def checked_then_timed(layer, oracle, measure, args):
    layer.forward()
    layer.backward()
    checked = oracle.check(layer)
    return {**measure(layer, args.seconds), "checked": checked}


def run_peer(peer, p, oracle, moeref, args):
    if peer == "bmm":
        return time_bmm(p, args.seconds)
    if peer == "ours":
        with Ours(p, moeref) as ours:
            return checked_then_timed(ours, oracle, time_ours, args)
    layer = LAYERS[peer](p)
    result = checked_then_timed(layer, oracle, time_layer, args)
    if args.kernels and p.device != "cpu":
        result["profile"] = profile_layer(layer)
    return result


def run_alternate(peer, p, oracle, args):
    layers = [LAYERS[name](p) for name in ("moeref", peer)]
    for layer in layers:
        layer.forward()
        layer.backward()
        oracle.check(layer)
    return alternate(*layers, args.seconds)


def limited(run, args):
    """run's result, or why there is none: a peer that fails is a finding, not the end."""
    try:
        with time_limit(args.limit):
            return run()
    except Wrong as wrong:
        return {"error": f"wrong: {wrong}"}
    except NotFinished as late:
        return {"error": str(late)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def judge_peer(peer, p, oracle, moeref, args):
    r = limited(lambda: run_peer(peer, p, oracle, moeref, args), args)
    if "error" in r:
        return r
    return {**r, "fwd_tflops": p.tflops(r["fwd_us"], 1), "bwd_tflops": p.tflops(r["bwd_us"], 2)}


def device_works(device):
    """A kernel that faults takes the process's device along: nothing after it would mean
    anything."""
    try:
        if device != "cpu":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        return True
    except RuntimeError:
        return False


def say(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)  # a run that is killed shows where it was


def measure_shape(name, peers, moeref, args, result, write):
    start = time.perf_counter()
    p = Problem(name, args.device, DTYPES[args.dtype])
    result.update({k: getattr(p, k) for k in "TdnEK"})
    oracle = Oracle(p) if set(peers) - {"bmm"} else None
    say(f"{name}: data and float64 results, {time.perf_counter() - start:.1f} s")
    for peer in peers:
        say(f"{name}: {peer} ... ", end="")
        start = time.perf_counter()
        if args.alternate:
            r = limited(lambda: run_alternate(peer, p, oracle, args), args)
            result.setdefault("alternate", {})[peer] = r
            said = f"{r.get('peer/ours fwd')} / {r.get('peer/ours bwd')} times ours"
        else:
            r = result[peer] = judge_peer(peer, p, oracle, moeref, args)
            said = "" if "error" in r else f"{r['fwd_tflops']:.1f} / {r['bwd_tflops']:.1f} TFLOP/s"
        say(f"{time.perf_counter() - start:.1f} s, " + (r.get("error") or said))
        write()
        gc.collect()
        if not device_works(args.device):
            say("the device is lost: the run ends here")
            return False
    return True


def check_names(parser, peers, shapes):
    for name in peers:
        if name not in ("bmm", "ours", *LAYERS):
            parser.error(f"no peer '{name}'; there are bmm, ours, {', '.join(LAYERS)}")
        if name in PACKAGES and not find_spec(name):
            parser.error(
                f"{name} is not installed: put it on PYTHONPATH or leave it out of --peers")
    for name in shapes:
        if name not in SHAPES:
            parser.error(f"no shape '{name}'; there are {', '.join(SHAPES)}")


def parse():
    parser = argparse.ArgumentParser(prog="peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", help="libmoeref.so")
    parser.add_argument("--backends", help="folder of the backend's shared object")
    parser.add_argument("--backend", default="cuda", help="NAME or NAME:VARIANT")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"),
                        help="where data and other layers are")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--shapes", default=",".join(DEFAULT_SHAPES))
    parser.add_argument("--peers", default="bmm,ours,grouped_mm,scattermoe,sonicmoe")
    parser.add_argument("--kernels", action="store_true",
                        help="also record the kernels of other people's layers")
    parser.add_argument("--alternate", action="store_true",
                        help="kernels of each peer beside those of the operator, in turns")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=600,
                        help="seconds that one peer may take for one shape")
    parser.add_argument("--budget", type=float, default=1e9,
                        help="seconds after which no shape is started")
    args = parser.parse_args()
    if "ours" in args.peers.split(",") and not (args.lib and args.backends):
        parser.error("ours needs --lib and --backends")
    if args.alternate and (args.device == "cpu" or {"ours", "bmm"} & set(args.peers.split(","))):
        parser.error("--alternate compares layers of torch on a GPU: neither ours nor bmm")
    check_names(parser, args.peers.split(","), args.shapes.split(","))
    return args


def device_name(device):
    if device == "cpu":
        return f"CPU, {torch.get_num_threads()} threads"
    return smi("name,driver_version")


def main():
    args = parse()
    peers = args.peers.split(",")
    moeref = Moeref(args.lib, args.backends, args.backend) if "ours" in peers else None
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "gpu_and_driver": device_name(args.device),
        "torch": torch.__version__,
        "seconds": args.seconds,
        "command": f"tests/bench/peers --peers {args.peers}{' --kernels' if args.kernels else ''}"
                   f"{' --alternate' if args.alternate else ''} --seconds {args.seconds:g}",
        "shapes": {},
    }

    def write():
        if args.out:
            with open(args.out, "w") as file:
                json.dump(report, file, indent=1)

    start = time.perf_counter()
    for name in args.shapes.split(","):
        if time.perf_counter() - start > args.budget:
            print(f"{name}: not started, the time budget is used up")
            continue
        if not measure_shape(name, peers, moeref, args, report["shapes"].setdefault(name, {}),
                             write):
            break
    if args.alternate:
        print_alternate(report["shapes"])
        return
    if "ours" in peers:
        print_ratios(report["shapes"], peers)
    print_kernels(report["shapes"], peers)
    print_checks(report["shapes"], peers)


if __name__ == "__main__":
    main()
