"""Bugs of indices that are too narrow, and of a persistent kernel's last wave. Words and edits were
fixed before the first was tried, as in numpy_bugs_forward.py."""
import numpy as np
from numpy_kernel import Kernel


def wrapped(rows, limit):
    """Rows that are read from where their first element's index wraps."""
    flat, width = rows.reshape(-1), rows.shape[1]
    at = np.arange(len(rows)) * width % limit
    return flat[at[:, None] + np.arange(width)]


def last_wave(value, tile, grid, columns_first=False):
    """(rows, columns) of each tile of the last wave, which is not whole, and of those before it."""
    rows, width = range(0, len(value), tile), range(0, value.shape[1], tile)
    tiles = [(r, c) for c in width for r in rows] if columns_first else \
        [(r, c) for r in rows for c in width]

    def part(r, c):
        return slice(r, r + tile), slice(c, c + tile)
    return [(part(*tiles[i]), part(*tiles[i - grid]))
            for i in range(len(tiles) // grid * grid, len(tiles))]


def spoil_last_wave(value, tile, grid, stale, columns_first=False):
    """The last wave's tiles have what the wave before has at its place, or zeros."""
    ret = value.copy()
    for at, before in last_wave(value, tile, grid, columns_first):
        ret[at] = value[before][:ret[at].shape[0]] if stale else 0
    return ret


class token_of_8_bits(Kernel):
    """X is gathered for tokens whose number wraps at 256."""
    layer, words, gives = "mid", r"wrap|256", "O"

    def gather(self):
        return self.X[self.token % 256]


class dO_of_8_bit_tokens(Kernel):
    layer, words, gives = "mid", r"wrap|256", "O dX dW2"

    def backward(self):
        right = self.dO
        self.dO = self.dO[np.arange(self.T) % 256]
        super().backward()
        self.dO = right


class expert_of_3_bits(Kernel):
    """Experts 8 to 15 have the weights of 0 to 7."""
    layer, words, gives = "mid", r"wrap|another expert|expert .* of .*expert|weights of", "O"

    def product(self, name, a, b, e):
        if name == "H":
            b = self.W1[e % 8]
        if name == "Y":
            b = self.W2[e % 8]
        return a @ b.T


class W1_of_3_bit_experts(Kernel):
    layer, words, gives = "mid", r"wrap|another expert|expert .* of .*expert|W1", "O"

    def product(self, name, a, b, e):
        return a @ (self.W1[e % 8] if name == "H" else b).T


class A_index_of_17_bits(Kernel):
    """Row times width wraps at 2^17 where A is read."""
    layer, words, gives = "raw", r"A\b.*wrap|wrap.*A\b", "O"

    def store(self, name, value):
        value = super().store(name, value)
        return wrapped(value, 131072) if name == "A" else value


class X_index_of_16_bits(Kernel):
    layer, words, gives = "mid", r"X\b.*wrap|wrap.*X\b", "O"

    def gather(self):
        return wrapped(self.X, 65536)[self.token]


class H_index_of_16_bits(Kernel):
    layer, words, gives = "mid", r"H\b.*wrap|wrap.*H\b", "O"

    def act(self, h):
        return super().act(wrapped(h, 65536) if len(h) == len(self.token) else h)


class dH_index_of_18_bits(Kernel):
    """Only where dX~ is made of it."""
    layer, words, gives = "mid", r"dH.*wrap|wrap.*dH", "O dX dW1"

    def backward(self):
        super().backward()
        dh = wrapped(self.dH, 262144)
        self.dXp = self.store("dXp", self.each(self.d, lambda e, r: self.product(
            "dXp", dh[r], self.W1[e].T, e)))
        self.dX = self.sum_dX(self.dXp)
        self.router_backward()


class A_prime_index_of_16_bits(Kernel):
    """Where dW2 reads it."""
    told = False
    layer, words, gives = "mid", r"A\b.*wrap|wrap.*A\b", "O dX dW2"

    def a_prime(self):
        return wrapped(super().a_prime(), 65536)


class last_wave_of_Y_stale(Kernel):
    """Tiles of 64 x 64, columns first, 23 at once."""
    layer, words, gives = "mid", r"wave", "O"

    def store(self, name, value):
        value = super().store(name, value)
        return spoil_last_wave(value, 64, 23, True, columns_first=True) if name == "Y" else value


class last_wave_of_Y_not_run(Kernel):
    """132 CTAs, and zeros in the tiles that are left."""
    layer, words, gives = "raw", r"wave|zero|Y", "O"

    def store(self, name, value):
        value = super().store(name, value)
        return spoil_last_wave(value, 32, 132, False) if name == "Y" else value


class last_wave_of_dXp_stale(Kernel):
    layer, words, gives = "raw", r"wave", "O dX"

    def store(self, name, value):
        value = super().store(name, value)
        return spoil_last_wave(value, 64, 78, True) if name == "dXp" else value


class last_wave_of_A_not_run(Kernel):
    layer, words, gives = "raw", r"wave|zero|A\b|H\b", "O"

    def store(self, name, value):
        value = super().store(name, value)
        return spoil_last_wave(value, 64, 57, False) if name == "A" else value
