"""Bugs of the backward pass, as numpy_bugs_forward.py has those of the forward one."""
import numpy as np
from numpy_kernel import Kernel, bf16, sigmoid


class dW_of_microbatches_not_zeroed(Kernel):
    """dW1 begins with that of the first half of the tokens."""
    layer, words = "mid", r"twice|added|adds|row|token"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        if name == "dW1":
            early = (self.token < self.T // 2)[:, None]
            whole = whole + super().weight_gradient(name, left * early, right, shape)
        return whole


class jacobian_with_the_mean(Kernel):
    """The weights' gradient loses its mean over the slots, not their weighted sum."""
    layer, words, gives = "mid", r"score|weight|slope|gradient|renorm", "dX dW_r dS"

    def dz(self, ds):
        z = np.zeros_like(self.z)
        np.put_along_axis(z, self.ids, self.w * (ds - ds.mean(1, keepdims=True)), 1)
        return z


class bias_in_the_backward_weights(Kernel):
    """The weights are right; their gradient is taken at scores with the selection bias."""
    layer, words, gives = "sigmoid", r"bias|weight|score|renorm", "dX dW_r"

    def dz(self, ds):
        right, self.score = self.score, self.key(self.score)
        z = super().dz(ds)
        self.score = right
        return z


class dropped_slots_have_gradients(Kernel):
    """Tokens beyond an expert's room are dropped, and their weights' gradient is not."""
    layer, words, gives = "capacity", r"dS|slot|drop|gradient|weight|dz|row", "O dX dW_r"

    def weigh(self, score, ids):
        self.kept = np.zeros(ids.shape, bool)
        load, room = np.zeros(self.E, int), int(self.c["capacity"])
        for t in range(self.T):
            for k in range(self.K):
                self.kept[t, k] = load[ids[t, k]] < room
                load[ids[t, k]] += 1
        w = np.take_along_axis(score, ids, 1)
        return w / w.sum(1, keepdims=True)

    def combine(self, Y):
        self.ws = self.ws * self.kept[self.token, self.slot]
        return super().combine(Y)

    def results(self):
        got = super().results()
        return got


class dW2_of_experts_reversed(Kernel):
    layer, words = "mid", r"another expert|expert's|order"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        return whole[::-1] if name == "dW2" else whole


class one_tile_of_W2_transposed(Kernel):
    """In dA a tile of 32 x 32 of W2 is read transposed."""
    layer, words, gives = "mid", r"tile|transpos|block|W2|matrix", "dX dW1"

    def product(self, name, a, b, e):
        if name == "dA":
            b = b.copy()
            b[32:64, 64:96] = b[32:64, 64:96].T.copy()
        return a @ b.T


class backward_reads_the_other_layout(Kernel):
    """H is interleaved; its gradient is taken as if it were not."""
    layer, words, gives = "turned", r"layout|interleav|gate", "O dX dW1"

    def dact(self, da, h):
        g, u = h[:, :self.n], h[:, self.n:]
        value, slope = self.phi(g)
        return np.concatenate([da * u * slope, da * value], 1)


class dX_added_in_bf16(Kernel):
    """Each of a token's K rows is added to a bf16 sum."""
    layer, words, gives, types = "raw", r"narrow|bits|round|sum", "dX", "fp32 fp16"

    def sum_dX(self, dxp):
        dX = np.zeros((self.T, self.d), np.float32)
        for k in range(self.K):
            at = np.where(self.slot == k)[0]
            dX[self.token[at]] = bf16(dX[self.token[at]] + dxp[at])
        return dX


class H_recomputed_in_fp8(Kernel):
    """Backward's H is made of W1 of 3 mantissa bits."""
    told = False
    layer, words, gives = "mid", r"bits|narrow|level|round|H", "O dX dW1 dW2"

    def backward_H(self):
        m, e = np.frexp(self.W1)
        right, self.W1 = self.W1, np.ldexp(np.rint(m * 16) / 16, e).astype(np.float32)
        H = self.store("H", self.each(self.W1.shape[1], lambda e, r: self.up(e, self.xin[r])))
        self.W1 = right
        return H


class dS_of_overlapping_tiles(Kernel):
    """The last tile of 32 units begins at n - 32, and its first units count twice."""
    told = False
    layer, words, gives = "small", r"dS|twice|unit|term", "O dS dW_r"

    def d_weight(self):
        again = slice(self.n - 32, self.n // 32 * 32)
        return super().d_weight() + (self.dA[:, again] * self.A[:, again]).sum(1)


class dXp_of_overlapping_blocks(Kernel):
    """The last block of 64 of K begins at K - 64."""
    layer, words, gives = "small", r"twice|term|block|dXp|dX", "O dX"

    def product(self, name, a, b, e):
        out = a @ b.T
        if name == "dXp":
            k = a.shape[1]
            again = slice(k - 64, k // 64 * 64)
            out += a[:, again] @ b[:, again].T
        return out


class one_forgotten_in_d_gate(Kernel):
    """d_gate has up where forward has up + 1."""
    layer, words, gives = "oss", r"\b1\b|one|gate|slope|up|derivative|activ", "O dX dW1"

    def dact(self, da, h):
        g, u, inside_g, inside_u = self.clamped(*self.halves(h))
        value, slope = self.phi(g)
        return self.joined(da * (u - 1) * slope * inside_g, da * value * inside_u)


class local_experts_from_zero_in_backward(Kernel):
    """The upper half of the experts writes the gradients of the lower one, and the reverse."""
    layer, words, gives = "mid", r"another expert|expert's", "dW1 dW2"

    def weight_gradient(self, name, left, right, shape):
        return np.roll(super().weight_gradient(name, left, right, shape), self.E // 2, 0)


class gelu_slope_of_the_tanh_form(Kernel):
    """erf forward, the derivative of the tanh approximation backward."""
    layer, words, gives, types = "geglu", r"slope|derivative|gelu|activ", "O dX dW1", "fp32"

    def dact(self, da, h):
        g, u = self.halves(h)
        value, _ = self.phi(g)
        root = np.float32(np.sqrt(2 / np.pi))
        t = np.tanh(root * (g + 0.044715 * g ** 3))
        slope = (1 + t) / 2 + g / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * g * g)
        return self.joined(da * u * slope, da * value)


class dS_returned_by_expert(Kernel):
    """topk_index by score, dS by expert."""
    layer, words, gives = "raw", r"dS.*(slot|order|weight|pair|row)", "topk_index topk_weight dS"

    def results(self):
        got = super().results()
        return dict(got, dS=np.take_along_axis(got["dS"], np.argsort(self.ids, 1), 1))


class dW1_transposed(Kernel):
    """d = 2n: [E][d][2n] has the shape of [E][2n][d]."""
    layer, words, gives = "square", r"transpos", "dW1"

    def results(self):
        return dict(super().results(), dW1=self.dW1.swapaxes(1, 2).copy())


class silu_twice_in_A_prime(Kernel):
    """The gate was kept after its activation, and backward activates it again."""
    layer, words, gives = "mid", r"activ|silu|function|A\b|A'|factor", "O dX dW1 dW2"

    def a_prime(self):
        g, u = self.halves(self.H)
        return self.s * self.phi(self.phi(g)[0])[0] * u


class d_up_of_overwritten_gate(Kernel):
    """d_gate is stored over the gate before d_up reads it."""
    layer, words, gives = "mid", r"up\b|gate|slope|derivative|function|activ", "O dX dW1"

    def dact(self, da, h):
        g, u = self.halves(h)
        d_gate = da * u * self.phi(g)[1]
        return self.joined(d_gate, da * self.phi(d_gate)[0])


class dS_over_clipped_weight(Kernel):
    """dS of weighted rows, divided by the weight, which counts as at least a tenth."""
    told = False
    layer, words, gives = "raw", r"dS.*(weight|factor|function)", "dS"

    def d_weight(self):
        return super().d_weight() * self.ws / np.maximum(self.ws, np.float32(0.1))


class dX_without_the_input_weight(Kernel):
    layer, words, gives = "one", r"weight", "O dX"

    def sum_dX(self, dxp):
        self.ws = np.ones_like(self.ws)
        return super().sum_dX(dxp)


class dS_of_Y_for_input_weights(Kernel):
    """The weight is on the input, its gradient is that of one on the output."""
    layer, words, gives = "one", r"dS|inner|product|weight", "dX dW_r"

    def d_weight(self):
        return (self.dY * self.Y).sum(1)


class dW_fragments_crossed(Kernel):
    """In odd blocks of 8 columns of dW1 rows 0 to 7 and 8 to 15 have changed places."""
    layer, words = "mid", r"tile|row|column|order|place|swap|block"

    def weight_gradient(self, name, left, right, shape):
        whole = super().weight_gradient(name, left, right, shape)
        if name == "dW1":
            parts = whole.reshape(self.E, -1, 2, 8, self.d // 8, 8)
            parts[:, :, :, :, 1::2] = parts[:, :, ::-1, :, 1::2].copy()
        return whole


class dW2_sums_in_bf16(Kernel):
    """The sum over an expert's rows becomes bf16 after each 32."""
    layer, words, types = "long", r"narrow|bits|round|sum", "fp32 fp16"

    def product(self, name, a, b, e):
        if name != "dW2":
            return a @ b.T
        sums = 0
        for k in range(0, a.shape[1], 32):
            sums = bf16(sums + a[:, k:k + 32] @ b[:, k:k + 32].T)
        return np.zeros((len(a), len(b)), np.float32) + sums


class dW_skips_short_experts_tail_tile(Kernel):
    """Rows after the last whole 128 count only where an expert has fewer than 128."""
    layer, words = "long", r"row|tail|left out|sum"

    def product(self, name, a, b, e):
        k = a.shape[1]
        if name == "dW1" and k > 128:
            k = k // 128 * 128
        return a[:, :k] @ b[:, :k].T


class dX_of_unsorted_dS(Kernel):
    """The router's gradient takes dS in the order of experts for one of tokens."""
    layer, words, gives = "raw", r"dS|order|weight|slot|pair|row", "dX dW_r"

    def by_slot(self, pairs):
        return pairs.reshape(self.T, self.K)

    def results(self):
        got = super().results()
        return dict(got, dS=super().by_slot(self.dS))


class dW_r_of_softmax_without_rest(Kernel):
    """Raw weights: only the chosen logits have gradients."""
    layer, words, gives = "raw", r"score|slope|chosen|gradient|softmax|logit", "dX dW_r"

    def dz(self, ds):
        z = super().dz(ds)
        chosen = np.zeros_like(z)
        np.put_along_axis(chosen, self.ids, 1, 1)
        return z * chosen


class sigmoid_slope_of_the_weight(Kernel):
    """s(1 - s) with s after renormalisation and scale."""
    layer, words, gives = "sigmoid", r"slope|weight|score|sigmoid", "dX dW_r"

    def dz(self, ds):
        right, score = self.score, self.score.copy()
        w = self.w / np.float32(self.c["scale"])
        z = super().dz(ds)
        np.put_along_axis(score, self.ids, w, 1)
        return z / (right * (1 - right)) * score * (1 - score)


class clamp_passes_gradient_of_up(Kernel):
    """Up's gradient passes where up is over the limit, not where it is under its negative."""
    layer, words, gives = "oss", r"clamp|limit|slope|derivative|up", "O dX dW1"

    def dact(self, da, h):
        g, u = self.halves(h)
        m = np.float32(self.c["limit"])
        g2, u2, inside_g, _ = self.clamped(g, u)
        value, slope = self.phi(g2)
        return self.joined(da * u2 * slope * inside_g, da * value * (u >= -m))


class db1_of_row_tiles_last(Kernel):
    """Each tile of 32 rows stores its sum, the last one stays."""
    layer, words, gives = "oss", r"db1.*(row|tile|left out|sum)", "O dX db1 db2"

    def bias_gradient(self, name, rows, shape):
        if name == "db1":
            rows = rows.copy()
            for e in range(self.E):
                r = self.rows(e)
                rows[r.start:max(r.start, r.start + (r.stop - r.start - 1) // 32 * 32)] = 0
        return super().bias_gradient(name, rows, shape)


class dS_without_b2(Kernel):
    layer, words, gives = "oss", r"b2|bias", "O dW_r dX"

    def d_weight(self):
        return (self.dA * self.A).sum(1)


class masked_tokens_share_gradient(Kernel):
    """Slots of -1 read expert E - 1's last row: tokens with holes get its dX~."""
    layer, words, gives = "holes", r"row|token|term|added|slot|wrong place", "O dX"

    def sum_dX(self, dxp):
        dX = super().sum_dX(dxp)
        holes = (self.ids < 0).sum(1)
        return dX + holes[:, None] * dxp[-1]


class dX_of_relu_not_squared(Kernel):
    """The slope of relu, not of its square, below one half."""
    layer, words, gives = "relu2", r"slope|derivative|activ|function", "O dX dW1"

    def dact(self, da, h):
        slope = np.where(h > 0.5, 2 * h, (h > 0).astype(np.float32))
        return da * slope


class gate_of_shared_without_slope_of_Y(Kernel):
    """The shared gate's gradient is of the gated output."""
    layer, words, gives = "shared", r"shared.*gate|gate.*shared|dw_gate_shared", None

    def shared_backward(self):
        right, self.Ys = self.Ys, self.gate * self.Ys
        dx = super().shared_backward()
        self.Ys = right
        return dx


class shared_dH_weighted_by_first(Kernel):
    """The shared expert's backward takes the first slot's weight with it."""
    layer, words = "shared", r"shared"

    def shared_backward(self):
        gate, self.gate = self.gate, self.gate * self.w[:, :1]
        dy = self.gate * self.dO
        self.gate = gate
        right, self.dO = self.dO, dy / gate
        dx = super().shared_backward()
        self.dO = right
        return dx


class dW2_of_sigmoid_for_A(Kernel):
    """dW2's factor is sigmoid(g) * u."""
    layer, words, gives = "wide", r"activ|function|A\b|A'|factor|sigmoid", "dW2"

    def a_prime(self):
        g, u = self.halves(self.H)
        return self.s * sigmoid(g) * u
