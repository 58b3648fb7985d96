"""What someone who is shown a judge tries first, backward: terms that are missing from gradients,
buffers that are not zeroed, operands that are transposed. Words and edits were fixed before the
first was tried."""
import numpy as np
from numpy_kernel import Kernel, sigmoid


class dX_zero(Kernel):
    layer, words, gives = "tiny", r"all zero", "O dX"

    def results(self):
        got = super().results()
        return dict(got, dX=0 * got["dX"])


class dX_through_the_experts_alone(Kernel):
    layer, words, gives = "flat", r"router", "O dX"

    def router_backward(self):
        right = self.dX
        super().router_backward()
        self.dX = right


class dX_through_the_router_alone(Kernel):
    layer, words, gives = "flat", r"router|expert|missing|zero|dX~", "O dX"

    def sum_dX(self, dxp):
        return np.zeros((self.T, self.d), np.float32)


class dX_of_one_slot(Kernel):
    """dX is written, not added: the last expert's stays."""
    layer, words, gives = "flat", r"slot|missing|left out|single|expert|term|once", "O dX"

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        dX[self.token] = dxp
        return dX


class dX_without_expert_2(Kernel):
    layer, words, gives = "flat", r"missing|left out|without|expert 2", "O dX"

    def sum_dX(self, dxp):
        return super().sum_dX(dxp * (self.expert != 2)[:, None])


class dX_weighted_twice(Kernel):
    layer, words, gives = "bare", r"weight", "O dX"

    def sum_dX(self, dxp):
        return super().sum_dX(dxp * self.ws[:, None])


class dH_unweighted(Kernel):
    layer, words, gives = "bare", r"weight", "O dX dW1"

    def dact(self, da, h):
        return super().dact(da / self.s if len(da) == len(self.s) else da, h)


class dX_of_the_gate_alone(Kernel):
    """The product with W1 stops after the gate's rows."""
    layer, words, gives = "flat", r"gate|up\b|half|term|left out|block", "O dX"

    def product(self, name, a, b, e):
        k = self.n if name == "dXp" else a.shape[1]
        return a[:, :k] @ b[:, :k].T


class d_gate_for_d_up(Kernel):
    layer, words, gives = "flat", r"gate.*up|halves|chang|swap", "O dX dW1"

    def joined(self, g, u):
        return super().joined(u, g)


class slope_of_sigmoid_alone(Kernel):
    layer, words, gives = "flat", r"derivative|slope", "O dX dW1 dW2"

    def phi(self, g):
        return g * sigmoid(g), sigmoid(g)


class slope_s_times_one_minus_s(Kernel):
    """The sigmoid's derivative for silu's."""
    layer, words, gives = "tiny", r"derivative|slope", "O dX dW1 dW2"

    def phi(self, g):
        return g * sigmoid(g), sigmoid(g) * (1 - sigmoid(g))


class dS_of_dO_alone(Kernel):
    """dS = sum of dO, without Y."""
    layer, words, gives = "bare", r"dS.*(product|vector|inner|Y)", "dS"

    def d_weight(self):
        return self.dY.sum(1)


class dS_of_weighted_Y(Kernel):
    layer, words, gives = "bare", r"dS|weight", "dS"

    def d_weight(self):
        return self.ws * super().d_weight()


class dS_of_A_and_dO_swapped(Kernel):
    """<dA, H> of the gate: the activation is left out of dS."""
    layer, words, gives = "bare", r"dS|inner|product|vector|A\b", "dS dW_r"

    def d_weight(self):
        return (self.dA * self.halves(self.H)[0]).sum(1)


class dW_r_without_softmax(Kernel):
    """dz = dS at the chosen experts."""
    layer, words, gives = "bare", r"score|slope|softmax|gradient", "dX dW_r"

    def dz(self, ds):
        z = np.zeros_like(self.z)
        np.put_along_axis(z, self.ids, ds, 1)
        return z


class gradient_not_through_renormalisation(Kernel):
    layer, words, gives = "slots", r"renorm", "dX dW_r"

    def dz(self, ds):
        z = np.zeros_like(self.z)
        np.put_along_axis(z, self.ids, ds, 1)
        return self.score * (z - (z * self.score).sum(1, keepdims=True))


class scale_not_in_the_gradient(Kernel):
    layer, words, gives = "scaled", r"scale", "dX dW_r"

    def dz(self, ds):
        return super().dz(ds / np.float32(self.c["scale"]))


class dW_r_zero(Kernel):
    layer, words, gives = "flat", r"all zero", "dX dW_r"

    def router_backward(self):
        super().router_backward()
        self.dW_r = 0 * self.dW_r


class dW1_accumulated_twice(Kernel):
    layer, words, gives = "flat", r"factor|twice|2", "dW1"

    def weight_gradient(self, name, left, right, shape):
        return super().weight_gradient(name, left, right, shape) * (2 if name == "dW1" else 1)


