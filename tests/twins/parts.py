"""The parts of MoE blocks, naively: every expert computes every token, and a dense matrix of
weights [T][E], 0 where a token has not chosen, adds them up. Written from the models' own code.
"""

import numpy as np

from tape import V, clip, exp, gelu, gelu_tanh, relu, sigmoid, silu, softmax, softplus, tanh

ACTS = {"silu": silu, "gelu": gelu, "relu": relu, "relu2": lambda x: relu(x)**2,
        "gelu_pytorch_tanh": gelu_tanh}


def top(score, k):
    """Mask of the k largest of each row."""
    mask = np.zeros(score.shape)
    np.put_along_axis(mask, np.argsort(-score, -1, kind="stable")[:, :k], 1, -1)
    return mask


def group_mask(score, groups, kept, how):
    by_group = score.reshape(len(score), groups, -1)
    best = by_group.max(-1) if how == "max" else np.sort(by_group, -1)[..., -2:].sum(-1)
    return np.repeat(top(best, kept), by_group.shape[-1], -1)


def route(z, c, bias=None):
    """Weights [T][E] of logits z under the choices c."""
    kind, K = c.get("score", "softmax"), c["K"]
    if kind == "sparsemixer":
        return sparsemixer(z, c["jitter"])
    if kind == "softmax_topk":
        mask = top(z.data, K)
        e = exp(z - (z.data - 1e9 * (1 - mask)).max(-1, keepdims=True)) * mask
        return e / e.sum()
    if kind == "sigmoid_cap":
        z = tanh(z / c["cap"]) * c["cap"]
    score = {"softmax": softmax, "sqrtsoftplus": lambda x: softplus(x)**0.5}.get(kind, sigmoid)(z)
    choice = z.data if kind == "sigmoid_logit" else score.data
    if bias is not None:
        choice = choice + bias
    if c.get("groups", 1) > 1:
        allowed = group_mask(choice, c["groups"], c["kept"], c.get("how", "sum"))
        outside = 0 if c.get("how") == "zero" else -np.inf
        choice = np.where(allowed > 0, choice, outside)
    w = score * top(choice, K)
    if c.get("norm"):
        w = w / (w.sum() + c.get("eps", 0))
    return w * c.get("scale", 1.0)


def sparsemixer(z, jitter):
    """Phi-3.5-MoE in evaluation: each of two picks is weighed by a softmax over the experts within
    2 jitter of the best, relative to the larger magnitude; the second without the first."""
    total, taken = 0, np.zeros(z.data.shape)
    for _ in range(2):
        left = np.where(taken > 0, -np.inf, z.data)
        best = left.max(-1, keepdims=True)
        # The code compares with max(|z|, best), of the logits as they were.
        far = (best - z.data) / np.maximum(np.abs(z.data), best) > 2 * jitter
        keep = ~far & (taken == 0)
        e = exp(z - best) * keep
        pick = top(left, 1)
        total = e / e.sum() * pick + total
        taken = taken + pick
    return total


def glu(g, u, act, c, shared=False):
    limit = c.get("shared_limit" if shared else "limit")
    if act == "gpt_oss":
        g, u = clip(g, -np.inf, limit), clip(u, -limit, limit)
        return (u + 1) * g * sigmoid(g * c["alpha"])
    if act == "limit" and limit:
        return silu(clip(g, -np.inf, limit)) * clip(u, -limit, limit)
    if act == "limit_after" and limit:
        return clip(silu(g), -np.inf, limit) * clip(u, -limit, limit)
    if act == "softcap":
        a, b = c["alpha"], c["limit"]
        return tanh(g / a) * a * sigmoid(g) * tanh(u / b) * b
    return ACTS.get(act, silu)(g) * u


def ffn(x, w1, w2, act, c, b1=None, b2=None, shared=False, gated=True, interleaved=False):
    h = x @ w1.T
    if b1 is not None:
        h = h + b1
    n = w2.data.shape[1]
    if not gated:
        a = ACTS[act](h)
    elif interleaved:
        a = glu(h[:, 0::2], h[:, 1::2], act, c, shared)
    else:
        a = glu(h[:, :n], h[:, n:], act, c, shared)
    y = a @ w2.T
    return y if b2 is None else y + b2


def experts(x, weight, p, c, post=lambda y: y):
    """Sum over experts e of weight[:, e] ffn_e(x); with c["on_input"] of ffn_e(weight[:, e] x)."""
    total = V(np.zeros((x.data.shape[0], p["W2"].data.shape[1])))
    for e in range(len(p["W2"].data)):
        w = weight[:, e:e + 1]
        chosen = (w.data != 0) * 1.0
        b1, b2 = (p[k][e] if k in p else None for k in ("b1", "b2"))
        y = post(ffn(x * w if c.get("on_input") else x, p["W1"][e], p["W2"][e],
                     c.get("act", "silu"), c, b1, b2, gated=c.get("gated", True),
                     interleaved=c.get("interleaved", False)))
        total = total + y * (chosen if c.get("on_input") else w)
    for zero in range(c.get("zero_experts", 0)):
        e = len(p["W2"].data) + zero
        total = total + x * weight[:, e:e + 1]
    return total


def shared_expert(x, p, c):
    y = ffn(x, p["W1s"], p["W2s"], c.get("shared_act", c.get("act", "silu")), c, shared=True,
            gated=c.get("shared_gated", c.get("gated", True)))
    return y * sigmoid(x @ p["Wgs"].T) if "Wgs" in p else y
