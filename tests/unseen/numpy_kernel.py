"""A layer forward and backward in NumPy, as a kernel computes it: rows sorted by expert, products
in fp32, stages stored in the case's type. A bug, or another right way, overrides one step."""
import json
import struct

import numpy as np

DEFAULTS = {"act": "swiglu", "score": "softmax", "glu": "concat", "on": "output", "dtype": "bf16",
            "scale": "1", "renorm": "0", "alpha": "1.702", "limit": "7"}
KINDS = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "F64": np.float64}


def load(path):
    """Tensors of a safetensors file, bf16 as float32."""
    raw = memoryview(path.read_bytes())
    size = struct.unpack("<Q", raw[:8])[0]
    found = {}
    for name, about in json.loads(bytes(raw[8:8 + size])).items():
        if name == "__metadata__":
            continue
        begin, end = about["data_offsets"]
        data = raw[8 + size + begin:8 + size + end]
        if about["dtype"] == "BF16":
            value = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            value = np.frombuffer(data, KINDS[about["dtype"]])
        found[name] = value.reshape(about["shape"])
    return found


def bf16(x):
    """The nearest bf16 values, ties to even, as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000).view(np.float32)


def save(path, tensors, dtype):
    """Floating tensors in the type `dtype` of a case, weights and dS in fp32, others as
    int64."""
    header, data, at = {}, [], 0
    for name, value in tensors.items():
        kind = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}[dtype]
        if value.dtype.kind == "i":
            kind, value = "I64", value.astype(np.int64)
        elif name in ("topk_weight", "dS") or dtype == "fp32":
            kind, value = "F32", value.astype(np.float32)
        elif dtype == "fp16":
            value = value.astype(np.float16)
        else:
            value = (bf16(value).view(np.uint32) >> 16).astype(np.uint16)
        raw = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": kind, "shape": list(value.shape),
                        "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    """By Abramowitz and Stegun's 7.1.26 it would be too coarse: by the series and the fraction."""
    from math import erf as exact
    return np.vectorize(exact, otypes=[np.float64])(x).astype(np.float32)