class dW2_of_one_expert_twice(Kernel):
    """Two CTAs take the same expert."""
    layer, words, gives = "flat", r"factor|twice|2", "dW2"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        if name == "dW2":
            whole[3] *= 2
        return whole


class dW_over_tokens(Kernel):
    """A mean of the loss that was one already."""
    layer, words, gives = "flat", r"factor|times", "dW1 dW2"

    def weight_gradient(self, name, left, right, shape):
        return super().weight_gradient(name, left, right, shape) / self.T


class dW_of_empty_experts_left(Kernel):
    """Experts without tokens have what was in the buffer."""
    layer, words, gives = "sparse", r"no token|empty", "dW1 dW2"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        for e in range(self.E):
            if self.offsets[e] == self.offsets[e + 1]:
                whole[e] = 0.5
        return whole


class dW_of_empty_experts_of_the_one_before(Kernel):
    """The accumulator is not cleared, and stored once more."""
    layer, words, gives = "sparse", r"no token|empty|another expert", "dW1 dW2"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        for e in range(1, self.E):
            if self.offsets[e] == self.offsets[e + 1]:
                whole[e] = whole[e - 1]
        return whole


class dW_accumulates_over_experts(Kernel):
    """The accumulator is never cleared."""
    layer, words, gives = "flat", r"expert|row|added|sum", "dW1 dW2"

    def weight_gradient(self, name, left, right, shape):
        return np.cumsum(super().weight_gradient(name, left, right, shape), 0)


class dW2_transposed(Kernel):
    layer, words, gives = "even", r"transpos", "dW2"

    def results(self):
        return dict(super().results(), dW2=self.dW2.swapaxes(1, 2).copy())


class dA_of_W2_transposed(Kernel):
    layer, words, gives = "even", r"transpos|layout|W2", "O dX dW1"

    def product(self, name, a, b, e):
        return a @ (b if name == "dA" else b.T)


class dW2_of_X(Kernel):
    """n = d: the row of X is read for that of A'."""
    layer, words, gives = "even", r"X\b|vector|another tensor", "dW2"

    def weight_gradient(self, name, left, right, shape):
        return super().weight_gradient(name, left, self.s * self.x if name == "dW2" else right,
                                       shape)


class dW2_unweighted(Kernel):
    layer, words, gives = "bare", r"weight", "dW2"

    def a_prime(self):
        return self.A


class dW1_of_tokens_not_gathered(Kernel):
    """Row p has X of token p % T."""
    layer, words, gives = "flat", r"row|X\b|token|order", "dW1"

    def weight_gradient(self, name, left, right, shape):
        if name == "dW1":
            right = self.X[np.arange(len(right)) % self.T]
        return super().weight_gradient(name, left, right, shape)


class dW1_without_last_tokens_tile(Kernel):
    """The sum over an expert's rows has whole blocks of 16 alone."""
    layer, words, gives = "flat", r"row|left out|last|tile", "dW1"

    def product(self, name, a, b, e):
        k = a.shape[1] // 16 * 16 if name == "dW1" else a.shape[1]
        return a[:, :k] @ b[:, :k].T


class dW1_halves_swapped(Kernel):
    layer, words, gives = "flat", r"gate.*up|halves|chang", "dW1"

    def results(self):
        return dict(super().results(), dW1=np.roll(self.dW1, self.n, 1))


class loss_scale_overflows(Kernel):
    """dO times 2^16 in fp16, undone at the end."""
    layer, words, types = "flat", r"NaN|finite|inf", "fp16"

    def backward(self):
        self.dO = self.dO * np.float32(65536)
        super().backward()
        self.dX, self.dW1, self.dW2, self.dW_r = (
            v / np.float32(65536) for v in (self.dX, self.dW1, self.dW2, self.dW_r))


class db1_zero(Kernel):
    layer, words = "biased", r"zero"

    def bias_gradient(self, name, rows, shape):
        return super().bias_gradient(name, rows * (name != "db1"), shape)


class db2_unweighted(Kernel):
    layer, words, gives = "biased", r"weight", "db2"

    def bias_gradient(self, name, rows, shape):
        return super().bias_gradient(name, rows / self.s if name == "db2" else rows, shape)


class dS_lacks_b2(Kernel):
    layer, words, gives = "biased", r"b2|bias", "dS"

    def d_weight(self):
        return (self.dA * self.A).sum(1)


class dX_lacks_the_shared_expert(Kernel):
    layer, words, gives = "scaled_shared", r"shared", "O dX"

    def shared_backward(self):
        return 0 * super().shared_backward()


class dW_shared_through_the_gate_twice(Kernel):
    layer, words = "shared", r"shared|gate|weight|factor"

    def shared_backward(self):
        dx = super().shared_backward()
        dy = self.gate * self.gate * self.dO
        self.dW2s = dy.T @ self.As
        return dx
