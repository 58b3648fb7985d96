"""Right ways that someone who is shown a judge tries: none of them may fail."""
import numpy as np
from numpy_kernel import Kernel, bf16, erf, sigmoid


class bare_layer(Kernel):
    layer = "bare"


_SAME = dict(
    of_a_tiny_layer=dict(layer="tiny"),
    of_one_expert_a_token=dict(layer="top1"),
    of_square_experts=dict(layer="even"),
    of_biases=dict(layer="biased"),
    of_a_scale_and_a_shared_expert=dict(layer="scaled_shared"),
    of_experts_without_tokens=dict(layer="sparse"),
    of_softmax_over_the_chosen=dict(layer="chosen"),
    O_of_a_tiny_layer=dict(layer="tiny", gives="O"),
    dX_of_a_tiny_layer=dict(layer="tiny", gives="dX"),
    dS_of_a_bare_layer=dict(gives="dS"),
    dW2_of_square_experts=dict(layer="even", gives="dW2"),
    of_one_weight_of_1=dict(layer="certain"),
    of_all_experts=dict(layer="all"),
    of_one_expert=dict(layer="single"),
    of_one_token=dict(layer="token"),
    of_large_logits=dict(layer="sharp"),
    of_outliers=dict(layer="outliers"),
    of_odd_sizes=dict(layer="odd"),
    of_one_unit=dict(layer="unit"),
)
globals().update({name: type(name, (bare_layer,), what) for name, what in _SAME.items()})


class ties_to_the_higher_expert(Kernel):
    """All logits are equal: any K experts are right."""
    layer = "ties"

    def choose(self, key):
        return self.E - 1 - np.argsort(-key[:, ::-1], axis=1, kind="stable")[:, :self.K]


class ties_by_chance(Kernel):
    layer = "ties"

    def choose(self, key):
        rng = np.random.default_rng(3)
        return np.stack([rng.permutation(self.E)[:self.K] for _ in range(self.T)])


class ties_by_chance_O_alone(ties_by_chance):
    gives = "O"


class ties_of_integers(Kernel):
    """Logits that are equal here and there."""
    layer = "integers"

    def choose(self, key):
        return self.E - 1 - np.argsort(-key[:, ::-1], axis=1, kind="stable")[:, :self.K]


class negative_zeros(Kernel):
    """Whatever is 0 is -0."""
    layer = "holes"

    def results(self):
        return {k: v if v.dtype.kind == "i" else np.where(v == 0, np.float32(-0.0), v)
                for k, v in super().results().items()}


class negative_zeros_of_empty_experts(negative_zeros):
    layer = "sparse"


class negative_zeros_of_zeros(negative_zeros):
    """X and dO are 0."""
    layer = "zeros"


class rows_of_an_expert_by_chance(Kernel):
    """Atomics give rows their places."""
    layer = "flat"

    def order(self, flat):
        pairs = np.random.default_rng(4).permutation(np.where(flat >= 0)[0])
        return pairs[np.argsort(flat[pairs], kind="stable")]


class sums_of_atomics(Kernel):
    """O and dX are added in any order of rows."""
    layer = "slots"

    def combine(self, Y):
        O, p = np.zeros((self.T, self.d), np.float32), np.random.default_rng(5).permutation(len(Y))
        np.add.at(O, self.token[p], (self.ws[:, None] * Y)[p])
        return O

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        p = np.random.default_rng(6).permutation(len(dxp))
        np.add.at(dX, self.token[p], dxp[p])
        return dX


class all_experts_for_all_tokens(Kernel):
    """Dense: every expert sees every token, weighted by 0 where it was not chosen."""
    layer = "tiny"

    def combine(self, Y):
        dense = np.zeros((self.T, self.E), np.float32)
        np.put_along_axis(dense, self.ids, self.w, 1)
        O = np.zeros((self.T, self.d), np.float32)
        for e in range(self.E):
            h = self.store("H", self.X @ self.W1[e].T)
            a = self.store("A", self.act(h))
            O += dense[:, e:e + 1] * self.store("Y", a @ self.W2[e].T)
        return O


class one_hot_dispatch(Kernel):
    """Rows are gathered and added by products with 0 and 1."""
    layer = "flat"

    def hot(self):
        return (self.token[:, None] == np.arange(self.T)).astype(np.float32)

    def gather(self):
        return self.hot() @ self.X

    def combine(self, Y):
        return (self.hot() * self.ws[:, None]).T @ Y


class K_backwards(Kernel):
    layer = "flat"

    def product(self, name, a, b, e):
        sums = np.zeros((len(a), len(b)), np.float32)
        for k in range(a.shape[1] - 1, -1, -1):
            sums += a[:, k:k + 1] * b[:, k:k + 1].T
        return sums


class three_bf16_parts(Kernel):
    """fp32 products of the six largest products of three bf16 parts."""
    layer, types = "mid", "fp32"

    def product(self, name, a, b, e):
        def parts(v):
            p = [bf16(v)]
            p.append(bf16(v - p[0]))
            return p + [bf16(v - p[0] - p[1])]
        left, right = parts(a), parts(b)
        return sum(left[i] @ right[j].T for i, j in
                   ((2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0)))


class everything_in_float64(Kernel):
    layer = "slots"

    def store(self, name, value):
        return value

    def product(self, name, a, b, e):
        return a.astype(np.float64) @ b.T.astype(np.float64)