class Kernel:
    """layer: a key of LAYERS. words: by what the cause counts as named. gives: names of results
    that the author hands over, None for all. types: element types in which it is tried.
    told: False where no report names the cause so far. recipe: what the author says of it."""

    layer, words, gives, types, told = "small", "", None, "fp32 bf16 fp16", True
    recipe = None

    def __init__(self, line, inputs):
        c = dict(DEFAULTS, **dict(word.split("=") for word in line.split()))
        self.c, self.t = c, inputs
        self.T, self.d, self.n, self.E, self.K = (int(c[k]) for k in "T d n E K".split())
        self.dtype, self.gated = c["dtype"], c["act"].endswith("glu") or "clamp" in c["act"]
        self.X, self.dO, self.W1, self.W2 = (inputs[k].astype(np.float32)
                                             for k in ("X", "dO", "W1", "W2"))

    def p(self, name):
        return self.t[name].astype(np.float32) if name in self.t else None

    def store(self, name, value):
        """A stage as it lies in memory: in the case's type, held as float32."""
        if self.dtype == "bf16":
            return bf16(value)
        return value.astype(np.float16).astype(np.float32) if self.dtype == "fp16" else value

    def product(self, name, a, b, e):
        """a bT, of one expert (e; -1: the shared one)."""
        return a @ b.T

    # The router: z [T][E], ids and w [T][K].
    def logits(self):
        z = self.X @ self.p("W_r").T
        return z + self.p("b_r") if "b_r" in self.t else z

    def scores(self, z):
        if self.c["score"] == "sigmoid":
            return sigmoid(z)
        if self.c["score"] == "softmax_topk":
            return z
        m = np.exp(z - z.max(1, keepdims=True))
        return m / m.sum(1, keepdims=True)

    def key(self, score):
        return score + self.p("b_select") if "b_select" in self.t else score

    def choose(self, key):
        return np.argsort(-key, axis=1, kind="stable")[:, :self.K]

    def weigh(self, score, ids):
        w = np.take_along_axis(score, ids, 1)
        if self.c["score"] == "softmax_topk":
            w = np.exp(w - w.max(1, keepdims=True))
            return w / w.sum(1, keepdims=True)
        if self.c["renorm"] == "1":
            w = w / w.sum(1, keepdims=True)
        return w * np.float32(self.c["scale"])

    def route(self):
        if "W_r" not in self.t:
            self.ids = self.t["topk_index"].astype(np.int64)
            self.K = self.ids.shape[1]
            self.w = self.spread(self.t["topk_weight"])
            return
        self.z = self.logits()
        self.score = self.scores(self.z)
        self.ids = self.choose(self.key(self.score))
        self.w = self.weigh(self.score, self.ids)

    def spread(self, by_plan):
        """[pairs in the order of experts] to [T][K]."""
        w, offsets, token = np.zeros((self.T, self.K), np.float32), *self.given_plan()
        for e in range(self.E):
            for p in range(offsets[e], offsets[e + 1]):
                w[token[p], np.where(self.ids[token[p]] == e)[0][0]] = by_plan[p]
        return w

    def given_plan(self):
        return self.t["plan_offsets"], self.t["plan_token"]

    def sort(self):
        """Rows: token and slot of each pair, by expert, and where an expert's begin."""
        flat = self.ids.reshape(-1)
        order = self.order(flat)
        self.token, self.slot, self.expert = order // self.K, order % self.K, flat[order]
        self.offsets = np.searchsorted(self.expert, np.arange(self.E + 1))
        self.ws = self.w[self.token, self.slot]

    def order(self, flat):
        pairs = np.where(flat >= 0)[0]
        return pairs[np.argsort(flat[pairs], kind="stable")]

    def rows(self, e):
        return slice(self.offsets[e], self.offsets[e + 1])

    # The experts.
    def halves(self, h):
        if self.c["glu"] == "interleaved":
            return h[:, 0::2], h[:, 1::2]
        return h[:, :self.n if h.shape[1] == 2 * self.n else h.shape[1] // 2], \
            h[:, self.n if h.shape[1] == 2 * self.n else h.shape[1] // 2:]

    def joined(self, g, u):
        if self.c["glu"] == "interleaved":
            return np.stack([g, u], 2).reshape(len(g), -1)
        return np.concatenate([g, u], 1)

    def phi(self, g):
        """The activation and its slope, of the gate or of all of H."""
        act = self.c["act"]
        if act == "relu2":
            return np.maximum(g, 0) ** 2, 2 * np.maximum(g, 0)
        if act == "geglu":
            cdf = (1 + erf(g / np.sqrt(2))) / 2
            return g * cdf, cdf + g * np.exp(-g * g / 2) / np.float32(np.sqrt(2 * np.pi))
        a = np.float32(self.c["alpha"]) if "clamp" in act else np.float32(1)
        s = sigmoid(a * g)
        return g * s, s * (1 + a * g * (1 - s))

    def clamped(self, g, u):
        if "clamp" not in self.c["act"]:
            return g, u, 1, 1
        m = np.float32(self.c["limit"])
        return np.minimum(g, m), np.clip(u, -m, m) + 1, g <= m, abs(u) <= m

    def act(self, h):
        if not self.gated:
            return self.phi(h)[0]
        g, u, _, _ = self.clamped(*self.halves(h))
        return self.phi(g)[0] * u

    def dact(self, da, h):
        if not self.gated:
            return da * self.phi(h)[1]
        g, u, inside_g, inside_u = self.clamped(*self.halves(h))
        value, slope = self.phi(g)
        return self.joined(da * u * slope * inside_g, da * value * inside_u)

    def gather(self):
        return self.X[self.token]

    def up(self, e, x):
        h = self.product("H", x, self.W1[e], e)
        return h + self.p("b1")[e] if "b1" in self.t else h

    def down(self, e, a):
        y = self.product("Y", a, self.W2[e], e)
        return y + self.p("b2")[e] if "b2" in self.t else y

    def each(self, width, make):
        """[pairs][width] of make(expert, its rows)."""
        whole = np.zeros((len(self.token), width), np.float32)
        for e in range(self.E):
            r = self.rows(e)
            if r.stop > r.start:
                whole[r] = make(e, r)
        return whole

    def combine(self, Y):
        """O [T][d]: each token's sum over its slots."""
        O = np.zeros((self.T, self.d), np.float32)
        for k in range(self.K):
            at = np.where(self.slot == k)[0]
            w = 1 if self.c["on"] == "input" else self.ws[at, None]
            O[self.token[at]] += w * Y[at]
        return O

    def forward(self):
        self.x = self.gather()
        self.xin = self.x * self.ws[:, None] if self.c["on"] == "input" else self.x
        if self.c["on"] == "input":
            self.xin = self.store("x", self.xin)
        hw = self.W1.shape[1]
        self.H = self.store("H", self.each(hw, lambda e, r: self.up(e, self.xin[r])))
        self.A = self.store("A", self.act(self.H))
        self.Y = self.store("Y", self.each(self.d, lambda e, r: self.down(e, self.A[r])))
        self.O = self.combine(self.Y)
        if "W1_shared" in self.t:
            self.O = self.O + self.shared()

    # The shared expert.
    def shared_act(self, h):
        return self.act(h)

    def shared_gate(self):
        if "w_gate_shared" not in self.t:
            return np.ones((self.T, 1), np.float32)
        return sigmoid(self.X @ self.p("w_gate_shared").T)

    def shared(self):
        self.Hs = self.store("H", self.product("H", self.X, self.p("W1_shared"), -1))
        self.As = self.store("A", self.shared_act(self.Hs))
        self.Ys = self.store("Y", self.product("Y", self.As, self.p("W2_shared"), -1))
        self.gate = self.shared_gate()
        return self.gate * self.Ys

    def shared_backward(self):
        dy = self.store("dY", self.gate * self.dO)
        da = self.product("dA", dy, self.p("W2_shared").T, -1)
        dh = self.store("dH", self.dact(da, self.Hs))
        self.dW2s, self.dW1s = dy.T @ self.As, dh.T @ self.X
        dx = self.product("dXp", dh, self.p("W1_shared").T, -1)
        if "w_gate_shared" in self.t:
            dg = (self.dO * self.Ys).sum(1, keepdims=True) * self.gate * (1 - self.gate)
            self.dwg = dg.T @ self.X
            dx = dx + dg @ self.p("w_gate_shared")
        return dx

    # Backward.
    def backward(self):
        dy = self.dY = self.dO[self.token]
        s = np.ones_like(self.ws)[:, None] if self.c["on"] == "input" else self.ws[:, None]
        self.s = s
        self.dA = self.each(self.n, lambda e, r: self.product("dA", dy[r], self.W2[e].T, e))
        self.dH = self.store("dH", self.dact(s * self.dA, self.backward_H()))
        self.dXp = self.store("dXp", self.each(self.d, lambda e, r: self.product(
            "dXp", self.dH[r], self.W1[e].T, e)))
        self.Ap = self.store("Ap", self.a_prime())
        self.dS = self.d_weight()
        self.dW2 = self.weight_gradient("dW2", dy, self.Ap, self.W2.shape)
        self.dW1 = self.weight_gradient("dW1", self.dH, self.xin, self.W1.shape)
        self.dX = self.sum_dX(self.dXp)
        if "W1_shared" in self.t:
            self.dX = self.dX + self.shared_backward()
        if "W_r" in self.t:
            self.router_backward()

    def backward_H(self):
        return self.H

    def a_prime(self):
        return self.s * self.A

    def d_weight(self):
        if self.c["on"] == "input":
            return (self.dXp * self.x).sum(1)
        ds = (self.dA * self.A).sum(1)
        return ds + (self.dY * self.p("b2")[self.expert]).sum(1) if "b2" in self.t else ds

    def weight_gradient(self, name, left, right, shape):
        whole = np.zeros(shape, np.float32)
        for e in range(self.E):
            r = self.rows(e)
            whole[e] = self.product(name, left[r].T, right[r].T, e)
        return whole

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        for k in range(self.K):
            at = np.where(self.slot == k)[0]
            w = self.ws[at, None] if self.c["on"] == "input" else 1
            dX[self.token[at]] += w * dxp[at]
        return dX

    def by_slot(self, pairs):
        whole = np.zeros((self.T, self.K), np.float32)
        whole[self.token, self.slot] = pairs
        return whole

    def dz(self, ds):
        """Gradient of the logits [T][E] from that of the weights [T][K]."""
        w, score = self.w, self.score
        chosen = np.zeros_like(self.z)
        if self.c["score"] == "softmax_topk":
            np.put_along_axis(chosen, self.ids, w * (ds - (w * ds).sum(1, keepdims=True)), 1)
            return chosen
        ds = ds * np.float32(self.c["scale"])
        v = np.take_along_axis(score, self.ids, 1)
        if self.c["renorm"] == "1":
            z = v.sum(1, keepdims=True)
            ds = (ds - (ds * v / z).sum(1, keepdims=True)) / z
        np.put_along_axis(chosen, self.ids, ds, 1)
        if self.c["score"] == "sigmoid":
            return chosen * score * (1 - score)
        return score * (chosen - (chosen * score).sum(1, keepdims=True))

    def router_backward(self):
        dz = self.dlogits = self.dz(self.by_slot(self.dS))
        self.dW_r, self.db_r = dz.T @ self.X, dz.sum(0)
        self.dX = self.dX + dz @ self.p("W_r")

    def bias_gradient(self, name, rows, shape):
        return np.stack([rows[self.rows(e)].sum(0) for e in range(self.E)]).reshape(shape)

    def results(self):
        got = {"O": self.O, "dX": self.dX, "dS": self.by_slot(self.dS), "dW1": self.dW1,
               "dW2": self.dW2, "topk_index": self.ids, "topk_weight": self.w}
        if "W_r" in self.t:
            got["dW_r"] = self.dW_r
        if "b_r" in self.t:
            got["db_r"] = self.db_r
        if "b1" in self.t:
            got["db1"] = self.bias_gradient("db1", self.dH, self.t["b1"].shape)
            got["db2"] = self.bias_gradient("db2", self.s * self.dY, self.t["b2"].shape)
        if "W1_shared" in self.t:
            got.update(dW1_shared=self.dW1s, dW2_shared=self.dW2s)
        if "w_gate_shared" in self.t:
            got["dw_gate_shared"] = self.dwg
        return got

    def run(self):
        self.route()
        self.sort()
        self.forward()
        self.backward()
        return self.results()
