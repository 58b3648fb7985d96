#!/usr/bin/env python3
"""Each block of `moeref help case` against a twin of it in torch: routers.py BLOCK_VALUES [GOLDEN].

A twin is written from the paper's equations, token by token in float64, and shares nothing with the
C; gradients are autograd's. BLOCK_VALUES (tests/twins/block_values.c) draws the parameters of a
case and says what the C made of them: output and every gradient must agree to 1e-20. GOLDEN is the
file to write that tests/props holds the C to where there is no torch. A block without a twin fails.
"""

import math
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import save_file

LIMIT = 1e-20
ROOT = pathlib.Path(__file__).resolve().parents[2]

GATED = {"swiglu": torch.nn.functional.silu, "geglu": torch.nn.functional.gelu,
         "reglu": torch.relu}
PLAIN = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu, "relu": torch.relu}


class Case:
    """A case line, the block's parameters by name (leaves of autograd), and what else was drawn."""

    def __init__(self, line, tensors):
        words = dict(word.split("=") for word in line.split())
        self.T, self.d, self.n, self.E, self.K = (int(words[k]) for k in ("T", "d", "n", "E", "K"))
        self.block, self.act = words["block"], words.get("act", "swiglu")
        self.interleaved = words.get("glu") == "interleaved"
        self.layers, self.capacity = int(words.get("layers", 2)), int(words.get("capacity", 0))
        self.score, self.select = words.get("score", "softmax"), words.get("select", "topk")
        self.renorm, self.scale = int(words.get("renorm", 0)), float(words.get("scale", 1))
        self.p = {k[len("parameter."):]: v.clone().requires_grad_() for k, v in tensors.items()
                  if k.startswith("parameter.")}
        self.constants = [tensors[f"constant.{i}"] for i in range(len(tensors))
                          if f"constant.{i}" in tensors]
        self.kinds = tensors["kinds"].flatten()
        self.x = self.p["X"]


# ---- experts ----

def network(c, x, w1, w2, keep=None):
    """One token through one expert, of whose units `keep` says which there are."""
    h = w1 @ x
    if c.act in GATED:
        gate, up = (h[0::2], h[1::2]) if c.interleaved else (h[:c.n], h[c.n:])
        a = GATED[c.act](gate) * up
    else:
        a = PLAIN[c.act](h)
    return w2 @ (a if keep is None else a * keep)


def own_expert(c, e, x):
    return network(c, x, c.p["W1"].reshape(c.E, -1, c.d)[e], c.p["W2"].reshape(c.E, c.d, c.n)[e])


def combined(c, x, weights, chosen, expert=own_expert):
    """Row t: the sum over chosen[t] of weights[t][e] E_e(x_t)."""
    return torch.stack([sum((weights[t][e] * expert(c, e, x[t]) for e in sorted(chosen[t])),
                            torch.zeros(c.d, dtype=x.dtype)) for t in range(c.T)])


# ---- the layer's own choice and weights ----

def best(scores, count):
    return set(torch.topk(scores, count).indices.tolist())


def choice(c, z):
    if c.select == "expert_choice":
        s = torch.softmax(z, -1)
        classes = range(z.shape[1])
        takes = [best(s[:, e], math.ceil(c.T * c.K / len(classes))) for e in classes]
        return [{e for e in classes if t in takes[e]} for t in range(c.T)]
    return [best(row, c.K) for row in z]


def weigh(c, z, chosen):
    rows = []
    for row, experts in zip(z, chosen):
        index = torch.tensor(sorted(experts), dtype=torch.long)
        w = {"softmax": lambda: torch.softmax(row, -1)[index],
             "softmax_topk": lambda: torch.softmax(row[index], -1),
             "sigmoid": lambda: torch.sigmoid(row[index])}[c.score]()
        w = (w / w.sum() if c.renorm else w) * c.scale
        rows.append(dict(zip(index.tolist(), w)))
    return rows


def routed(c, x, z, expert=own_expert):
    chosen = choice(c, z)
    return combined(c, x, weigh(c, z, chosen), chosen, expert)


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


# ---- routers that differ in their logits ----

def activated(c):
    tau = 1 + c.p["tau-1"][0, 0]
    return routed(c, c.x, torch.nn.functional.gelu(c.x @ c.p["W_r0"].T) / tau)


def cosine_router(c):
    temperature = torch.exp(torch.clamp(c.p["theta"][0, 0], max=math.log(100)))
    z = torch.stack([torch.stack([cosine(c.p["W_project"] @ x, v) for v in c.p["prototypes"]])
                     for x in c.x])
    return routed(c, c.x, temperature * z)


