"""Other right ways: none of them may fail."""
import numpy as np
from numpy_kernel import Kernel, bf16, sigmoid


class as_it_is(Kernel):
    layer = "mid"


# The same on other layers, in some types, and with some of its results alone.
_SAME = dict(
    of_long_rows=dict(layer="wide", types="bf16"),
    of_many_rows=dict(layer="long", types="fp32 bf16"),
    of_64_experts=dict(layer="large", types="bf16"),
    with_biases_and_clamp=dict(layer="oss"),
    with_a_shared_expert=dict(layer="shared"),
    weights_on_the_input=dict(layer="one"),
    of_sigmoids=dict(layer="sigmoid"),
    with_holes=dict(layer="holes"),
    of_squares=dict(layer="relu2"),
    of_gelu=dict(layer="geglu"),
    interleaved=dict(layer="turned"),
    O_alone=dict(gives="O"),
    dX_alone=dict(layer="raw", gives="dX"),
    weight_gradients_alone=dict(layer="raw", gives="dW1 dW2"),
    router_gradient_alone=dict(layer="sigmoid", gives="dW_r"),
)
globals().update({name: type(name, (as_it_is,), what) for name, what in _SAME.items()})


class sums_in_chunks(Kernel):
    """fp32 sums of 32 terms, then of those."""
    layer = "mid"

    def product(self, name, a, b, e):
        sums = np.zeros((len(a), len(b)), np.float32)
        for k in range(0, a.shape[1], 32):
            sums += a[:, k:k + 32] @ b[:, k:k + 32].T
        return sums


class split_four_ways(Kernel):
    """Four strided partial sums, the last first."""
    layer = "raw"

    def product(self, name, a, b, e):
        return sum(a[:, k::4] @ b[:, k::4].T for k in (3, 2, 1, 0))


class sums_of_float64(Kernel):
    layer = "raw"

    def product(self, name, a, b, e):
        return (a.astype(np.float64) @ b.T.astype(np.float64)).astype(np.float32)


class stages_in_fp32(Kernel):
    """Nothing is rounded between products."""
    layer = "mid"

    def store(self, name, value):
        return value


class H_in_fp32(Kernel):
    layer = "mid"

    def store(self, name, value):
        return value if name in ("H", "dH") else super().store(name, value)


class Y_in_fp32(Kernel):
    layer = "raw"

    def store(self, name, value):
        return value if name in ("Y", "dXp") else super().store(name, value)


class weight_on_A(Kernel):
    """The weight multiplies A before W2."""
    layer = "raw"

    def combine(self, Y):
        O = np.zeros((self.T, self.d), np.float32)
        a = self.store("A", self.A * self.ws[:, None])
        y = self.store("Y", self.each(self.d, lambda e, r: self.product(
            "Y", a[r], self.W2[e], e)))
        np.add.at(O, self.token, y)
        return O


class weighted_Y_rounded(Kernel):
    """The weight multiplies Y in the epilogue, and that is stored."""
    layer = "raw"

    def combine(self, Y):
        O = np.zeros((self.T, self.d), np.float32)
        np.add.at(O, self.token, self.store("Y", Y * self.ws[:, None]))
        return O


class slots_added_in_reverse(Kernel):
    layer = "large"
    types = "fp32 bf16"

    def combine(self, Y):
        O = np.zeros((self.T, self.d), np.float32)
        np.add.at(O, self.token[::-1], (Y * self.ws[:, None])[::-1])
        return O


class dS_of_Y(Kernel):
    """<dO, Y>, as the conventional path has it."""
    layer = "raw"

    def d_weight(self):
        return (self.dY * self.Y).sum(1)


class rows_of_an_expert_reversed(Kernel):
    """An unstable sort."""
    layer = "mid"

    def order(self, flat):
        pairs = np.where(flat >= 0)[0][::-1]
        return pairs[np.argsort(flat[pairs], kind="stable")]


class slots_by_expert(Kernel):
    """ids and weights sorted by expert, dS with them."""
    layer = "raw"

    def choose(self, key):
        return np.sort(super().choose(key), 1)


