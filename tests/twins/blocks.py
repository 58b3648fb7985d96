"""Blocks that have more than a layer. Each takes x [T][d], the parameters, the choices and numpy's
random numbers, adds the parameters of its own to p under their names in checkpoints, and gives
output, logits, weights and what else a case holds.
"""

import numpy as np

from parts import experts, route, shared_expert, top
from sizes import rounded
from tape import V, gelu, join, rms, sigmoid, silu, softmax, softplus


def own(p, rng, name, *shape, one=False):
    """A parameter: a matrix, or a vector around 1 or 0."""
    noise = rng.standard_normal(shape)
    p[name] = V(rounded(noise / shape[-1]**0.5 if len(shape) > 1 else 0.2 * noise + one))
    return p[name]


def norm_out(x, p, c, rng):
    z = x @ p["router"].T
    w = route(z, c, p["b_select"].data)
    y = experts(x, w, p, c) + shared_expert(x, p, c)
    scale = own(p, rng, "^post_mlp_layernorm.weight", y.data.shape[1], one=True)
    return rms(y, c["eps_norm"]) * scale, z, w, {}


def bias_out(x, p, c, rng):
    z = x @ p["router"].T
    w = route(z, c)
    return experts(x, w, p, c) + own(p, rng, "bias", x.data.shape[1]), z, w, {}


def gemma4(x, p, c, rng):
    d = x.data.shape[1]
    r = rms(x, c["eps_norm"]) * own(p, rng, "router.scale", d, one=True) * d**-0.5
    z = r @ p["router"].T
    each = own(p, rng, "router.per_expert_scale", z.data.shape[1], one=True)
    w = route(z, c) * each
    return experts(x, w, p, c), softmax(z), w, {}


def muse_spark(x, p, c, rng):
    d, l = x.data.shape[1], c["latent"]
    z = x @ p["router"].T * 0.75
    w = route(z, c, p["b_select"].data)
    h = x @ own(p, rng, "pre_expert_proj.weight", l, d).T
    h = rms(h, 0.01) * (1 + own(p, rng, "pre_expert_norm.weight", l))
    last = own(p, rng, "experts.post_expert_norm.weight", l)
    y = experts(h, w, p, c, lambda y: rms(y * (1 + last), 0.02))
    return y @ own(p, rng, "post_expert_proj.weight", d, l).T, z, w, {}


def latent(x, p, c, rng):
    d, l = x.data.shape[1], c["latent"]
    z = x @ p["router"].T
    w = route(z, c, p["b_select"].data)
    h = x @ own(p, rng, "fc1_latent_proj.weight", l, d).T + own(p, rng, "fc1_latent_proj.bias", l)
    y = experts(h, w, p, c) @ own(p, rng, "fc2_latent_proj.weight", d, l).T
    return y + shared_expert(x, p, c), z, w, {}


def zaya(x, p, c, rng):
    d, r, classes = x.data.shape[1], 7, len(p["b_select"].data)
    name = "gate.router_mlp."
    state = x @ own(p, rng, "gate.down_proj.weight", r, d).T + own(p, rng, "gate.down_proj.bias", r)
    h = rms(state, 0.01) * own(p, rng, name + "norm.weight", r, one=True)
    for fc in ("fc1", "fc2"):
        h = h @ own(p, rng, name + fc + ".weight", r, r).T
        h = gelu(h + own(p, rng, name + fc + ".bias", r))
    p["router"] = V(rounded(rng.standard_normal((classes, r))))
    z = h @ p["router"].T
    w = route(z, c, p["b_select"].data)
    skip = np.ones(classes)
    skip[-1] = 0
    return experts(x, w * skip, p, c), z, w * skip, {"state": state.data}


def inkling(x, p, c, rng):
    sinks, n = c["sinks"], p["W2"].data.shape[2]
    d, E = x.data.shape[1], p["W2"].data.shape[0]
    z = x @ p["router"].T
    routed, rest = z[:, :E], z[:, E:]
    chosen = top(sigmoid(routed).data + p["b_select"].data, c["K"])
    s = sigmoid(routed) * chosen
    all_scores = join([s, sigmoid(rest)])
    g = own(p, rng, "gate.global_scale", 1, one=True)
    w = all_scores / all_scores.sum() * c["scale"] * g
    y = experts(x, w[:, :E], p, c)
    gate, up, down = (own(p, rng, f"shared_experts.{m}_proj", sinks, *shape)
                      for m, shape in (("gate", (n, d)), ("up", (n, d)), ("down", (d, n))))
    for i in range(sinks):
        a = silu(x @ gate[i].T) * (x @ up[i].T) * w[:, E + i:E + i + 1]
        y = y + a @ down[i].T
    return y, z[:, :E], w[:, :E], {"sinks": w.data[:, E:]}


def hash_ids(x, p, c, rng):
    ids = rng.integers(0, 20, x.data.shape[0])
    E = p["W2"].data.shape[0]
    table = np.array([rng.permutation(E)[:c["K"]] for _ in range(20)])
    z = x @ p["router"].T
    mask = np.zeros(z.data.shape)
    np.put_along_axis(mask, table[ids], 1, 1)
    w = softplus(z)**0.5 * mask
    w = w / (w.sum() + c["eps"]) * c["scale"]
    return experts(x, w, p, c) + shared_expert(x, p, c), z, w, {"ids": ids, "table": table}


def product_keys(x, p, c, rng):
    T, E = len(x.data), len(p["W2"].data)
    keys = int(E**0.5)
    z = x @ p["router"].T  # [T][2 keys], cut into two halves of T rows as Doge's code cuts it
    halves = z.reshape(2, T, keys)
    a, b = halves[0], halves[1]
    total = (a.reshape(T, keys, 1) + b.reshape(T, 1, keys)).reshape(T, E)
    w = route(total, c)
    return experts(x, w, p, c) + shared_expert(x, p, c), z, w, {}


def two_stages(x, p, c, rng):
    z = x @ p["router"].T + own(p, rng, "router.classifier.bias", p["router"].data.shape[0])
    prob = softmax(z)
    first = top(z.data, 1)
    second = top(np.where(first > 0, -np.inf, z.data), 1)
    place1 = np.cumsum(first, 0) - 1
    place2 = np.cumsum(second, 0) - 1 + first.sum(0, keepdims=True)
    first, second = first * (place1 < c["capacity"]), second * (place2 < c["capacity"])
    kept = prob * (first + second)
    s = kept.data.sum(-1, keepdims=True)
    w = kept / (kept.sum() + (s == 0))
    return experts(x, w * c["scale"], p, c), z, w, {}


BLOCKS = {"norm_out": norm_out, "bias_out": bias_out, "gemma4": gemma4, "muse_spark": muse_spark,
          "latent": latent, "zaya": zaya, "inkling": inkling, "hash": hash_ids,
          "product_keys": product_keys, "two_stages": two_stages}