def tanh(c):
    return routed(c, c.x, torch.tanh(c.x @ c.p["W_in"].T) @ c.p["W_out"].T)


def frozen(c):
    return routed(c, c.x, c.x @ c.p["W_r0"].detach().T)


def rewired(c):
    return routed(c, c.x, c.x @ c.p["W_r0"].T + c.p["delta"][0])


def sequences(c):
    rows = []
    for t, x in enumerate(c.x):
        task = c.p["e_task"][0 if 2 * t < c.T else 1]
        normed = torch.nn.functional.layer_norm(x, (c.d,))
        near = torch.stack([cosine(task, e) for e in c.p["e_expert"]])
        rows.append(c.p["W_r0"] @ normed / math.sqrt(c.d) + c.p["scale"][0, 0] * near)
    return routed(c, c.x, torch.stack(rows))


def relu_rms(c):
    a = torch.relu(c.x @ c.p["W_r0"].T)
    weights = c.p["gamma"] * a / torch.sqrt((a * a).mean(-1, keepdim=True) + 1e-6)
    return combined(c, c.x, weights, [set(torch.nonzero(row > 0).flatten().tolist()) for row in a])


# ---- scores mixed over tokens; a token sees those before it ----

def causal(scores):
    later = torch.ones_like(scores).triu(1).bool()
    return torch.softmax(scores.masked_fill(later, -math.inf), -1)


def mixed(c, mix):
    scores = mix @ torch.softmax(c.x @ c.p["W_r0"].T, -1)
    chosen = choice(c, scores)
    return combined(c, c.x, [{e: row[e] / sum(row[i] for i in chosen[t]) for e in chosen[t]}
                             for t, row in enumerate(scores)], chosen)


def similarity(c):
    return mixed(c, causal(c.x @ c.p["W_s"].T @ c.x.T / math.sqrt(c.d)))


def attention(c):
    heads = []
    for h in range(2):
        q, k = c.x @ c.p[f"W_q{h}"].T, c.x @ c.p[f"W_k{h}"].T
        heads.append(causal(q @ k.T / math.sqrt(q.shape[1])))
    return mixed(c, sum(heads) / 2)


# ---- experts choose tokens, or tokens leave a layer out ----

