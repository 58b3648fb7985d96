"""Published times of several GPUs against the model, each left out of the fit of the numbers that
it would be fitted with. Used by accuracy.py.

The rows are facts of papers and documentation, so they stand here: microseconds.
"""
import json
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


def fit(rows, model, start, rounds=5):
    """Coordinate descent over factors; the mean relative error is what falls."""
    values = dict(start)

    def error(v):
        return sum(abs(model(row, v) / us - 1) for row, us in rows) / len(rows)
    best, step = error(values), 1.16
    for _ in range(rounds):
        for key in values:
            for factor in (step, 1 / step):
                while True:
                    trial = {**values, key: values[key] * factor}
                    if key.endswith("eff") and trial[key] > 1:
                        break
                    found = error(trial)
                    if found >= best - 1e-6:
                        break
                    best, values = found, trial
        step **= 0.5
    return values


def left_out(rows, model, start):
    """Relative error of each row, fitted without it."""
    errors = []
    for i, (row, us) in enumerate(rows):
        values = fit(rows[:i] + rows[i + 1:], model, start)
        errors.append(model(row, values) / us - 1)
    return errors


def tables(moeref):
    """(what, rows, errors when each is left out)."""
    gather = {"comet_gather.gemm_eff": 0.68, "comet_gather.start_us": 23}
    reduce = {"comet_reduce.gemm_eff": 0.68, "comet_reduce.sm_gbps": 5.4}
    one = {"flashmoe.gemm_eff": 0.2, "flashmoe.rank_us": 58}
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
