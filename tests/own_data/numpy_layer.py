"""A Mixture-of-Experts layer in NumPy, judged on data of its own.

Usage: numpy_layer.py MOEREF FOLDER

Writes FOLDER/inputs.safetensors (X, weights as most training code keeps them, [E][d][2n], and ids
with -1 for slots that a token does not use) and FOLDER/outputs.safetensors (O), and has the program
MOEREF judge them. Exits as it does.
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
    names = {"float32": "F32", "int32": "I32"}
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


def layer(x, w1, w2, ids, weights):
    """O [T][d]: sum over a token's experts of weight * (silu(x Wg) * (x Wu)) W2."""
    out = np.zeros_like(x)
    for t, slots in enumerate(ids):
        for expert, weight in zip(slots, weights[t]):
            if expert < 0:
                continue
            gate, up = np.split(x[t] @ w1[expert], 2)
            out[t] += weight * ((silu(gate) * up) @ w2[expert])
    return out


def main(moeref, folder):
    T, d, n, E, K = 40, 24, 16, 6, 2
    rng = np.random.default_rng(1)
    x = rng.standard_normal((T, d), dtype=np.float32)
    w1 = rng.standard_normal((E, d, 2 * n), dtype=np.float32) / np.float32(np.sqrt(d))
    w2 = rng.standard_normal((E, n, d), dtype=np.float32) / np.float32(np.sqrt(n))
    ids = np.array([rng.choice(E, K, replace=False) for _ in range(T)], dtype=np.int32)
    ids[::5, 1] = -1  # every fifth token has one expert only
    weights = rng.random((T, K), dtype=np.float32)

    save(f"{folder}/inputs.safetensors", {"X": x, "W1": w1, "W2": w2, "topk_index": ids,
                                          "topk_weight": weights})
    save(f"{folder}/outputs.safetensors", {"O": layer(x, w1, w2, ids, weights)})
    case = f"T={T} d={d} n={n} E={E} K={K} dtype=fp32 pass=fwd"
    return subprocess.run([moeref, "check", "--case", case,
                           "--inputs", f"{folder}/inputs.safetensors",
                           "--outputs", f"{folder}/outputs.safetensors"]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
