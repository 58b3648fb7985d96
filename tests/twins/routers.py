#!/usr/bin/env python3
"""Every router and expert kind of the literature against a twin in numpy: routers.py MOEREF FOLDER.

`moeref golden --export` hands out the drawn input and parameters of a case's block, its output and
the gradient of every parameter. A twin, one function for each block, computes them again from the
formulas of the papers, with every expert on every token and a dense matrix of weights; gradients
come from tape.py. Only what is drawn beside the parameters, kinds of tokens and masks of units, is
drawn here as there, by the same published generator. A block of `moeref help case` without a twin
fails.
"""

import pathlib
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy is not installed (Debian: python3-numpy)")
    sys.exit(77)

from exported import Case, philox, read
from parts import ffn, top
from tape import V, exp, gelu, relu, rms, sigmoid, softmax, tanh

LIMIT = 1e-20


def length(x):
    return (x**2).sum()**0.5


def cosines(a, b):
    return (a / length(a)) @ (b / length(b)).T


def activated(c, x):
    z = gelu(x @ c.p["W_r0"].T) / (c.p["tau-1"] + 1)
    return c.experts(x, c.weigh(z))


def cosine(c, x):
    theta = c.p["theta"]
    z = cosines(x @ c.p["W_project"].T, c.p["prototypes"])
    assert theta.data.max() < np.log(100)
    return c.experts(x, c.weigh(z * exp(theta)))


def two_layers(c, x):
    return c.experts(x, c.weigh(tanh(x @ c.p["W_in"].T) @ c.p["W_out"].T))


def frozen(c, x):
    return c.experts(x, c.weigh(x @ V(c.p["W_r0"].data).T))


def rewired(c, x):
    return c.experts(x, c.weigh(x @ c.p["W_r0"].T + c.p["delta"]))


def sequences(c, x):
    second = (2 * np.arange(c.T) >= c.T).astype(int)
    near = cosines(c.p["e_task"], c.p["e_expert"]) * c.p["scale"]
    normed = rms(x - x.sum() / c.d, 1e-5)  # a LayerNorm without parameters
    z = normed @ c.p["W_r0"].T * c.d**-0.5 + near[second]
    return c.experts(x, c.weigh(z))


def relu_rms(c, x):
    a = relu(x @ c.p["W_r0"].T)
    return c.experts(x, rms(a, 1e-6) * c.p["gamma"])


def before_alone(scores):
    """softmax of row t over columns 0 .. t"""
    seen = np.tril(np.ones(scores.data.shape))
    e = exp(scores - np.where(seen > 0, scores.data, -1e9).max(-1, keepdims=True)) * seen
    return e / e.sum()


def mixed(c, x, S):
    scores = S @ softmax(x @ c.p["W_r0"].T)
    w = scores * top(scores.data, c.K)
    return c.experts(x, w / w.sum())


def similarity(c, x):
    return mixed(c, x, before_alone(x @ c.p["W_s"].T @ x.T * c.d**-0.5))


def attention(c, x):
    heads = []
    for h in "01":
        q, k = x @ c.p["W_q" + h].T, x @ c.p["W_k" + h].T
        heads.append(before_alone(q @ k.T * k.data.shape[1]**-0.5))
    return mixed(c, x, (heads[0] + heads[1]) * 0.5)