class slots_shuffled(Kernel):
    layer = "sigmoid"

    def choose(self, key):
        return np.random.default_rng(1).permuted(super().choose(key), axis=1)


class holes_first(Kernel):
    """-1 before the experts of a token."""
    layer = "holes"

    def results(self):
        got = super().results()
        order = np.argsort(self.ids >= 0, 1, kind="stable")
        return dict(got, **{k: np.take_along_axis(got[k], order, 1)
                            for k in ("topk_index", "topk_weight", "dS")})


class sigmoid_by_tanh(Kernel):
    layer = "mid"

    def phi(self, g):
        s = (1 + np.tanh(g / 2)) / 2
        return g * s, s * (1 + g * (1 - s))


class silu_by_exp2(Kernel):
    layer = "mid"

    def phi(self, g):
        s = 1 / (1 + np.exp2(-g * np.float32(1.44269504)))
        return g * s, s + g * s * (1 - s)


class silu_rounded_before_up(Kernel):
    """Eager: silu(g) is a tensor of its own, and so is the weighted Y."""
    layer, types = "mid", "bf16 fp16"

    def act(self, h):
        g, u = self.halves(h)
        return self.store("A", self.phi(g)[0]) * u

    def combine(self, Y):
        O = np.zeros((self.T, self.d), np.float32)
        for e in range(self.E):
            r = self.rows(e)
            t = self.token[r]
            O[t] = self.store("O", O[t] + self.store("Y", Y[r] * self.ws[r, None]))
        return O


class softmax_by_logsumexp(Kernel):
    layer = "raw"

    def scores(self, z):
        most = z.max(1, keepdims=True)
        return np.exp(z - most - np.log(np.exp(z - most).sum(1, keepdims=True)))


class renorm_by_softmax_of_the_chosen(Kernel):
    """The same by algebra."""
    layer = "mid"

    def weigh(self, score, ids):
        z = np.take_along_axis(self.z, ids, 1)
        w = np.exp(z - z.max(1, keepdims=True))
        return w / w.sum(1, keepdims=True)


class padded_experts(Kernel):
    """Rows of each expert padded with zeros to a multiple of 16, pads not stored."""
    layer = "raw"

    def product(self, name, a, b, e):
        if name in ("dW1", "dW2"):
            pad = -a.shape[1] % 16
            return np.pad(a, ((0, 0), (0, pad))) @ np.pad(b, ((0, 0), (0, pad))).T
        return (np.pad(a, ((0, -len(a) % 16), (0, 0))) @ b.T)[:len(a)]


class tokens_in_two_chunks(Kernel):
    """Weight gradients of two halves of the tokens, added in fp32."""
    layer = "mid"

    def weight_gradient(self, name, left, right, shape):
        early = (self.token < self.T // 2)[:, None]
        return (super().weight_gradient(name, left * early, right, shape) +
                super().weight_gradient(name, left * ~early, right, shape))


class dX_in_order_of_experts(Kernel):
    layer = "raw"

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        np.add.at(dX, self.token, dxp)
        return dX


class bf16_sums_of_dX_eager(Kernel):
    """Eager's index_add of bf16 rows."""
    layer, types = "mid", "bf16"

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        for e in range(self.E):
            r = self.rows(e)
            dX[self.token[r]] = bf16(dX[self.token[r]] + dxp[r])
        return dX


class A_weighted_before_rounding(Kernel):
    """A' from H in fp32, not from the stored A."""
    layer = "mid"

    def a_prime(self):
        return self.s * self.act(self.H)


class logits_of_float64(Kernel):
    layer = "large"
    types = "fp32 bf16"

    def logits(self):
        return (self.X.astype(np.float64) @ self.p("W_r").T.astype(np.float64)).astype(np.float32)


class slope_by_value(Kernel):
    """d_gate = dA u (s + silu (1 - s))."""
    layer = "raw"

    def phi(self, g):
        s = sigmoid(g)
        v = g * s
        return v, s + v * (1 - s)
