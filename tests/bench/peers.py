#!/usr/bin/env python3
"""The cuda backend beside other people's kernels, on one GPU, in one process.

    python3 tests/bench/peers.py --lib build/src/libmoeref.so.0 --backends build/backends/cuda \
        --out golden/timing/h100-sxm/peers.json [--shapes 7b-n256,olmoe] [--peers bmm,grouped_mm]

Every candidate sees the same shape, the same uniform routing and N(0,1) data. A measurement is the median
over `--seconds` of continuous work that follows as long a warm-up (settled clocks); the first tenth of a
second after a pause gives the burst figure of the whole layer. TFLOP/s are model FLOPs: 6 P d n forward, twice
that backward. Peers:
  bmm         one dense cuBLAS batched GEMM per product with P/E rows an expert: a bound, no layer
  grouped_mm  torch.nn.functional.grouped_mm with an index gather, SwiGLU and a weighted sum, compiled
  scattermoe  needs `scattermoe` (github.com/shawntan/scattermoe) on PYTHONPATH
  sonicmoe    needs `sonic-moe` and the nvidia-cutlass-dsl it pins; its router GEMM and top-K are inside its time
A peer that cannot run is recorded with the reason.
"""
import argparse
import ctypes
import json
import math
import subprocess
import time

import torch
import torch.nn.functional as F

SHAPES = {  # T, d, n, E, K; the first twelve are SonicMoE's (arXiv 2512.14080)
    "1.4b-n256": (40960, 768, 256, 128, 8), "1.4b-n512": (40960, 768, 512, 64, 4),
    "1.4b-n1024": (40960, 768, 1024, 32, 2), "7b-n256": (24576, 1536, 256, 128, 8),
    "7b-n512": (24576, 1536, 512, 64, 4), "7b-n1024": (24576, 1536, 1024, 32, 2),
    "30b-n256": (32768, 4096, 256, 256, 16), "30b-n512": (32768, 4096, 512, 128, 8),
    "30b-n1024": (32768, 4096, 1024, 64, 4), "120b-n512": (32768, 4096, 512, 256, 16),
    "120b-n1024": (32768, 4096, 1024, 128, 8), "120b-n2048": (32768, 4096, 2048, 64, 4),
    "olmoe": (32768, 2048, 1024, 64, 8), "qwen3-235b": (32768, 4096, 1536, 128, 8),
    "gpt-oss-20b": (32768, 2880, 2880, 32, 4), "qwen3-next": (32768, 2048, 512, 512, 10),
    "dsv3": (16384, 7168, 2048, 256, 8),
}


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("ndim", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 4)]


class Router(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int32) for k in ("score", "select", "weight_on", "rounding", "bias", "select_bias",
                                              "groups", "topk_groups", "renorm", "tile")] + \
               [("capacity", ctypes.c_int64), ("renorm_eps", ctypes.c_double), ("scale", ctypes.c_double),
                ("jitter", ctypes.c_double)]


class Layer(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int64) for k in ("d", "n", "E", "K", "n_zero", "n_shared")] + \
               [(k, ctypes.c_int32) for k in ("shared_gate", "act", "glu_layout", "expert_bias")] + \
               [("act_alpha", ctypes.c_double), ("act_limit", ctypes.c_double), ("router", Router)]


class Use(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_int64), ("dtype", ctypes.c_int32), ("passes", ctypes.c_int32),
                ("plan_given", ctypes.c_int32)]


class Input(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_int64), ("X", Tensor), ("dO", Tensor), ("plan", ctypes.c_void_p),
                ("seed", ctypes.c_uint64)]


class Cost(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 24), ("bound_by", ctypes.c_char * 16)] + \
               [(k, ctypes.c_double) for k in ("us", "floor_us", "flops", "hbm", "l2", "tiles", "waves")]


class Memory(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int64) for k in ("weights", "cached", "peak")]


BF16, W1, W2, N_TENSORS = 3, 5, 7, 64  # moe_dtype, moe_tensor_id; room for every tensor


