"""A Mixture-of-Experts layer in NumPy, judged on data of its own.

Usage: numpy_layer.py MOEREF FOLDER

Writes FOLDER/inputs.safetensors (X, weights as most training code keeps them, [E][d][2n], and ids
with -1 for slots that a token does not use) and FOLDER/outputs.safetensors (O, and the gradient of
the weights, dS, by the same slots), and has the program MOEREF judge them. Exits as it does.
"""

import json
import pathlib
import struct
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy is not installed (Debian: python3-numpy)")
    sys.exit(77)  # skipped


def save(path, tensors):
    """A safetensors file: header length, JSON header, data."""
    names = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def silu(x):
    return x / (1 + np.exp(-x))


def layer(x, w1, w2, ids, weights, d_out):
    """O [T][d], the sum over a token's experts of weight * y, y = (silu(x Wg) * (x Wu)) W2; and dS
    [T][K], <dO, y>."""
    out, d_weights = np.zeros_like(x), np.zeros_like(weights)
    for t, slots in enumerate(ids):
        for slot, expert in enumerate(slots):
            if expert < 0:
                continue
            gate, up = np.split(x[t] @ w1[expert], 2)
            y = (silu(gate) * up) @ w2[expert]
            out[t] += weights[t, slot] * y
            d_weights[t, slot] = d_out[t] @ y
    return out, d_weights


def main(moeref, folder):
    T, d, n, E, K = 40, 24, 16, 6, 2
    rng = np.random.default_rng(1)
    x, d_out = rng.standard_normal((2, T, d), dtype=np.float32)
    w1 = rng.standard_normal((E, d, 2 * n), dtype=np.float32) / np.float32(np.sqrt(d))
    w2 = rng.standard_normal((E, n, d), dtype=np.float32) / np.float32(np.sqrt(n))
    ids = np.array([rng.choice(E, K, replace=False) for _ in range(T)], dtype=np.int32)
    ids[::5, 1] = -1  # every fifth token has one expert only
    weights = rng.random((T, K), dtype=np.float32)

    out, d_weights = layer(x, w1, w2, ids, weights, d_out)
    save(f"{folder}/inputs.safetensors", {"X": x, "dO": d_out, "W1": w1, "W2": w2,
                                          "topk_index": ids, "topk_weight": weights})
    save(f"{folder}/outputs.safetensors", {"O": out, "dS": d_weights})
    case = f"T={T} d={d} n={n} E={E} K={K} dtype=fp32"
    return subprocess.run([moeref, "check", "--case", case,
                           "--inputs", f"{folder}/inputs.safetensors",
                           "--outputs", f"{folder}/outputs.safetensors"]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
