"""Cases and layers in NumPy that several tests share."""
import numpy as np

import moeref

LINE = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 renorm=1 seed=7"
PLAN = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 route=uniform drop=5 seed=7"


def numpy_case(line, **how):
    """torch may have been imported by another test."""
    return moeref.case(line, framework="numpy", **how)


def silu(z):
    return z / (1 + np.exp(-z))


def layer(X, W_r, W1, W2):
    """A layer with a router, plainly, in the dtype of its inputs."""
    logits = X @ W_r.T
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    chosen = np.argsort(-scores, -1, kind="stable")[:, :2]
    out = np.zeros_like(X)
    for t in range(len(X)):
        total = scores[t, chosen[t]].sum()
        for e in chosen[t]:
            gate, up = np.split(W1[e] @ X[t], 2)
            out[t] += scores[t, e] / total * (W2[e] @ (silu(gate) * up))
    return out


def given(X, top_k_index, top_k_weights, W1, W2):
    out = np.zeros_like(X)
    for t in range(len(X)):
        for e, w in zip(top_k_index[t], top_k_weights[t]):
            if e >= 0:
                gate, up = np.split(W1[e] @ X[t], 2)
                out[t] += w * (W2[e] @ (silu(gate) * up))
    return out