def modalities(c, x):
    kind = np.array([philox(c.seed, 255, t) & 1 for t in range(c.T)])
    z = x @ c.p["W_r0"].T
    half, chosen = c.E // 2, np.zeros((c.T, c.E))
    for e in range(c.E):
        mine = int(e >= half)
        own = np.where(kind == mine, z.data[:, e], -np.inf)
        of_kind = (kind == mine).sum()
        C = min(-(-of_kind * c.K // (c.E - half if mine else half)), of_kind)
        chosen[:, e] = top(own[None], C)[0]
    return c.experts(x, sigmoid(z) * chosen)


def skipping(c, x, times):
    marked, take = np.ones(c.T, bool), c.capacity
    for l in range(times):
        z = x @ c.p[f"W_r{l}"].T
        order = np.where(marked, z.data[:, 0], -np.inf)
        marked = top(order[None], min(take, marked.sum()))[0] > 0
        chosen = np.zeros((c.T, c.E))
        chosen[:, 0] = marked
        x = x + c.experts(x, sigmoid(z) * chosen)
        take = (take + 1) // 2
    return x


def depths(c, x):
    return skipping(c, x, 1)


def recursions(c, x):
    return skipping(c, x, c.layers)


def unweighted(c, x):
    return c.experts(x, V(c.choose(x @ c.p["W_r0"].T)))


def chained(c, x, skip=0.0):
    for l in range(c.layers):
        x = c.experts(x, c.weigh(x @ c.p[f"W_r{l}"].T)) + x * skip
    return x


def chained_skip(c, x):
    return chained(c, x, 1.0)


def gru(c, u, h):
    """GRU(u, h) with its matrices stacked: reset, update, candidate."""
    n = h.data.shape[1]
    i = u @ c.p["W_i"].T + c.p["b_i"]
    g = h @ c.p["W_h"].T + c.p["b_h"]
    r = sigmoid(i[:, :n] + g[:, :n])
    q = sigmoid(i[:, n:2 * n] + g[:, n:2 * n])
    m = tanh(i[:, 2 * n:] + r * g[:, 2 * n:])
    return (1 - q) * m + q * h


def recurrent(c, x):
    h = V(np.zeros((c.T, (c.d + 1) // 2)))
    for l in range(c.layers):
        h = gru(c, x @ c.p[f"W_u{l}"].T, h)
        x = x + c.experts(x, c.weigh(h @ c.p[f"W_r{l}"].T))
    return x


def constants(c, x):
    E, z = c.E, None
    for l in range(c.layers):
        here = x @ c.p[f"W_r{l}"].T
        z = here if z is None else here + z @ c.p[f"W_g{l}"].T
        w = softmax(z) * top(z.data, c.K)
        without = np.ones(E + 4)
        without[E] = 0  # the zero expert takes its share of the softmax, and gives nothing
        w = w * without
        w = w / (w.sum() + 1e-20)
        o = c.experts(x, w[:, :E]) + x * w[:, E + 1:E + 2]
        for i in range(2):
            a = softmax(x @ c.p[f"W_c{i}"].T)
            o = o + (x * a[:, :1] + a[:, 1:] * c.p[f"v{i}"]) * w[:, E + 2 + i:E + 3 + i]
        x = x + o
    return x


def masked_units(c, x):
    E, n = c.E, c.n
    on = np.array([(philox(c.seed, 254, i) >> 11) * 2.0**-53 < 0.75 for i in range(E * n)])
    w = c.weigh(x @ c.p["W_r0"].T)
    total = V(np.zeros((c.T, c.d)))
    for e in range(E):
        units = np.flatnonzero(on[e * n:(e + 1) * n])
        rows = np.concatenate([units, n + units])
        y = ffn(x, c.p["W1_one"][rows], c.p["W2_one"][:, units], "silu", {})
        total = total + y * w[:, e:e + 1]
    return total


def modulated(c, x):
    gamma, beta = c.p["gamma"].reshape(c.E, c.d), c.p["beta"]
    w = c.weigh(x @ c.p["W_r0"].T)
    y = ffn(x, c.p["W1_one"], c.p["W2_one"], "silu", {})
    return (w @ gamma) * y + w @ beta  # E experts are one network


def low_rank(c, x):
    w = c.weigh(x @ c.p["W_r0"].T)
    total = V(np.zeros((c.T, c.d)))
    for e in range(c.E):
        def own(name, one, rows):
            a = c.p["A" + name][e * rows:(e + 1) * rows]
            return c.p[one] + a @ c.p["B" + name][2 * e:2 * e + 2]
        y = ffn(x, own("1", "W1_one", 2 * c.n), own("2", "W2_one", c.d), "silu", {})
        total = total + y * w[:, e:e + 1]
    return total


TWINS = {f.__name__: f for f in (
    activated, cosine, frozen, rewired, sequences, relu_rms, similarity, attention, modalities,
    depths, recursions, unweighted, chained, chained_skip, recurrent, constants, masked_units,
    modulated, low_rank)}
TWINS["tanh"] = two_layers

SIZES = "T=11 d=10 n=6 E=4 K=2 dtype=fp64"
ONE = "T=11 d=10 n=6 E=1 K=1 dtype=fp64"
MORE = {
    "cosine": ["score=sigmoid renorm=1 scale=2.5"], "tanh": ["score=softmax_topk act=geglu"],
    "relu_rms": ["act=silu"], "unweighted": ["act=gelu select=expert_choice"],
    "chained": ["layers=3 score=sigmoid renorm=1", "layers=1 glu=interleaved"],
    "recurrent": ["layers=3"], "constants": ["layers=3"], "rewired": ["select=expert_choice"]}


def lines_of(name):
    sizes = ONE + " capacity=6" if name in ("depths", "recursions") else SIZES
    for i, words in enumerate(["", "layers=3", *MORE.get(name, [])]):
        yield f"{sizes} block={name} {words} seed={17 + i}"


def distance(got, want):
    """The worst row's error, beside the size of its tensor's rows."""
    size = (want**2).sum(-1).mean()
    return ((got - want)**2).sum(-1).max() / size if size else float((got != 0).any())


def judge(moeref, line, path):
    subprocess.run([moeref, "golden", "--case", line, "--export", str(path)], check=True,
                   capture_output=True)
    tensors = read(path)
    c = Case(line, tensors)
    out = TWINS[c.words["block"]](c, c.p["X"])
    out.backward(tensors["block.dO"])
    errors = {"O": distance(tensors["block.O"], out.data)}
    for name, value in c.p.items():
        errors["grad." + name] = distance(tensors["block.grad." + name], value.grad)
    return [f"{line}: {k} differs by {e:.1e}" for k, e in errors.items() if not e < LIMIT], errors


def main(moeref, folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    text = subprocess.run([moeref, "help", "case"], check=True, capture_output=True,
                          text=True).stdout
    known = text[text.index("\n  block"):].split(":", 1)[1].split("(default")[0].split()
    faults = [f"{name}: no twin" for name in known if name not in TWINS and name != "none"]
    if len(known) < 20:
        faults.append(f"help case names the blocks {known}")
    worst, count = 0.0, 0
    for name in TWINS:
        for line in lines_of(name):
            wrong, errors = judge(moeref, line, out / f"{name}.safetensors")
            faults += wrong
            worst, count = max(worst, *errors.values()), count + len(errors)
    print("\n".join(faults) or f"{len(TWINS)} blocks agree with their twins: {count} tensors, "
          f"worst row {worst:.1e}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
