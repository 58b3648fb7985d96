"""Sizes and type of the checkpoints that are drawn: d, n, E, K and the shared width differ from
each other and from T. MOEREF_TWINS="32 16 8 3 24 40 bfloat16" draws others, E a multiple of 4.
"""

import os

import numpy as np

_WORDS = os.environ.get("MOEREF_TWINS", "12 6 8 3 10 13 float64").split()
D, N, E, K, S, T = (int(word) for word in _WORDS[:6])
TYPE = _WORDS[6]


def rounded(x):
    """To what the checkpoint's type holds, ties to even."""
    if TYPE == "float64":
        return x
    bits = np.asarray(x, np.float32).view(np.uint32)
    bits = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(float)
