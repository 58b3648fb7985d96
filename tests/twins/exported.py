"""What `moeref golden --export` hands out of a case with a block, and its generator."""

import json
import struct

import numpy as np

from parts import experts, top
from tape import V, exp, sigmoid, softmax

MASK = 0xFFFFFFFF


def philox(seed, stream, index):
    """64 bits of Philox4x32-10 (Salmon et al., SC'11)."""
    c = [index & MASK, index >> 32, stream & MASK, stream >> 32]
    key = [seed & MASK, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ key[0], b & MASK, (a >> 32) ^ c[3] ^ key[1], a & MASK]
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return c[1] << 32 | c[0]


class Case:
    """A case line and the block's parameters as values."""

    def __init__(self, line, tensors):
        words = dict(w.split("=") for w in line.split() if "=" in w)
        self.T, self.d, self.n, self.E, self.K = (int(words[k]) for k in "TdnEK")
        self.layers, self.seed = int(words.get("layers", 2)), int(words.get("seed", 0))
        self.capacity = int(words.get("capacity", 1))
        self.words = words
        self.gated = words.get("act", "swiglu") not in ("silu", "gelu", "relu", "relu2")
        self.p = {k[6:]: V(t) for k, t in tensors.items()
                  if k.startswith("block.") and not k.startswith("block.grad.")
                  and k not in ("block.O", "block.dO")}

    def experts(self, x, w, w1=None, w2=None):
        act = {"swiglu": "silu", "geglu": "gelu"}.get(self.words.get("act", "swiglu"),
                                                     self.words.get("act"))
        p = {"W1": (self.p["W1"] if w1 is None else w1).reshape(self.E, -1, self.d),
             "W2": (self.p["W2"] if w2 is None else w2).reshape(self.E, self.d, self.n)}
        c = {"act": act, "gated": self.gated,
             "interleaved": self.words.get("glu") == "interleaved"}
        return experts(x, w, p, c)

    def choose(self, z):
        """K experts of each token; with expert choice the T K / E tokens whose scores an expert
        likes best."""
        if self.words.get("select") == "expert_choice":
            return top(softmax(z).data.T, -(-self.T * self.K // self.E)).T
        return top(z.data, self.K)

    def weigh(self, z):
        """Weights [T][E] as the layer's own router has them."""
        score, renorm = self.words.get("score", "softmax"), self.words.get("renorm") == "1"
        chosen = self.choose(z)
        if score == "softmax_topk":
            e = exp(z - z.data.max(-1, keepdims=True)) * chosen
            return e / e.sum()
        w = (sigmoid(z) if score == "sigmoid" else softmax(z)) * chosen
        return (w / w.sum() if renorm else w) * float(self.words.get("scale", 1))


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {k: np.frombuffer(data, "<f8", offset=8 + size + h["data_offsets"][0],
                             count=(h["data_offsets"][1] - h["data_offsets"][0]) // 8)
            .reshape(h["shape"]) for k, h in header.items() if k.startswith("block.")}