def view(t):
    return Tensor(t.data_ptr(), BF16, t.dim(), (ctypes.c_int64 * 4)(*t.shape))


class Moeref:
    """The C API, as far as it is needed here."""

    def __init__(self, lib, path):
        self.lib = ctypes.CDLL(lib)
        self.all, self.backend = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("moe_backends_load", path.encode(), None, ctypes.byref(self.all))
        self.call("moe_backend_open", self.all, b"cuda", None, None, ctypes.byref(self.backend))

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status:
            raise RuntimeError(f"{name}: status {status}")

    def prepare(self, p):
        desc = Layer()
        self.lib.moe_layer_desc_init(ctypes.byref(desc))
        desc.d, desc.n, desc.E, desc.K = p.d, p.n, p.E, p.K
        host = [t.cpu() for t in (p.w1, p.w2, p.x, p.do)]
        token = torch.arange(p.T, dtype=torch.int32).repeat_interleave(p.K)
        expert, weight = p.choice.flatten().int().cpu(), p.weight.flatten().double().cpu()
        plan, layer = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("moe_plan_create", ctypes.c_int64(p.T), ctypes.c_int64(p.E), ctypes.c_int64(p.T * p.K),
                  ctypes.c_void_p(token.data_ptr()), ctypes.c_void_p(expert.data_ptr()),
                  ctypes.c_void_p(weight.data_ptr()), None, ctypes.byref(plan))
        tensors = (Tensor * N_TENSORS)()
        tensors[W1], tensors[W2] = view(host[0]), view(host[1])
        use = Use(p.T, BF16, 3, 1)
        self.call("moe_layer_prepare", self.backend, ctypes.byref(desc), ctypes.byref(use), tensors,
                  ctypes.byref(layer))
        step = Input(p.T, view(host[2]), view(host[3]), plan.value, 0)
        self.call("moe_layer_set_input", layer, ctypes.byref(step))
        return layer, plan, (host, step, tensors)

    def times(self, layer):
        """Kernel times of the last forward and backward: ({name: us}, {name: us})."""
        costs = (Cost * 32)()
        self.lib.moe_layer_timings.restype = ctypes.c_size_t
        count = self.lib.moe_layer_timings(layer, costs, ctypes.c_size_t(32))
        rows = [(c.name.decode(), c.us) for c in costs[:count]]
        first = [name for name, _ in rows].index("dH")
        return dict(rows[:first]), dict(rows[first:])


class Problem:
    def __init__(self, T, d, n, E, K):
        self.T, self.d, self.n, self.E, self.K, self.P = T, d, n, E, K, T * K
        gen = torch.Generator("cuda").manual_seed(1)

        def normal(*shape, scale=1.0):
            return torch.randn(*shape, generator=gen, device="cuda", dtype=torch.bfloat16).mul_(scale)

        self.x, self.do = normal(T, d), normal(T, d)
        self.w1, self.w2 = normal(E, 2 * n, d, scale=d ** -0.5), normal(E, d, n, scale=n ** -0.5)
        self.choice = torch.rand(T, E, generator=gen, device="cuda").topk(K, dim=1).indices
        self.weight = torch.rand(T, K, generator=gen, device="cuda").softmax(dim=1)
        flat = self.choice.flatten()
        self.order = flat.argsort(stable=True)
        self.inverse = self.order.argsort()
        self.token = self.order // K
        self.offs = flat.bincount(minlength=E).cumsum(0).int()

    def tflops(self, us, factor):
        return factor * 6.0 * self.P * self.d * self.n / us * 1e-6


