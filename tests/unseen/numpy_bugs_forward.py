"""Bugs of the forward pass, each a step of numpy_kernel.py that is made otherwise, and the words
that a report must say, decided before the first was tried."""
import numpy as np
from numpy_kernel import Kernel, bf16, sigmoid


class stale_last_wave(Kernel):
    """A persistent kernel's last wave stores the tiles that its CTAs had before."""
    layer, words, gives = "mid", r"tile|rows of|other rows|before|columns", "O"

    def store(self, name, value):
        if name == "Y":
            tiles = [(r, c) for r in range(0, len(value), 64) for c in range(0, self.d, 64)]
            grid, right = 32, value.copy()
            for i in range(len(tiles) // grid * grid, len(tiles)):
                (r, c), (r0, c0) = tiles[i], tiles[i - grid]
                rows = min(64, len(value) - r)
                value[r:r + rows, c:c + 64] = right[r0:r0 + rows, c0:c0 + 64]
        return super().store(name, value)


class k_tail_of_dA_lost(Kernel):
    """The backward product over d has whole blocks of 64 alone."""
    layer, words, gives = "small", r"dA|last|terms|block|left out", "dX dW1 dW2"

    def product(self, name, a, b, e):
        k = a.shape[1] // 64 * 64 if name == "dA" else a.shape[1]
        return a[:, :k] @ b[:, :k].T


class split_k_partial_lost(Kernel):
    """Two partial sums race: in some tiles one of them is lost."""
    layer, words, gives = "mid", r"term|block|sum|half|split", "O"

    def product(self, name, a, b, e):
        out = a @ b.T
        if name == "Y":
            half = a.shape[1] // 2
            for r in range(0, len(a), 32):
                for c in range(0, self.d, 64):
                    if (7 * e + r // 32 + 3 * (c // 64)) % 5 == 0:
                        out[r:r + 32, c:c + 64] -= a[r:r + 32, half:] @ b[c:c + 64, half:].T
        return out


class ldmatrix_rows_crossed(Kernel):
    """Inside tiles of 64 rows the row's low three bits and the next three change places."""
    layer, words, gives = "mid", r"row|order|place|token", "O dX"

    def gather(self):
        r = np.arange(len(self.token))
        to = np.minimum(r // 64 * 64 + r % 8 * 8 + r % 64 // 8, len(r) - 1)
        return self.X[self.token[to]]


class bf16_sums_flushed(Kernel):
    """Accumulators become bf16 after each 64 terms."""
    layer, words, gives, types = "mid", r"narrow|bits|round", "O", "fp32 fp16"

    def product(self, name, a, b, e):
        if name not in ("H", "Y"):
            return a @ b.T
        sums = 0
        for k in range(0, a.shape[1], 64):
            sums = bf16(sums + a[:, k:k + 64] @ b[:, k:k + 64].T)
        return sums


class silu_in_bf16(Kernel):
    layer, types = "mid", "fp32 fp16"
    words, gives = r"activ|sigmoid|narrow|bits|round|function", "O"

    def phi(self, g):
        value, slope = super().phi(g)
        return bf16(value), slope


class upper_units_swapped(Kernel):
    """Gate and up have changed places for the upper half of the units."""
    layer, words, gives = "raw", r"gate|up\b|swap", "O"

    def halves(self, h):
        g, u = super().halves(h)
        m = g.shape[1] // 2
        return (np.concatenate([g[:, :m], u[:, m:]], 1), np.concatenate([u[:, :m], g[:, m:]], 1))


class weight_before_activation(Kernel):
    """The combine weight multiplies H, before the activation, and not Y."""
    layer, words, gives = "raw", r"weight", "O"

    def store(self, name, value):
        return super().store(name, value * self.ws[:, None] if name == "H" else value)

    def combine(self, Y):
        self.ws = np.ones_like(self.ws)
        return super().combine(Y)


class padding_rows_to_last_token(Kernel):
    """Rows that fill an expert's tile of 16 have the last token's number and are added to it."""
    layer, words, gives = "mid", r"last token|token|added|row|twice|missing", "O"

    def combine(self, Y):
        O = super().combine(Y)
        for e in range(self.E):
            pad = -(self.offsets[e + 1] - self.offsets[e]) % 16
            last = self.store("Y", self.down(e, self.act(self.up(e, self.X[-1:]))))[0]
            O[-1] += pad * last / self.K
        return O


class flat_index_of_16_bits(Kernel):
    """Row times width wraps at 2^16 where A is read."""
    layer, words, gives = "mid", r"row|wrap|wrong place|other", "O"

    def store(self, name, value):
        value = super().store(name, value)
        if name == "A":
            flat = value.reshape(-1)
            at = (np.arange(len(value)) * self.n) % 65536
            value = flat[at[:, None] + np.arange(self.n)]
        return value


class softmax_of_the_scores(Kernel):
    """The chosen scores go through a second softmax."""
    layer, words, gives = "raw", r"weight|score|softmax", "O"

    def weigh(self, score, ids):
        w = np.exp(np.take_along_axis(score, ids, 1))
        return w / w.sum(1, keepdims=True)


class one_lane_one_expert(Kernel):
    """A lane keeps the better of experts e and e + E/2, and loses the other."""
    layer, words, gives = "large", r"choice|chosen|mask|sight|parts|best", "O topk_index"

    def choose(self, key):
        half, key = self.E // 2, key.copy()
        low, high = key[:, :half], key[:, half:]
        loses = low < high
        low[loses] = -np.inf
        high[~loses] = -np.inf
        return super().choose(key)


class weights_stored_bf16(Kernel):
    """Weights are rounded to bf16 on their way to the last kernel, and not after."""
    layer, words, gives, types = "large", r"weight|narrow|bits|round", "O", "fp32"

    def combine(self, Y):
        self.ws = bf16(self.ws)
        return super().combine(Y)


class exponent_of_bf16_log2e(Kernel):
    """exp(z) is 2^(z * log2 e) with log2 e of bf16."""
    layer, words, gives, types = "raw", r"weight|score|logit|softmax|temper", "O", "fp32"

    def scores(self, z):
        return super().scores(z * (bf16(np.float32([1.4426950]))[0] / 1.4426950))


class sigmoid_by_approximate_tanh(Kernel):
    """tanh.approx has 11 bits."""
    layer, words, types = "mid", r"activ|sigmoid|narrow|bits|function|round", "fp32"
    gives = "O"

    def phi(self, g):
        t = np.tanh(g / 2)
        m, e = np.frexp(t)
        s = (1 + np.ldexp(np.rint(m * 2048) / 2048, e)) / 2
        return g * s, s * (1 + g * (1 - s))


class second_cta_of_a_pair(Kernel):
    """Two row tiles of a cluster share W2, also where their experts differ."""
    layer, words, gives = "mid", r"expert|matrix|W2|weights of", "O"

    def store(self, name, value):
        if name == "Y":
            tiles = [(e, r) for e in range(self.E)
                     for r in range(self.offsets[e], self.offsets[e + 1], 32)]
            for (e0, _), (e, r) in zip(tiles[0::2], tiles[1::2]):
                end = min(r + 32, self.offsets[e + 1])
                if e0 != e:
                    value[r:end] = self.A[r:end] @ self.W2[e0].T
        return super().store(name, value)


class jitter_left_on(Kernel):
    """Training's noise: logits times 1 +- 1 %."""
    told = False
    layer, words, gives, types = "raw", r"weight|logit|chance|router|score", "O", "fp32"

    def scores(self, z):
        noise = np.random.default_rng(1).uniform(0.99, 1.01, z.shape)
        return super().scores(z * noise.astype(np.float32))


class dropout_left_on(Kernel):
    """A tenth of A is 0, the rest 1/0.9 as large."""
    told = False
    layer, words, gives = "raw", r"chance|zero|factor|scale", "O"

    def act(self, h):
        keep = np.random.default_rng(2).random((len(h), self.n)) < 0.9
        return super().act(h) * keep / np.float32(0.9)


class low_rank_part_of_W2(Kernel):
    """An adapter of rank 4 is still merged into W2."""
    told = False
    layer, words, gives = "raw", r"W2|matrix|added", "O"

    def product(self, name, a, b, e):
        if name == "Y":
            rng = np.random.default_rng(e)
            u, v = (rng.standard_normal((m, 4)).astype(np.float32) for m in b.shape)
            b = b + u @ v.T / np.float32(10 * np.sqrt(b.shape[1]))
        return a @ b.T


class capacity_unasked(Kernel):
    """Experts take the mean of tokens, others are turned away."""
    layer, words, gives = "raw", r"full|capacity|left out|missing|lost|tail", "O"

    def combine(self, Y):
        room = self.T * self.K // self.E
        place = np.arange(len(self.token)) - self.offsets[self.expert]
        self.ws = self.ws * (place < room)
        return super().combine(Y)


class batch_and_sequence_exchanged(Kernel):
    """X is [batch][sequence], O is written as [sequence][batch]."""
    layer, words, gives = "raw", r"row|order|place|token|turned|transpos", "O"

    def combine(self, Y):
        return super().combine(Y).reshape(4, self.T // 4, self.d).swapaxes(0, 1).reshape(
            self.T, self.d)


class counts_of_8_bits(Kernel):
    """An expert's count is one byte."""
    layer, words, gives = "counts", r"row|left out|missing|tail|zero|skipped", "O"

    def store(self, name, value):
        if name == "Y":
            for e in range(self.E):
                value[self.offsets[e] + (self.offsets[e + 1] - self.offsets[e]) % 256:
                      self.offsets[e + 1]] = 0
        return super().store(name, value)


class up_begins_at_padded_n(Kernel):
    """W1 is read as if its gates were padded to 64 rows."""
    layer, words, gives = "small", r"up\b|row|column|W1|shift|layout", "O"

    def halves(self, h):
        at = min(-(-self.n // 64) * 64, h.shape[1])
        wrapped = np.concatenate([h, h[:, :self.n]], 1)
        return h[:, :self.n], wrapped[:, at:at + self.n]


class scale_of_the_next_k_block(Kernel):
    """X of fp8: each row's block of 64 has the scale of the row's next block."""
    told = False
    layer, words, gives = "mid", r"factor|scale|block", "O"

    def product(self, name, a, b, e):
        if name == "H":
            blocks = a.reshape(len(a), -1, 64)
            most = abs(blocks).max(2, keepdims=True)
            a = (blocks / most * np.roll(most, -1, 1)).reshape(a.shape)
        return a @ b.T


class nibbles_swapped(Kernel):
    """Four-bit codes of W1 are read in pairs, the high one first."""
    layer, words, gives = "raw", r"term|column|beside|order|swap|pair|unit", "O"

    def product(self, name, a, b, e):
        if name == "H":
            a = a.reshape(len(a), -1, 2)[:, :, ::-1].reshape(a.shape)
        return a @ b.T


class scales_of_odd_row_blocks_late(Kernel):
    """W1's scale of a 32 x 64 block is the next block's along K, in odd blocks of rows."""
    told = False
    layer, words, gives = "raw", r"factor|scale|block|W1|matrix", "O"

    def product(self, name, a, b, e):
        if name == "H":
            b = b.copy().reshape(-1, 32, b.shape[1] // 64, 64)
            most = abs(b).max((1, 3), keepdims=True)
            most[1::2] = np.roll(most, -1, 2)[1::2] / most[1::2]
            most[0::2] = 1
            b = (b * most).reshape(self.W1.shape[1:])
        return a @ b.T


class raster_of_a_ragged_group(Kernel):
    """Tiles are numbered in groups of 8 row tiles, also in the last group, which has fewer."""
    layer, words, gives = "holes", r"zero|not written|tile|row|column|block", "O"

    def store(self, name, value):
        if name == "Y":
            right, value = value, np.zeros_like(value)
            m, c = -(-len(value) // 64), self.d // 64
            for pid in range(m * c):
                r = pid // (8 * c) * 8 + pid % 8
                at = pid % (8 * c) // 8
                value[64 * r:64 * r + 64, 64 * at:64 * at + 64] = \
                    right[64 * r:64 * r + 64, 64 * at:64 * at + 64]
        return super().store(name, value)


class shared_gate_over_root_d(Kernel):
    layer, words, gives = "shared", r"shared", "O"

    def shared_gate(self):
        return sigmoid(self.X @ self.p("w_gate_shared").T / np.float32(np.sqrt(self.d)))


class shared_expert_of_gelu(Kernel):
    layer, words, gives = "shared", r"shared", "O"

    def shared_act(self, h):
        g, u = self.halves(h)
        return g * sigmoid(1.702 * g) * u


class bisected_topk_takes_one_twice(Kernel):
    """Where the last two of K are near, the search ends with the same expert twice."""
    layer, words, gives = "raw", r"twice|expert", "O topk_index topk_weight"

    def choose(self, key):
        ids = super().choose(key)
        v = np.take_along_axis(key, ids, 1)
        near = v[:, -2] - v[:, -1] < 1e-4
        ids[near, -1] = ids[near, -2]
        return ids


class ids_sorted_weights_not(Kernel):
    """topk_index by expert, topk_weight by score."""
    layer, words, gives = "raw", r"weight|slot|order", "topk_index topk_weight"

    def results(self):
        return dict(super().results(), topk_index=np.sort(self.ids, 1))


class two_experts_of_neighbours_race(Kernel):
    """Of a token with experts 2i and 2i + 1 one contribution overwrites the other."""
    layer, words, gives = "large", r"missing|left out|single|overwrit|lost|without", "O"

    def combine(self, Y):
        chosen = np.zeros((self.T, self.E + 1), bool)
        np.put_along_axis(chosen, self.ids, True, 1)
        lost = (self.expert % 2 == 0) & chosen[self.token, self.expert + 1]
        self.ws = np.where(lost, 0, self.ws)
        return super().combine(Y)


class fragment_columns_crossed(Kernel):
    """Columns 8 to 15 and 16 to 23 of each 32 of O have changed places."""
    layer, words, gives = "wide", r"column|order|place|tile", "O"

    def combine(self, Y):
        c = np.arange(self.d)
        part = c % 32 // 8
        to = np.where(part == 1, c + 8, np.where(part == 2, c - 8, c))
        return super().combine(Y)[:, to]


class mask_of_experts_of_32_bits(Kernel):
    """Tokens are marked in 32 bits: expert 32 + e is done as e."""
    layer, words, gives = "large", r"expert|weights of|index", "O"

    def up(self, e, x):
        return super().up(e % 32, x)

    def down(self, e, a):
        return super().down(e % 32, a)
