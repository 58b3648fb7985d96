"""More of what someone tries who is shown a judge, most with O alone: written after the judge was
mended for numpy_tries_forward.py and numpy_tries_backward.py, words and edits before the first was
tried."""
import numpy as np
from numpy_kernel import Kernel, bf16, sigmoid


class odd_tokens_negative(Kernel):
    layer, words, gives = "flat", r"factor.*-1|sign|negative|-1", "O"

    def combine(self, Y):
        O = super().combine(Y)
        O[1::2] *= -1
        return O


class chosen_by_size_of_logits(Kernel):
    layer, words, gives = "bare", r"choice|chosen|score", "O topk_index topk_weight"

    def choose(self, key):
        return super().choose(abs(self.z))


class weights_times_probabilities(Kernel):
    """A softmax over the chosen, times the softmax over all."""
    layer, words, gives = "chosen", r"weight|score|softmax", "O"

    def weigh(self, score, ids):
        p = np.exp(self.z - self.z.max(1, keepdims=True))
        return super().weigh(score, ids) * np.take_along_axis(p / p.sum(1, keepdims=True), ids, 1)


class temperature_of_two(Kernel):
    layer, words, gives = "bare", r"temperature|logits", "O"

    def scores(self, z):
        return super().scores(z / 2)


class weights_over_K(Kernel):
    layer, words, gives = "slots", r"1/K|factor", "O"

    def weigh(self, score, ids):
        return super().weigh(score, ids) / self.K


class weights_over_the_largest(Kernel):
    layer, words, gives = "slots", r"sum|largest|renorm", "O"

    def weigh(self, score, ids):
        w = np.take_along_axis(score, ids, 1)
        return w / w.max(1, keepdims=True)


class softmax_after_sigmoid(Kernel):
    layer, words, gives = "scaled", r"softmax|score|weights", "O"

    def weigh(self, score, ids):
        w = np.exp(np.take_along_axis(score, ids, 1))
        return w / w.sum(1, keepdims=True) * np.float32(self.c["scale"])


class sigmoid_of_the_up(Kernel):
    """g sigmoid(u)."""
    layer, words, gives = "flat", r"activation|function|gate.*up", "O"

    def act(self, h):
        g, u = self.halves(h)
        return g * sigmoid(u)


class silu_of_both(Kernel):
    """silu(g) silu(u)."""
    layer, words, gives = "flat", r"activation|function|up\b", "O"

    def act(self, h):
        g, u = self.halves(h)
        return g * sigmoid(g) * u * sigmoid(u)


class silu_of_the_product(Kernel):
    """silu(g u)."""
    layer, words, gives = "flat", r"activation|function|up\b", "O"

    def act(self, h):
        g, u = self.halves(h)
        return g * u * sigmoid(g * u)


class tanh_for_silu(Kernel):
    layer, words, gives = "tiny", r"tanh|activation", "O"

    def phi(self, g):
        return np.tanh(g), g


class relu_squared_for_silu(Kernel):
    layer, words, gives = "tiny", r"relu|activation|square", "O"

    def phi(self, g):
        return np.maximum(g, 0) ** 2, g


class negative_b1(Kernel):
    layer, words, gives = "biased", r"b1|bias", "O"

    def up(self, e, x):
        return self.product("H", x, self.W1[e], e) - self.p("b1")[e]


class b1_of_gate_for_both(Kernel):
    layer, words, gives = "biased", r"b1|bias", "O"

    def up(self, e, x):
        return self.product("H", x, self.W1[e], e) + np.tile(self.p("b1")[e][:self.n], 2)


class b2_of_the_next_expert(Kernel):
    layer, words, gives = "biased", r"b2|bias", "O"

    def down(self, e, a):
        return self.product("Y", a, self.W2[e], e) + self.p("b2")[(e + 1) % self.E]


class b2_over_K(Kernel):
    """As if it were added once by each of K slots."""
    layer, words, gives = "biased", r"b2|bias", "O"

    def down(self, e, a):
        return self.product("Y", a, self.W2[e], e) + self.p("b2")[e] / self.K


class experts_in_reverse(Kernel):
    layer, words, gives = "flat", r"expert|weights of|index", "O"

    def product(self, name, a, b, e):
        if name in "HY":
            b = (self.W1 if name == "H" else self.W2)[self.E - 1 - e]
        return a @ b.T


class W2_of_the_expert_two_on(Kernel):
    layer, words, gives = "flat", r"W2|weights|expert", "O"

    def product(self, name, a, b, e):
        return a @ (self.W2[(e + 2) % self.E] if name == "Y" else b).T


class up_of_the_next_expert(Kernel):
    """Half an expert's stride: the gate is its own, the up is the next one's."""
    layer, words, gives = "flat", r"W1|expert|up\b", "O"

    def product(self, name, a, b, e):
        if name == "H":
            b = np.concatenate([b[:self.n], self.W1[(e + 1) % self.E][self.n:]])
        return a @ b.T


