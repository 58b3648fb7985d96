"""What someone who is shown a judge tries first, forward: whole results that are nothing, orders
that are not undone, weights, activations and biases that are forgotten or there twice. Words and
edits were fixed before the first was tried, as in numpy_bugs_forward.py."""
import numpy as np
from numpy_kernel import Kernel, bf16, sigmoid


class O_of_a_skeleton(Kernel):
    """The kernel's body is not there yet: zeros."""
    layer, words, gives = "tiny", r"all zero", "O"

    def combine(self, Y):
        return np.zeros((self.T, self.d), np.float32)


class all_results_zero(Kernel):
    layer, words = "tiny", r"all zero"

    def results(self):
        return {k: v if v.dtype.kind == "i" else 0 * v for k, v in super().results().items()}


class lower_half_of_O_not_launched(Kernel):
    """The grid covers half of the tokens."""
    layer, words, gives = "flat", r"rows.*zero|zero.*row|second half", "O"

    def combine(self, Y):
        O = super().combine(Y)
        O[self.T // 2:] = 0
        return O


class right_half_of_O_not_launched(Kernel):
    layer, words, gives = "flat", r"columns.*zero|zero.*column", "O"

    def combine(self, Y):
        O = super().combine(Y)
        O[:, self.d // 2:] = 0
        return O


class every_second_token_done(Kernel):
    layer, words, gives = "tiny", r"zero", "O"

    def combine(self, Y):
        O = super().combine(Y)
        O[1::2] = 0
        return O


class sorted_rows_taken_for_slots(Kernel):
    """Y, by expert, is reshaped to [T][K] as if it were by token."""
    layer, words, gives = "flat", r"row|order|token|place|pair", "O"

    def combine(self, Y):
        return (self.w[:, :, None] * Y.reshape(self.T, self.K, self.d)).sum(1)


class O_left_in_order_of_experts(Kernel):
    """K = 1: rows of O are never put back."""
    layer, words, gives = "top1", r"row|order|token|place", "O"

    def combine(self, Y):
        return self.ws[:, None] * Y


class inverse_permutation_gathers(Kernel):
    """X is gathered by the inverse of the sort, O is added by the sort."""
    layer, words, gives = "flat", r"row|token|gather|place|order", "O"

    def gather(self):
        return self.X[np.argsort(self.token * self.K + self.slot) // self.K]


class tokens_rolled_by_one(Kernel):
    layer, words, gives = "flat", r"row|token|neighbour|moved|place", "O"

    def combine(self, Y):
        return np.roll(super().combine(Y), 1, 0)


class X_reversed(Kernel):
    """The experts, not the router, see the tokens backwards."""
    layer, words, gives = "flat", r"row|token|gather|place|order", "O"

    def gather(self):
        return self.X[self.T - 1 - self.token]


class renormalisation_forgotten(Kernel):
    layer, words, gives = "slots", r"renorm|divided", "O"

    def weigh(self, score, ids):
        return np.take_along_axis(score, ids, 1)


class renormalisation_after_the_scale(Kernel):
    """Weights that are scaled by 2.5 are divided by their sum again."""
    layer, words, gives = "scaled", r"renorm|sum|scale", "O"

    def weigh(self, score, ids):
        w = super().weigh(score, ids)
        return w / w.sum(1, keepdims=True)


class renormalised_unasked(Kernel):
    layer, words, gives = "bare", r"sum|renorm|softmax over|score", "O"

    def weigh(self, score, ids):
        w = np.take_along_axis(score, ids, 1)
        return w / w.sum(1, keepdims=True)


class softmax_over_all_for_the_chosen(Kernel):
    layer, words, gives = "chosen", r"sum|renorm|softmax|score", "O"

    def weigh(self, score, ids):
        z = np.exp(self.z - self.z.max(1, keepdims=True))
        return np.take_along_axis(z / z.sum(1, keepdims=True), ids, 1)


class sigmoid_for_softmax(Kernel):
    layer, words, gives = "bare", r"score|sigmoid", "O"

    def scores(self, z):
        return sigmoid(z)


class mean_of_the_experts(Kernel):
    """Weights are 1/K."""
    layer, words, gives = "flat", r"weight", "O"

    def combine(self, Y):
        self.ws = np.full_like(self.ws, 1 / self.K)
        return super().combine(Y)


class sum_of_the_experts(Kernel):
    """No weights."""
    layer, words, gives = "bare", r"weight", "O"

    def combine(self, Y):
        self.ws = np.ones_like(self.ws)
        return super().combine(Y)


class weights_squared(Kernel):
    """In the epilogue of W2 and in the sum."""
    layer, words, gives = "bare", r"weight.*(twice|power)", "O"

    def combine(self, Y):
        self.ws = self.ws * self.ws
        return super().combine(Y)


class weights_before_the_experts(Kernel):
    layer, words, gives = "bare", r"weight.*(side|input)", "O"

    def gather(self):
        return self.X[self.token] * self.ws[:, None]

    def combine(self, Y):
        self.ws = np.ones_like(self.ws)
        return super().combine(Y)


class weights_not_sorted_with_the_rows(Kernel):
    """Row p has the weight of slot p % K of token p / K."""
    layer, words, gives = "bare", r"weight", "O"

    def combine(self, Y):
        self.ws = self.w.reshape(-1)
        return super().combine(Y)


class scaling_factor_forgotten(Kernel):
    layer, words, gives = "scaled", r"scale|factor", "O"

    def weigh(self, score, ids):
        return super().weigh(score, ids) / np.float32(self.c["scale"])


class scaling_factor_on_all_of_O(Kernel):
    layer, words, gives = "scaled_shared", r"scale.*shared|shared.*(scale|factor)", "O"

    def shared(self):
        return super().shared() * np.float32(self.c["scale"])


class selection_bias_forgotten(Kernel):
    layer, words, gives = "sigmoid", r"selection bias", "O"

    def key(self, score):
        return score


class selection_bias_in_weights(Kernel):
    layer, words, gives = "sigmoid", r"selection bias", "O"

    def weigh(self, score, ids):
        return super().weigh(self.key(score), ids)


class up_for_gate(Kernel):
    layer, words, gives = "flat", r"gate.*up", "O"

    def halves(self, h):
        return super().halves(h)[::-1]


class interleaved_for_concat(Kernel):
    layer, words, gives = "flat", r"layout|interleav", "O"

    def halves(self, h):
        return h[:, 0::2], h[:, 1::2]


class concat_for_interleaved(Kernel):
    layer, words, gives = "turned", r"layout|interleav", "O"

    def halves(self, h):
        return h[:, :self.n], h[:, self.n:]


class tanh_gelu_for_silu(Kernel):
    layer, words, gives = "flat", r"gelu|activation", "O"

    def phi(self, g):
        t = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (g + 0.044715 * g ** 3))
        return g * (1 + t) / 2, g


class silu_for_gelu(Kernel):
    layer, words, gives = "geglu", r"silu|activation|swiglu", "O"

    def phi(self, g):
        return g * sigmoid(g), g


class tanh_gelu_for_gelu(Kernel):
    layer, words, gives, types = "geglu", r"approximat|gelu|activation", "O", "fp32"

    def phi(self, g):
        t = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (g + 0.044715 * g ** 3))
        return g * (1 + t) / 2, g


class relu_for_silu(Kernel):
    layer, words, gives = "tiny", r"relu|activation|reglu", "O"

    def phi(self, g):
        return np.maximum(g, 0), g


class sigmoid_without_its_gate(Kernel):
    """sigmoid(g) u: the gate is overwritten by its sigmoid."""
    layer, words, gives = "flat", r"activation|sigmoid|function", "O"

    def phi(self, g):
        return sigmoid(g), g


class clamp_forgotten(Kernel):
    layer, words, gives = "oss", r"clamp", "O"

    def clamped(self, g, u):
        return g, u + 1, 1, 1


class alpha_forgotten(Kernel):
    layer, words, gives = "oss", r"alpha", "O"

    def phi(self, g):
        return g * sigmoid(g), g


class b1_forgotten(Kernel):
    layer, words, gives = "biased", r"b1", "O"

    def up(self, e, x):
        return self.product("H", x, self.W1[e], e)


class b2_in_both_halves_of_K(Kernel):
    """Split-K: each of two partial sums begins with b2."""
    layer, words, gives = "biased", r"b2|bias", "O"

    def down(self, e, a):
        return super().down(e, a) + self.p("b2")[e]


class b2_once_a_token(Kernel):
    """b2 of the first expert is added to the sum, unweighted, and none in the experts."""
    layer, words, gives = "biased", r"b2|bias", "O"

    def down(self, e, a):
        return self.product("Y", a, self.W2[e], e)

    def combine(self, Y):
        return super().combine(Y) + self.p("b2")[self.ids[:, 0]]


class experts_counted_from_one(Kernel):
    """W1 and W2 of expert e are at e - 1."""
    layer, words, gives = "flat", r"neighbour|weights of|another|index", "O"

    def product(self, name, a, b, e):
        return a @ (self.W1 if name == "H" else self.W2)[e - 1].T if name in "HY" else a @ b.T


class offsets_one_late(Kernel):
    """An expert's first row is computed with the weights of the one before."""
    layer, words, gives = "flat", r"weights|expert|matrix|row", "O"

    def store(self, name, value):
        if name in "HY":
            for e in range(1, self.E):
                if self.offsets[e + 1] > self.offsets[e]:
                    r = slice(self.offsets[e], self.offsets[e] + 1)
                    value[r] = self.xin[r] @ self.W1[e - 1].T if name == "H" else \
                        self.A[r] @ self.W2[e - 1].T
        return super().store(name, value)


class last_tile_of_all_rows_lost(Kernel):
    """The grid has P / 64 tiles over all experts together, rounded down."""
    layer, words, gives = "ragged", r"row|tile|left out|zero|dropped|missing|last", "O"

    def store(self, name, value):
        if name == "Y":
            value[len(value) // 64 * 64:] = 0
        return super().store(name, value)


class tails_of_experts_lost(Kernel):
    layer, words, gives = "flat", r"row|tile|left out|zero|dropped|missing", "O"

    def store(self, name, value):
        if name == "Y":
            for e in range(self.E):
                r = self.rows(e)
                value[r.start + (r.stop - r.start) // 16 * 16:r.stop] = 0
        return super().store(name, value)


class K_loop_of_H_short(Kernel):
    layer, words, gives = "flat", r"block|last|left out|term", "O"

    def product(self, name, a, b, e):
        k = a.shape[1] - 32 if name == "H" else a.shape[1]
        return a[:, :k] @ b[:, :k].T


class K_loop_of_Y_short(Kernel):
    layer, words, gives = "tiny", r"block|last|left out|term", "O"

    def product(self, name, a, b, e):
        k = a.shape[1] - 8 if name == "Y" else a.shape[1]
        return a[:, :k] @ b[:, :k].T


class sums_in_fp16(Kernel):
    """HMMA with fp16 accumulators."""
    layer, words, gives, types = "mid", r"narrow|bits|round", "O", "fp32"

    def product(self, name, a, b, e):
        sums = np.zeros((len(a), len(b)), np.float16)
        for k in range(0, a.shape[1], 16):
            sums = (sums + (a[:, k:k + 16] @ b[:, k:k + 16].T)).astype(np.float16)
        return sums.astype(np.float32)


class all_in_bf16(Kernel):
    """A bf16 kernel behind fp32 tensors."""
    layer, words, gives, types = "flat", r"narrow|bits|round", "O", "fp32 fp16"

    def store(self, name, value):
        return bf16(value)

    def product(self, name, a, b, e):
        return bf16(bf16(a) @ bf16(b).T)


class logits_overflow_in_fp16(Kernel):
    """exp of fp16 logits, times 8, without their maximum."""
    layer, words, gives, types = "flat", r"NaN|finite|inf", "O", "fp16"

    def scores(self, z):
        m = np.exp(8 * z).astype(np.float16).astype(np.float32)
        return m / m.sum(1, keepdims=True)


class workspace_of_the_call_before(Kernel):
    """The last expert's rows of Y are those of a call with other tokens."""
    layer, words, gives = "flat", r"row|expert|stale|token", "O"

    def store(self, name, value):
        if name == "Y":
            r, e = self.rows(self.E - 1), self.E - 1
            x = np.roll(self.X, 7, 0)[self.token[r]]
            value[r] = self.act(x @ self.W1[e].T) @ self.W2[e].T
        return super().store(name, value)


class W2_read_as_it_is_not(Kernel):
    """d = n: y = a W2, not a W2^T."""
    layer, words, gives = "even", r"W2.*transpos|transpos.*W2", "O"

    def product(self, name, a, b, e):
        return a @ (b if name == "Y" else b.T)


class shared_expert_forgotten(Kernel):
    layer, words, gives = "scaled_shared", r"shared", "O"

    def shared(self):
        return 0 * super().shared()


class shared_gate_forgotten(Kernel):
    layer, words, gives = "shared", r"shared.*gate|gate.*shared", "O"

    def shared_gate(self):
        return np.ones((self.T, 1), np.float32)


class only_the_best_expert(Kernel):
    """The loop over slots ends after one."""
    layer, words, gives = "slots", r"slot|missing|left out|one|fewer|single", "O"

    def combine(self, Y):
        self.ws = self.ws * (self.slot == 0)
        return super().combine(Y)


class tokens_without_experts_are_NaN(Kernel):
    """0 / 0 where a token has no weights."""
    layer, words, gives = "holes", r"NaN|finite", "O"

    def combine(self, Y):
        O, sums = super().combine(Y), self.w.sum(1, keepdims=True)
        return O / sums * sums
