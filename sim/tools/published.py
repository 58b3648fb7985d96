"""Published times of several GPUs against the model, each left out of the fit of the numbers that
it would be fitted with. Used by accuracy.py.

The rows are facts of papers and documentation, so they stand here: microseconds.
"""
import json
import math
import subprocess

# Flux, docs/performance.md at db4ffe0: 8 H800, 8192 tokens in all, d = n = 8192. Its benchmark of
# layer 0 lets each rank draw its own routing: the slowest rank's rows over an even share are the
# loads; layer 1 is even.
FLUX = [  # ep, tp, E, K, load, layer 0, layer 1
    (1, 8, 32, 4, 1.00, 1146, 1863), (2, 4, 32, 4, 1.22, 1335, 1685),
    (1, 8, 8, 2, 1.00, 657, 1019), (2, 4, 8, 2, 1.75, 955, 981)]
# FlashMoE's bars, two digits: T a GPU, GPUs, us. d = n = 2048, E = 32, K = 2, capacity factor 1.
FLASHMOE = [(4096, 8, 2100), (16384, 8, 7000), (8192, 4, 3400), (8192, 2, 3300)]


def predict(moeref, *args):
    return json.loads(subprocess.run([moeref, "predict", "--output", "json", *args], check=True,
                                     text=True, stdout=subprocess.PIPE).stdout)


def what_ifs(values):
    return [word for key, value in values.items() for word in ("--what-if", f"{key}={value:.6g}")]


def counts_of(load, tokens, experts, top):
    """Pairs of each expert where the first half of them has `load` times its share."""
    even, half = tokens * top / experts, experts // 2
    return "+".join(str(round(even * (load if e < half else 2 - load))) for e in range(experts))


def flux(moeref, row, layer, values):
    ep, tp, experts, top, load, *_ = row
    load = load if layer == 0 else 1
    route = f"route=counts:{counts_of(load, 1024, experts, top)}"
    case = f"T=1024 d=8192 n=8192 E={experts} K={top} act=silu pass=fwd {route}"
    p = predict(moeref, "--node", "h800-x8", "--ep", str(ep), "--tp", str(tp), "--method", "comet",
                "--compute", "cublas", "--case", case, *what_ifs(values))
    first = max(t["start_us"] + t["us"] for t in p["tasks"] if t["name"] == "A")
    return first if layer == 0 else p["total_us"] - first


def flashmoe(moeref, row, values):
    tokens, gpus, _ = row
    case = f"T={tokens} d=2048 n=2048 E=32 K=2 act=relu pass=fwd route=balanced"
    return predict(moeref, "--node", "h100-x8", "--ep", str(gpus), "--method", "flashmoe",
                   "--compute", "cublas", "--operands", "tf32", "--case", case,
                   *what_ifs(values))["total_us"]


def lower(points, error):
    """One step of Nelder and Mead's: the worst of sorted (error, logarithms) moves, or all but the
    best do."""
    best, worst, n = points[0][1], points[-1][1], len(points) - 1
    centre = [sum(v[i] for _, v in points[:-1]) / n for i in range(n)]

    def at(factor):
        v = [c + factor * (w - c) for c, w in zip(centre, worst)]
        return error(v), v
    moved = at(-1)
    if moved < points[0]:
        moved = min(moved, at(-2))
    elif moved >= points[-2]:
        moved = min(at(0.5), at(-0.5))
    if moved < points[-1]:
        return sorted(points[:-1] + [moved])
    shrunk = [[(b + x) / 2 for b, x in zip(best, v)] for _, v in points[1:]]
    return sorted([points[0]] + [(error(v), v) for v in shrunk])


def fit(rows, model, start, steps=80):
    """Factors of `start` by Nelder and Mead's simplex; the mean relative error is what falls. One
    number at a time would end where two rows fit, for all of them move what these say."""
    def values(logs):
        return {key: math.exp(v) for key, v in zip(start, logs)}

    def error(logs):
        v = values(logs)
        if any(key.endswith("eff") and x > 1 for key, x in v.items()):
            return math.inf
        return sum(abs(model(row, v) / us - 1) for row, us in rows) / len(rows)
    first = [math.log(v) for v in start.values()]
    logs = [first] + [[v + (0.15 if i == k else 0) for i, v in enumerate(first)]
                      for k in range(len(first))]
    points = sorted((error(v), v) for v in logs)
    for _ in range(steps):
        points = lower(points, error)
    return values(points[0][1])


def left_out(rows, model, start):
    """Relative error of each row, fitted without it."""
    errors = []
    for i, (row, us) in enumerate(rows):
        values = fit(rows[:i] + rows[i + 1:], model, start)
        errors.append(model(row, values) / us - 1)
    return errors


def tables(moeref):
    """(what, rows, errors when each is left out)."""
    gather = {"comet_gather.gemm_eff": 0.5, "comet_gather.start_us": 10}
    reduce = {"comet_reduce.gemm_eff": 0.5, "comet_reduce.sm_gbps": 4}
    one = {"flashmoe.gemm_eff": 0.3, "flashmoe.rank_us": 30}
    return [("Flux, layer 0", *both([(r, r[5]) for r in FLUX],
                                    lambda r, v: flux(moeref, r, 0, v), gather)),
            ("Flux, layer 1", *both([(r, r[6]) for r in FLUX],
                                    lambda r, v: flux(moeref, r, 1, v), reduce)),
            ("FlashMoE", *both([(r, r[2]) for r in FLASHMOE],
                               lambda r, v: flashmoe(moeref, r, v), one))]


def both(rows, model, start):
    shipped = [model(row, {}) / us - 1 for row, us in rows]
    return shipped, left_out(rows, model, start), fit(rows, model, start)


if __name__ == "__main__":
    import sys
    for what, shipped, errors, values in tables(sys.argv[1]):
        print(what, "shipped", [f"{100 * e:+.1f}" for e in shipped], "left out",
              [f"{100 * e:+.1f}" for e in errors], values)
