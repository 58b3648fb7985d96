"""Weight gradients of a layer some of whose combine weights are 0, or next to it, judged.

Usage: numpy_zero_weights.py MOEREF FOLDER

The layer is NumPy's, in float64. Right gradients must pass. Of wrong ones alone the judge recovers
the stage that they are made of by dividing by the weights: it has to name the stage's fault by the
rows that have a weight, and to say how many have none. Exits 0 if so.
"""

import json
import re
import subprocess
import sys

import numpy_layer  # which skips where there is no NumPy
import numpy as np

T, D, N, E, K = 96, 64, 32, 8, 2
ACTIVATIONS = {"silu": (lambda g: g / (1 + np.exp(-g)),
                        lambda g: (1 + g * (1 - 1 / (1 + np.exp(-g)))) / (1 + np.exp(-g))),
               "arctan": (np.arctan, lambda g: 1 / (1 + g * g))}  # which no hypothesis has


def as_drawn(weights, ids, rng):
    return weights


def zeros(weights, ids, rng):
    return np.where(rng.random(weights.shape) < 0.2, 0, weights)


def next_to_zero(weights, ids, rng):
    """Down to where a square, and then the number itself, is none in fp32."""
    small = rng.choice([1e-9, -1e-15, 1e-30, 1e-44, 0], weights.shape)
    return np.where(rng.random(weights.shape) < 0.2, small, weights)


def an_expert_without(weights, ids, rng):
    return np.where(ids == 3, 0, weights)


def gradients(x, d_out, w1, w2, ids, weights, on_input, act):
    """dW1 [E][2n][d] and dW2 [E][d][n]: with weights on the output dW1 of the right H and dW2 of
    `act` of it; with weights on the input dW1 by the slope of `act`, dW2 of the right H."""
    silu, slope = ACTIVATIONS["silu"]
    dtype = x.dtype
    x, d_out, w1, w2, weights = (a.astype(np.float64) for a in (x, d_out, w1, w2, weights))
    d_w1, d_w2 = np.zeros_like(w1), np.zeros_like(w2)
    for e in range(E):
        token, slot = np.nonzero(ids == e)
        s = weights[token, slot][:, None]
        xs, ds = (x[token] * s, 1) if on_input else (x[token], s)
        gate, up = np.split(xs @ w1[e].T, 2, axis=1)
        d_a = ds * (d_out[token] @ w2[e])
        backward = ACTIVATIONS[act][1] if on_input else slope
        forward = silu if on_input else ACTIVATIONS[act][0]
        d_h = np.concatenate([d_a * up * backward(gate), d_a * silu(gate)], 1)
        d_w1[e], d_w2[e] = d_h.T @ xs, d_out[token].T @ (ds * forward(gate) * up)
    return {"dW1": d_w1.astype(dtype), "dW2": d_w2.astype(dtype)}


def judged(moeref, folder, inputs, outputs, on_input):
    dtype = "fp16" if inputs["X"].dtype == np.float16 else "fp32"
    numpy_layer.save(f"{folder}/zero_in.safetensors", inputs)
    numpy_layer.save(f"{folder}/zero_out.safetensors", outputs)
    case = f"T={T} d={D} n={N} E={E} K={K} dtype={dtype}" + (" on=input" if on_input else "")
    run = subprocess.run([moeref, "check", "--output", "json", "--case", case,
                          "--inputs", f"{folder}/zero_in.safetensors",
                          "--outputs", f"{folder}/zero_out.safetensors"],
                         text=True, capture_output=True)
    if run.returncode not in (0, 1):
        sys.exit(run.stderr)
    return json.loads(run.stdout)["cases"][0]


def drawn(spoil, dtype, weights_in):
    rng = np.random.default_rng(1)
    x, d_out = rng.standard_normal((2, T, D))
    w1 = rng.standard_normal((E, 2 * N, D)) / np.sqrt(D)
    w2 = rng.standard_normal((E, D, N)) / np.sqrt(N)
    ids = np.array([rng.choice(E, K, replace=False) for _ in range(T)], dtype=np.int32)
    weights = spoil(0.3 + 0.7 * rng.random((T, K)), ids, rng).astype(weights_in)
    x, d_out, w1, w2 = (a.astype(dtype) for a in (x, d_out, w1, w2))
    return {"X": x, "dO": d_out, "W1": w1, "W2": w2, "topk_index": ids, "topk_weight": weights}


def condemned(moeref, folder, on_input):
    """Weights whose square is no normal number even in fp64, beside results of 16 bits."""
    inputs = drawn(lambda weights, ids, rng: np.where(rng.random(weights.shape) < 0.2, 1e-160,
                                                      weights), np.float16, np.float64)
    case = judged(moeref, folder, inputs, gradients(*inputs.values(), on_input, "silu"), on_input)
    return [] if case["verdict"] == "pass" else ["weights of 1e-160: " + case["why"]]


def tried(moeref, folder, spoil, on_input):
    """What is wrong with the verdicts, in words; empty: nothing."""
    inputs = drawn(spoil, np.float32, np.float32)
    right, wrong = (gradients(*inputs.values(), on_input, act) for act in ("silu", "arctan"))
    said = []
    if judged(moeref, folder, inputs, right, on_input)["verdict"] != "pass":
        said.append("right gradients did not pass")
    stage, of = ("dH", "dW1") if on_input else ("A", "dW2")
    case = judged(moeref, folder, inputs, {of: wrong[of]}, on_input)
    text = (case["explanation"] or {}).get("text", "")
    light = int(np.sum(np.abs(inputs["topk_weight"]) < 1e-6))
    if case["verdict"] != "fail":
        said.append("wrong ones passed")
    if "by the %s that %s must be made of" % (stage, of) not in text:
        said.append("the stage is not named")
    told = re.search(r"but for (\d+) rows", text)
    if (int(told[1]) if told else 0) != light:
        said.append("%d rows have no weight" % light)
    return said and ["%s, weights on the %s: %s; %s" % (
        spoil.__name__, "input" if on_input else "output", ", ".join(said), text or case["why"])]


def main(moeref, folder):
    failed = []
    for on_input in (False, True):
        for spoil in (as_drawn, zeros, next_to_zero, an_expert_without):
            failed += tried(moeref, folder, spoil, on_input)
        failed += condemned(moeref, folder, on_input)
    print("\n".join(failed or ["10 layers as they should be"]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