def settled_us(run, seconds):
    """Median time of `run` on the device, after and during continuous work."""
    run()
    torch.cuda.synchronize()
    samples, start = [], time.perf_counter()
    while time.perf_counter() - start < 2 * seconds or len(samples) < 5:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append((time.perf_counter() - start, 1e3 * begin.elapsed_time(end)))
    late = sorted(us for at, us in samples if at >= seconds) or sorted(us for _, us in samples)
    return late[len(late) // 2]


def clock_and_power():
    out = subprocess.run(["nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits"],
                         capture_output=True, text=True).stdout.split(",")
    return [float(v) for v in out]


def measure_bmm(p, seconds):
    rows = p.P // p.E
    up, down = p.w1, p.w2
    x = torch.randn(p.E, rows, p.d, device="cuda", dtype=torch.bfloat16)
    a = torch.randn(p.E, rows, p.n, device="cuda", dtype=torch.bfloat16)
    h = torch.randn(p.E, rows, 2 * p.n, device="cuda", dtype=torch.bfloat16)
    products = {"up": (x, up.mT), "down": (a, down.mT), "da": (x, down), "dw2": (x.mT, a), "dx": (h, up),
                "dw1": (h.mT, x)}
    us = {}
    for name, (left, right) in products.items():
        out = torch.bmm(left, right)
        us[name] = settled_us(lambda: torch.bmm(left, right, out=out), seconds / 3)
    return {"kernels_us": us, "fwd_us": us["up"] + us["down"],
            "bwd_us": us["da"] + us["dw2"] + us["dx"] + us["dw1"]}


def measure_ours(p, seconds, moeref):
    layer, plan, keep = moeref.prepare(p)
    try:
        samples, start = [], time.perf_counter()
        while time.perf_counter() - start < 2 * seconds or len(samples) < 6:
            at = time.perf_counter() - start
            moeref.call("moe_layer_forward", layer)
            moeref.call("moe_layer_backward", layer)
            samples.append((at, *moeref.times(layer)))
        state = clock_and_power()
        late = [s for s in samples if s[0] >= seconds] or samples[len(samples) // 2:]
        burst = [s for s in samples if s[0] < 0.1][1:] or samples[:2]

        def median(rows, which):
            return {k: sorted(r[which][k] for r in rows)[len(rows) // 2] for k in rows[0][which]}

        fwd, bwd = median(late, 1), median(late, 2)
        memory = Memory()
        moeref.call("moe_layer_memory", layer, ctypes.byref(memory))
        return {"kernels_us": {**fwd, **bwd}, "fwd_us": sum(fwd.values()), "bwd_us": sum(bwd.values()),
                "burst_fwd_us": sum(median(burst, 1).values()), "burst_bwd_us": sum(median(burst, 2).values()),
                "runs": len(late), "sm_clock_mhz": state[0], "power_w": state[1],
                "memory_bytes": {k: getattr(memory, k) for k in ("weights", "cached", "peak")}}
    finally:
        moeref.lib.moe_layer_release(ctypes.byref(layer))
        moeref.lib.moe_plan_destroy(ctypes.byref(plan))
        del keep


def measure_layer(forward, leaves, p, seconds):
    """A differentiable layer: forward alone, then forward with backward; backward is the difference."""
    def both():
        for leaf in leaves:
            leaf.grad = None
        forward().backward(p.do)

    fwd = settled_us(forward, seconds)
    return {"fwd_us": fwd, "bwd_us": settled_us(both, seconds) - fwd}


@torch.compile(dynamic=True)
def swiglu(h, n):
    return F.silu(h[:, :n]) * h[:, n:]


@torch.compile(dynamic=True)
def weighted_sum(y, inverse, weight):
    return (y[inverse].view(weight.shape[0], weight.shape[1], -1) * weight[:, :, None]).sum(1).to(y.dtype)


def measure_grouped_mm(p, seconds, _):
    x, w1, w2 = (t.detach().requires_grad_() for t in (p.x, p.w1, p.w2))
    weight = p.weight.bfloat16().requires_grad_()

    def forward():
        h = F.grouped_mm(x[p.token], w1.mT, offs=p.offs)
        return weighted_sum(F.grouped_mm(swiglu(h, p.n), w2.mT, offs=p.offs), p.inverse, weight)

    return measure_layer(forward, (x, w1, w2, weight), p, seconds)


def measure_scattermoe(p, seconds, _):
    from scattermoe.mlp import GLUMLP
    layer = GLUMLP(p.d, p.n, p.E, p.K).cuda().bfloat16()
    x, weight = p.x.detach().requires_grad_(), p.weight.bfloat16().requires_grad_()
    return measure_layer(lambda: layer(x, weight, p.choice), (x, weight, *layer.parameters()), p, seconds)


def measure_sonicmoe(p, seconds, _):
    from sonicmoe import KernelBackendMoE, MoE
    from sonicmoe.enums import ActivationType
    layer = MoE(p.E, p.K, p.d, p.n, ActivationType.SWIGLU, False, p.d ** -0.5).cuda().bfloat16()
    x = p.x.detach().requires_grad_()
    return measure_layer(lambda: layer(x, kernel_backend_moe=KernelBackendMoE.sonicmoe)[0],
                         (x, *layer.parameters()), p, seconds)


PEERS = {"bmm": lambda p, s, _: measure_bmm(p, s), "ours": measure_ours, "grouped_mm": measure_grouped_mm,
         "scattermoe": measure_scattermoe, "sonicmoe": measure_sonicmoe}


def measure_shape(name, peers, seconds, moeref):
    T, d, n, E, K = SHAPES[name]
    p = Problem(T, d, n, E, K)
    result = {"T": T, "d": d, "n": n, "E": E, "K": K}
    for peer in peers:
        try:
            r = PEERS[peer](p, seconds, moeref)
            r["fwd_tflops"], r["bwd_tflops"] = p.tflops(r["fwd_us"], 1), p.tflops(r["bwd_us"], 2)
        except Exception as error:  # a peer that fails is a finding, not the end of the run
            r = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        result[peer] = r
        torch.cuda.empty_cache()
    return result


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def print_ratios(results, peers):
    """ours / peer in TFLOP/s, forward and backward."""
    others = [peer for peer in peers if peer != "ours"]
    print(f"{'shape':12s} {'ours fwd':>9s} {'bwd':>5s}" + "".join(f" {'/' + peer:>18s}" for peer in others))
    ratios = {peer: ([], []) for peer in others}
    for name, r in results.items():
        ours = r.get("ours", {})
        if "error" in ours or not ours:
            print(f"{name:12s} {ours.get('error', 'not measured')}")
            continue
        row = f"{name:12s} {ours['fwd_tflops']:9.0f} {ours['bwd_tflops']:5.0f}"
        for peer in others:
            if "error" in r[peer]:
                row += f" {'-':>18s}"
                continue
            pair = [ours[k] / r[peer][k] for k in ("fwd_tflops", "bwd_tflops")]
            for i in range(2):
                ratios[peer][i].append(pair[i])
            row += f" {pair[0]:10.2f} {pair[1]:7.2f}"
        print(row)
    print(f"{'geomean':28s}" + "".join(
        f" {geometric_mean(ratios[q][0]):10.2f} {geometric_mean(ratios[q][1]):7.2f}" for q in others))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help="libmoeref.so.0")
    parser.add_argument("--backends", required=True, help="folder of moeref-cuda.so")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--peers", default="bmm,ours,grouped_mm,scattermoe,sonicmoe")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no shape is started")
    args = parser.parse_args()
    peers = args.peers.split(",")
    moeref = Moeref(args.lib, args.backends) if "ours" in peers else None
    driver = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                            capture_output=True, text=True).stdout.strip()
    report = {"date": time.strftime("%Y-%m-%d"), "gpu_and_driver": driver, "torch": torch.__version__,
              "seconds": args.seconds, "command": "tests/bench/peers.py --peers " + args.peers, "shapes": {}}
    start = time.perf_counter()
    for name in args.shapes.split(","):
        if time.perf_counter() - start > args.budget:
            print(f"{name}: not started, the time budget is used up")
            continue
        report["shapes"][name] = measure_shape(name, peers, args.seconds, moeref)
        if args.out:
            with open(args.out, "w") as file:
                json.dump(report, file, indent=1)
    print_ratios(report["shapes"], peers)
    for name, r in report["shapes"].items():
        for peer in peers:
            if "error" in r[peer]:
                print(f"{name}: {peer}: {r[peer]['error']}")


if __name__ == "__main__":
    main()