class softmax_without_its_maximum(Kernel):
    layer = "bare"

    def scores(self, z):
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)


class renormalised_twice(Kernel):
    """Weights that sum to 1 do so again."""
    layer = "slots"

    def weigh(self, score, ids):
        w = super().weigh(score, ids)
        return w / w.sum(1, keepdims=True)


class reciprocal_of_the_sum(Kernel):
    layer = "scaled"

    def weigh(self, score, ids):
        w = np.take_along_axis(score, ids, 1)
        return w * (np.float32(self.c["scale"]) * (1 / w.sum(1, keepdims=True)))


class scale_of_O_at_the_end(Kernel):
    """The routed scale multiplies the finished sum."""
    layer = "scaled"

    def combine(self, Y):
        scale, right = np.float32(self.c["scale"]), self.ws
        self.ws = self.ws / scale
        O = super().combine(Y) * scale
        self.ws = right
        return O


class weighted_dO_stored(Kernel):
    """Eager: s dO is a tensor, and dW2 and dA are made of it and of A."""
    layer = "bare"

    def backward(self):
        super().backward()
        sdo = self.store("sdo", self.s * self.dY)
        da = self.store("dA", self.each(self.n, lambda e, r: sdo[r] @ self.W2[e]))
        self.dH = self.store("dH", self.dact(da, self.H))
        self.dXp = self.store("dXp", self.each(self.d, lambda e, r: self.dH[r] @ self.W1[e]))
        self.dW2 = self.weight_gradient("dW2", sdo, self.A, self.W2.shape)
        self.dW1 = self.weight_gradient("dW1", self.dH, self.xin, self.W1.shape)
        self.dX = self.sum_dX(self.dXp)
        self.router_backward()


class transformers_eager(Kernel):
    """Router and weights in the type of X, index_add of weighted rows in it: weights of 8 bits are
    right only of a kernel that says so."""
    layer, types, gives = "flat", "bf16 fp16", "O topk_index topk_weight"
    recipe = "transformers"

    def logits(self):
        return self.store("z", super().logits())

    def weigh(self, score, ids):
        return self.store("w", super().weigh(score, ids))

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


class weight_in_the_epilogue_of_W2(Kernel):
    """The fp32 sum times the weight, rounded once."""
    layer = "slots"

    def forward(self):
        super().forward()
        rows = self.each(self.d, lambda e, r: self.ws[r, None] * self.down(e, self.A[r]))
        self.O = np.zeros((self.T, self.d), np.float32)
        np.add.at(self.O, self.token, self.store("Y", rows))


class dS_of_stored_Y_with_bias(Kernel):
    layer = "biased"

    def d_weight(self):
        return (self.dY * self.Y).sum(1)


class dA_stored(Kernel):
    """The activation's backward is a kernel of its own."""
    layer = "flat"

    def product(self, name, a, b, e):
        out = a @ b.T
        return self.store("dA", out) if name == "dA" else out


class loss_scale_of_16(Kernel):
    """dO times 16, undone in fp32."""
    layer, types = "flat", "fp16 bf16"

    def backward(self):
        self.dO = self.dO * np.float32(16)
        super().backward()
        self.dX, self.dW1, self.dW2, self.dW_r, self.dS = (
            v / np.float32(16) for v in (self.dX, self.dW1, self.dW2, self.dW_r, self.dS))


class gelu_by_erfc(Kernel):
    layer = "geglu"

    def phi(self, g):
        cdf = np.where(g < 0, (1 - erf(-g / np.sqrt(2))) / 2, (1 + erf(g / np.sqrt(2))) / 2)
        return (g * cdf).astype(np.float32), \
            (cdf + g * np.exp(-g * g / 2) / np.float32(np.sqrt(2 * np.pi))).astype(np.float32)


class padding_rows_of_garbage(Kernel):
    """Rows beyond an expert's last are computed from what is there, and not stored."""
    layer = "sparse"

    def product(self, name, a, b, e):
        if name in ("dW1", "dW2"):
            return a @ b.T
        return (np.concatenate([a, np.full((5, a.shape[1]), 1e4, np.float32)]) @ b.T)[:len(a)]


class experts_split_into_two_launches(Kernel):
    """Weights of O in two sums of experts, then those."""
    layer = "slots"

    def combine(self, Y):
        right, early = self.ws, self.expert < self.E // 2
        self.ws = right * early
        O = super().combine(Y)
        self.ws = right * ~early
        O = O + super().combine(Y)
        self.ws = right
        return O


class sigmoid_of_exp2(Kernel):
    layer = "scaled"

    def scores(self, z):
        return 1 / (1 + np.exp2(-z * np.float32(1.44269504)))


class NaN_where_no_token_is(Kernel):
    """Weights of experts without tokens are never read."""
    layer = "sparse"

    def __init__(self, line, inputs):
        super().__init__(line, inputs)
        self.W1, self.W2 = self.W1.copy(), self.W2.copy()

    def sort(self):
        super().sort()
        for e in range(self.E):
            if self.offsets[e] == self.offsets[e + 1]:
                self.W1[e], self.W2[e] = np.nan, np.nan


class slopes_by_tanh(Kernel):
    layer = "tiny"

    def phi(self, g):
        s = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * g)
        return g * s, s + g * sigmoid(g) * sigmoid(-g)