def modalities(c):
    g = torch.sigmoid(c.x @ c.p["W_r0"].T)
    chosen = [set() for _ in range(c.T)]
    for kind, experts in ((0, range(c.E // 2)), (1, range(c.E // 2, c.E))):
        tokens = [t for t in range(c.T) if c.kinds[t] == kind]
        take = math.ceil(len(tokens) * c.K / len(experts))
        for e in experts:
            for t in sorted(tokens, key=lambda t: -g[t, e].item())[:take]:
                chosen[t].add(e)
    return combined(c, c.x, g, chosen)


def skipped(c, times):
    x, among, take = c.x, list(range(c.T)), c.capacity
    for turn in range(times):
        g = torch.sigmoid(x @ c.p[f"W_r{turn}"].T)
        among = sorted(among, key=lambda t: -g[t, 0].item())[:take]
        x = torch.stack([x[t] + g[t, 0] * own_expert(c, 0, x[t]) if t in among else x[t]
                         for t in range(c.T)])
        take = (take + 1) // 2
    return x


def depths(c):
    return skipped(c, 1)


def recursions(c):
    return skipped(c, c.layers)


def unweighted(c):
    chosen = choice(c, c.x @ c.p["W_r0"].T)
    return combined(c, c.x, torch.ones(c.T, c.E, dtype=c.x.dtype), chosen)


# ---- layers that hand something on ----

def chained(c, skip=0):
    x = c.x
    for turn in range(c.layers):
        x = routed(c, x, x @ c.p[f"W_r{turn}"].T) + skip * x
    return x


def chained_skip(c):
    return chained(c, 1)


def recurrent(c):
    x = c.x
    h = torch.zeros(c.T, c.p["W_h"].shape[1], dtype=x.dtype)
    for layer in range(c.layers):
        h = torch.gru_cell(x @ c.p[f"W_u{layer}"].T, h, c.p["W_i"], c.p["W_h"], c.p["b_i"][0],
                           c.p["b_h"][0])
        x = x + routed(c, x, h @ c.p[f"W_r{layer}"].T)
    return x


def constants(c):
    def expert(c, e, x):
        if e < c.E:
            return own_expert(c, e, x)
        if e == c.E + 1:
            return x
        a = torch.softmax(c.p[f"W_c{e - c.E - 2}"] @ x, -1)
        return a[0] * x + a[1] * c.p[f"v{e - c.E - 2}"][0]

    x, before = c.x, None
    for layer in range(c.layers):
        z = x @ c.p[f"W_r{layer}"].T
        if layer:
            z = z + before @ c.p[f"W_g{layer}"].T
        before = z
        chosen = [experts - {c.E} for experts in choice(c, z)]
        weights = []
        for row, kept in zip(z, chosen):
            p = torch.softmax(row, -1)
            weights.append({e: p[e] / sum(p[i] for i in kept) for e in kept})
        x = x + combined(c, x, weights, chosen, expert)
    return x


# ---- experts that are one network ----

def masked_units(c):
    mask = c.constants[0].reshape(c.E, -1)
    keep = mask[:, 0::2] if c.interleaved and c.act in GATED else mask[:, :c.n]
    return routed(c, c.x, c.x @ c.p["W_r0"].T,
                  lambda c, e, x: network(c, x, c.p["W1_one"], c.p["W2_one"], keep[e]))


def modulated(c):
    gamma = c.p["gamma"].reshape(c.E, c.d)
    return routed(c, c.x, c.x @ c.p["W_r0"].T,
                  lambda c, e, x: gamma[e] * network(c, x, c.p["W1_one"], c.p["W2_one"]) +
                  c.p["beta"][e])


def low_rank(c):
    def matrix(name, e):
        a = c.p[f"A{name}"].reshape(c.E, -1, 2)[e]
        b = c.p[f"B{name}"].reshape(c.E, 2, -1)[e]
        return c.p[f"W{name}_one"] + a @ b

    return routed(c, c.x, c.x @ c.p["W_r0"].T,
                  lambda c, e, x: network(c, x, matrix(1, e), matrix(2, e)))


TWINS = {f.__name__: f for f in (
    activated, tanh, frozen, rewired, sequences, relu_rms, similarity, attention, modalities,
    depths, recursions, unweighted, chained, chained_skip, recurrent, constants, masked_units,
    modulated, low_rank)} | {"cosine": cosine_router}

SIZES = ("T=5 d=4 n=2 E=4 K=2 capacity=3 layers=2", "T=13 d=9 n=7 E=6 K=3 capacity=7 layers=3",
         "T=9 d=6 n=5 E=8 K=1 capacity=4 layers=4 glu=interleaved act=geglu",
         "T=11 d=7 n=3 E=4 K=4 capacity=5 layers=1 act=silu",
         "T=12 d=8 n=6 E=5 K=2 capacity=6 score=sigmoid renorm=1 scale=2.5 act=gelu",
         "T=10 d=5 n=4 E=7 K=3 capacity=4 score=softmax_topk act=reglu",
         "T=14 d=6 n=3 E=6 K=2 capacity=9 select=expert_choice layers=3")


def nmse(got, want):
    """Elements below 1e-4 are a gradient of a weight that is 1 whatever the logits (one score over
    its own sum): rounding alone, held to 1e-14."""
    error, norm = ((got - want) ** 2).sum().item(), (want ** 2).sum().item()
    return error / max(norm, 1e-8 * want.numel()) if error < math.inf else math.inf


def compare(program, line, path):
    """The worst NMSE and of what; the twin's results."""
    subprocess.run([program, line, path], check=True)
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
    c = Case(line, tensors)
    out = TWINS[c.block](c)
    out.backward(tensors["dO"])
    made = {"O": out.detach()}
    for name, p in c.p.items():
        made["grad." + name] = torch.zeros_like(p) if p.grad is None else p.grad
    # Parameters that a block does not use have no gradient in the C.
    errors = {k: nmse(tensors.get(k, torch.zeros_like(v)), v) for k, v in made.items()}
    worst = max(errors, key=errors.get)
    return errors[worst], worst, made


def names():
    text = (ROOT / "src/layer/blocks.h").read_text(encoding="utf-8")
    return re.findall(r"R\((\w+), +\"", text)


def main(program, golden=None):
    kept, lines, wrong = {}, {}, 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "values.safetensors"
        for name in names():
            worst, where = 0.0, ""
            for i in range(3 * len(SIZES)):
                line = f"{SIZES[i % len(SIZES)]} dtype=fp64 block={name} seed={i + 1}"
                error, what, made = compare(program, line, path)
                if error >= worst:
                    worst, where = error, f"{what} of {line}"
                if i == 0:
                    lines[name] = line
                    kept.update({f"{name}.{k}": v for k, v in made.items()
                                 if k not in ("grad.W1", "grad.W2")})
            wrong += not worst < LIMIT
            print(f"{'ok  ' if worst < LIMIT else 'FAIL'} {name:14} {worst:.1e}  {where}")
    if golden and not wrong:
        save_file(kept, golden, metadata=lines)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