class pairs_of_tokens_share_X(Kernel):
    layer, words, gives = "flat", r"row|token|gather|X\b", "O"

    def gather(self):
        return self.X[self.token // 2 * 2]


class X_of_the_slot_not_the_token(Kernel):
    """Row p reads X of flat slot number p's place, mod T."""
    layer, words, gives = "flat", r"row|token|gather|X\b|slot", "O"

    def gather(self):
        return self.X[(self.token * self.K + self.slot) % self.T]


class O_of_the_token_after_for_later_slots(Kernel):
    """Slot k is added to token t + k."""
    layer, words, gives = "flat", r"row|token|slot|term", "O"

    def combine(self, Y):
        O = np.zeros((self.T, self.d), np.float32)
        np.add.at(O, (self.token + self.slot) % self.T, self.ws[:, None] * Y)
        return O


class last_token_lost(Kernel):
    layer, words, gives = "flat", r"zero.*last|last.*zero|zero", "O"

    def combine(self, Y):
        O = super().combine(Y)
        O[-1] = 0
        return O


class tiles_of_16_tokens_exchanged(Kernel):
    layer, words, gives = "flat", r"row|token|place|order|tile", "O"

    def combine(self, Y):
        return super().combine(Y)[np.arange(self.T) ^ 16]


class columns_of_a_vector_reversed(Kernel):
    """Stores of 4 elements, the last first."""
    layer, words, gives = "flat", r"column|order|place", "O"

    def combine(self, Y):
        return super().combine(Y)[:, np.arange(self.d) ^ 3]


class first_block_of_K_twice(Kernel):
    layer, words, gives = "flat", r"block|term|twice|sum", "O"

    def product(self, name, a, b, e):
        out = a @ b.T
        return out + a[:, :16] @ b[:, :16].T if name == "Y" else out


class every_second_block_of_K(Kernel):
    layer, words, gives = "flat", r"block|term|left out|sum", "O"

    def product(self, name, a, b, e):
        if name == "H":
            keep = np.arange(a.shape[1]) // 16 % 2 == 0
            return a[:, keep] @ b[:, keep].T
        return a @ b.T


class H_in_bf16(Kernel):
    layer, words, gives, types = "flat", r"narrow|bits|round", "O", "fp32"

    def store(self, name, value):
        return bf16(value) if name == "H" else super().store(name, value)


class Y_in_bf16(Kernel):
    layer, words, gives, types = "flat", r"narrow|bits|round", "O", "fp32"

    def store(self, name, value):
        return bf16(value) if name == "Y" else super().store(name, value)


class W1_in_fp8(Kernel):
    layer, words, gives, types = "flat", r"narrow|bits|round", "O", "fp32"

    def product(self, name, a, b, e):
        if name == "H":
            m, x = np.frexp(b)
            b = np.ldexp(np.rint(m * 16) / 16, x).astype(np.float32)
        return a @ b.T


class dX_mean_over_slots(Kernel):
    layer, words, gives = "slots", r"factor|dX~|expert|1/K|term", "O dX"

    def sum_dX(self, dxp):
        return super().sum_dX(dxp) / self.K


class dX_of_the_best_expert_alone(Kernel):
    layer, words, gives = "slots", r"slot|missing|left out|single|expert|term|once", "O dX"

    def sum_dX(self, dxp):
        return super().sum_dX(dxp * (self.slot == 0)[:, None])


class dX_router_of_experts_shifted(Kernel):
    layer, words, gives = "flat", r"router", "O dX dW_r"

    def router_backward(self):
        super().router_backward()
        self.dX += self.dlogits @ (np.roll(self.p("W_r"), 1, 0) - self.p("W_r"))


class dW1_of_up_zero(Kernel):
    layer, words, gives = "flat", r"zero", "dW1"

    def results(self):
        dW1 = self.dW1.copy()
        dW1[:, self.n:] = 0
        return dict(super().results(), dW1=dW1)


class dW1_weighted_twice(Kernel):
    layer, words, gives = "bare", r"weight", "dW1"

    def weight_gradient(self, name, left, right, shape):
        return super().weight_gradient(name, self.s * left if name == "dW1" else left, right, shape)


class dW2_of_relu(Kernel):
    layer, words, gives = "flat", r"activ|function|A\b", "dW2"

    def a_prime(self):
        g, u = self.halves(self.H)
        return self.s * np.maximum(g, 0) * u


class dW2_of_dO_not_gathered(Kernel):
    layer, words, gives = "flat", r"row|dO|token|order", "dW2"

    def weight_gradient(self, name, left, right, shape):
        if name == "dW2":
            left = self.dO[np.arange(len(left)) % self.T]
        return super().weight_gradient(name, left, right, shape)


class dS_negative(Kernel):
    layer, words, gives = "bare", r"factor|-1", "dS"

    def d_weight(self):
        return -super().d_weight()


class dS_less_its_mean(Kernel):
    """The renormalisation's backward, where there is none."""
    layer, words, gives = "bare", r"dS.*(mean|renorm|token|slot|sum)", "dS"

    def results(self):
        ds = self.by_slot(self.dS)
        return dict(super().results(), dS=ds - (ds * self.w).sum(1, keepdims=True))


class dW_r_mean_over_tokens(Kernel):
    layer, words, gives = "flat", r"factor|1/T", "dX dW_r"

    def router_backward(self):
        super().router_backward()
        self.dW_r = self.dW_r / self.T


class dW_r_of_one_expert_zero(Kernel):
    layer, words, gives = "flat", r"zero", "dX dW_r"

    def router_backward(self):
        super().router_backward()
        self.dW_r[0] = 0


class slopes_of_the_up(Kernel):
    """d_gate and d_up are made with gate and up exchanged, forward is right."""
    layer, words, gives = "flat", r"derivative|slope|gate|up\b", "O dX dW1"

    def dact(self, da, h):
        g, u = self.halves(h)
        value, slope = self.phi(u)
        return self.joined(da * g * slope, da * value)
