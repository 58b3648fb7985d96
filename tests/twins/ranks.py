#!/usr/bin/env python3
"""A layer over ranks in numpy: ranks.py MOEREF FOLDER.

Ranks that own experts and tokens, and send each other rows, written from include/moeref/ep.h alone:
what they put on the wire, bytes and rows of nobody included, what an 8-bit wire makes of a row, and
how rows are summed. Three comparisons:

1. tokens that `moeref` made for wire=e4m3 are those that this coding leaves as they are, bit for
   bit;
2. what the ranks here make, each into its own file, passes `moeref check --outputs`;
3. the bytes that they sent are those that `moeref check --ep` counts. It counts them on tokens that
   hold their own numbers, and so does this where they depend on a choice that is not given.
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
    sys.exit(77)

from twins import write_safetensors

BASE = "d=160 n=8 E=6 K=3 dtype=fp64 renorm=1"
LINES = [  # line, ranks, tokens of each, combine, wire
    (f"T=24 {BASE} seed=31 ep=3", [8, 8, 8], "pairs", "own"),
    (f"T=24 {BASE} seed=32 ep=4 tokens=10+0+8+6", [10, 0, 8, 6], "pairs", "own"),
    (f"T=24 {BASE} route=uniform seed=33 ep=3 combine=ranks", [8, 8, 8], "ranks", "own"),
    (f"T=24 {BASE} seed=34 ep=3 wire=e4m3", [8, 8, 8], "pairs", "e4m3"),
    (f"T=24 {BASE} route=uniform seed=35 ep=5 combine=ranks wire=e4m3 tokens=0+9+4+11+0",
     [0, 9, 4, 11, 0], "ranks", "e4m3"),
    (f"T=24 {BASE} select=capacity capacity=9 seed=37 ep=3", [8, 8, 8], "pairs", "own"),
    (f"T=24 {BASE} select=capacity capacity=3 capacity_group=8 seed=38 ep=3", [8, 8, 8], "pairs",
     "own"),
    (f"T=24 {BASE} seed=39 ep=3 padding=wire pad=4", [8, 8, 8], "pairs", "own"),
    (f"T=24 {BASE} seed=40 ep=4 combine=ranks padding=wire pad=5 tokens=10+0+8+6", [10, 0, 8, 6],
     "ranks", "own"),
    (f"T=24 {BASE} select=capacity capacity=4 capacity_group=8 seed=41 ep=3 padding=capacity",
     [8, 8, 8], "pairs", "own"),
    (f"T=24 {BASE} seed=42 ep=3 padding=owner pad=16", [8, 8, 8], "pairs", "own"),
]
BLOCK = 128
WORD = 8  # bytes of a value, a weight and a count here


def read_safetensors(path):
    blob = path.read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    head, body = json.loads(blob[8:8 + size]), blob[8 + size:]
    types = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "BF16": "<u2", "F16": "<f2"}
    return {name: np.frombuffer(body[slice(*t["data_offsets"])],
                                types[t["dtype"]]).reshape(t["shape"])
            for name, t in head.items() if name != "__metadata__"}


# ---- e4m3: all its numbers, and the nearest of them ----

def e4m3_values():
    """Of the codes 0 .. 126: exponent 0 has no leading 1; 127 is NaN."""
    return np.array([(m / 8) * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0**(e - 7)
                     for e in range(16) for m in range(8)][:127])


VALUES = e4m3_values()


def e4m3(x):
    """Nearest, ties to the even code, and no further than 448."""
    at = np.abs(x)
    above = np.clip(np.searchsorted(VALUES, at), 1, 126)
    low, high = VALUES[above - 1], VALUES[above]
    up = (at - low > high - at) | ((at - low == high - at) & (above % 2 == 0))
    return np.copysign(np.where(up, high, low), x)


def coded(x):
    """What the receiver of rows x [T][d] sees."""
    out = np.empty_like(x)
    for at in range(0, x.shape[1], BLOCK):
        block = x[:, at:at + BLOCK].astype(np.float64)
        scale = (np.abs(block).max(axis=1, keepdims=True) / 448).astype(np.float32)
        scale = scale.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            codes = e4m3(np.where(scale > 0, block / scale, 0))
        out[:, at:at + BLOCK] = codes * scale
    return out


# ---- the layer ----

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def choose(x, w_r, k):
    z = x @ w_r.T
    index = np.sort(np.argsort(-z, axis=1, kind="stable")[:, :k], axis=1)
    top = np.take_along_axis(z, index, axis=1)
    weight = np.exp(top - top.max(axis=1, keepdims=True))
    return index, weight / weight.sum(axis=1, keepdims=True)


def keep(index, line):
    """Which of all tokens' pairs their experts have room for."""
    words = dict(word.split("=") for word in line.split())
    room, group = int(words.get("capacity", len(index))), int(words.get("capacity_group", 0))
    kept = np.zeros(index.shape, bool)
    for first in range(0, len(index), group or len(index)):
        part = index[first:first + (group or len(index))]
        for e in range(index.max() + 1):
            t, slot = np.nonzero(part == e)
            kept[first + t[:room], slot[:room]] = True
    return kept


def rows_sent(counts, line, dedup):
    """Rows of a message whose parts (experts, or all copies) have so many."""
    words = dict(word.split("=") for word in line.split())
    if words.get("padding") == "capacity":
        return len(counts) * int(words["capacity"])
    pad = int(words["pad"]) if words.get("padding") == "wire" else 1
    return sum(-(-c // pad) * pad for c in ([counts] if dedup else counts))


def told(case, rank):
    """A given plan's choice for the tokens of a rank, and its weights, which lie in plan order."""
    index = case["topk_index"]
    weight = np.zeros(index.shape)
    for e, (begin, end) in enumerate(zip(case["plan_offsets"], case["plan_offsets"][1:])):
        t = case["plan_token"][begin:end]
        weight[t, np.argmax(index[t] == e, axis=1)] = case["topk_weight"][begin:end]
    return index[rank.t0:rank.t1], weight[rank.t0:rank.t1]


class Rank:
    def __init__(self, number, world, t0, t1, case):
        self.number, self.t0, self.t1 = number, t0, t1
        e = case["W1"].shape[0]
        self.e0, self.e1 = number * e // world, (number + 1) * e // world
        self.x, self.dy = case["X"][t0:t1], case["dO"][t0:t1]
        self.w1, self.w2 = case["W1"][self.e0:self.e1], case["W2"][self.e0:self.e1]
        self.dw1, self.dw2 = np.zeros_like(self.w1), np.zeros_like(self.w2)

    def forward(self, e, x):
        """(A, what backward needs) of rows x for expert e of its own."""
        g, u = np.split(x @ self.w1[e].T, 2, axis=1)
        a = g * sigmoid(g) * u
        return a @ self.w2[e].T, (x, g, u, a)

    def backward(self, e, kept, dy, s):
        """(dX~, dS) for rows whose outputs were weighted by s; dW is kept."""
        x, g, u, a = kept
        da = dy @ self.w2[e]
        ds = (da * a).sum(axis=1)
        self.dw2[e] += dy.T @ (s[:, None] * a)
        da = s[:, None] * da
        slope = sigmoid(g) * (1 + g * (1 - sigmoid(g)))
        dh = np.concatenate([da * u * slope, da * g * sigmoid(g)], axis=1)
        self.dw1[e] += dh.T @ x
        return dh @ self.w1[e], ds


def run(case, line, tokens, combine, wire):
    """Outputs of every rank, and the bytes that all sent."""
    k, world = 3, len(tokens)
    starts = np.concatenate([[0], np.cumsum(tokens)])
    ranks = [Rank(r, world, starts[r], starts[r + 1], case) for r in range(world)]
    d, e_all = case["X"].shape[1], case["W1"].shape[0]
    dedup = combine == "ranks"
    sent = 0
    out, back, d_weight = {}, {}, {}
    given = "W_r" not in case
    routed = [told(case, r) if given else choose(r.x, case["W_r"], k) for r in ranks]
    kept_pairs = keep(np.concatenate([index for index, _ in routed]), line)
    seen = [coded(r.x) if wire == "e4m3" else r.x for r in ranks]
    row_out = d + 4 * -(-d // BLOCK) if wire == "e4m3" else d * WORD
    for home, (index, weight) in zip(ranks, routed):
        out[home.number], back[home.number] = np.zeros((2, home.t1 - home.t0, d))
        d_weight[home.number] = np.zeros(index.shape)
    for home, (index, weight) in zip(ranks, routed):
        has_room = kept_pairs[home.t0:home.t1]
        for owner in ranks:
            mine = has_room & (index >= owner.e0) & (index < owner.e1)
            pairs, copies = mine.sum(), mine.any(axis=1).sum()
            of_experts = [(mine & (index == e)).sum() for e in range(owner.e0, owner.e1)]
            rows = rows_sent(copies if dedup else of_experts, line, dedup)
            sent += (owner.e1 - owner.e0 + dedup) * 8 + pairs * (WORD + 4 * dedup)
            sent += rows * (row_out + d * WORD)   # dispatch of X and of dO
            sent += rows * 2 * d * WORD + pairs * WORD  # combine, combine of dX~, dS
            part, part_back = np.zeros((2, home.t1 - home.t0, d))
            for e in range(owner.e0, owner.e1):
                t, slot = np.nonzero(has_room & (index == e))
                if not len(t):
                    continue
                s = weight[t, slot]
                y, kept = owner.forward(e - owner.e0, seen[home.number][t])
                dx, ds = owner.backward(e - owner.e0, kept, home.dy[t], s)
                part[t] += s[:, None] * y
                part_back[t] += dx
                d_weight[home.number][t, slot] = ds
            out[home.number] += part
            back[home.number] += part_back
    dw_r = np.zeros((e_all, d))
    for home, (index, weight) in zip(ranks, routed):
        ds = d_weight[home.number]
        dz_top = weight * (ds - (weight * ds).sum(axis=1, keepdims=True))
        dz = np.zeros((len(index), e_all))
        np.put_along_axis(dz, index, dz_top, axis=1)
        if not given:
            dw_r += dz.T @ home.x
            back[home.number] += dz @ case["W_r"]
    files = [{"O": out[r.number], "dX": back[r.number], "dW1": r.dw1, "dW2": r.dw2} for r in ranks]
    if not given:
        files = [f | {"dW_r": dw_r} for f in files]
    return files, int(sent)


# ---- comparisons ----

def export(moeref, line, folder):
    path = folder / "case.safetensors"
    subprocess.run([moeref, "golden", "--case", line, "--export", str(path)], check=True,
                   stdout=subprocess.DEVNULL)
    return read_safetensors(path)


def settled(x):
    for _ in range(8):
        once = coded(x)
        if np.array_equal(once.view(np.int64), x.view(np.int64)):
            break
        x = once
    return x


def compare_coding(moeref, folder):
    plain = f"T=24 {BASE} x_scale=3 seed=36 ep=3"
    x = export(moeref, plain, folder)["X"]
    want = settled(x.copy())
    got = export(moeref, plain + " wire=e4m3", folder)["X"]
    differ = int((want.view(np.int64) != got.view(np.int64)).sum())
    moved = np.abs(want - x).max()
    print(f"coding: {differ} of {want.size} values differ; the largest step is {moved:.3g}")
    return differ == 0 and moved > 0


def numbered(case, tokens):
    """Rank and number of each token, the latter in three digits of 128, then zeros."""
    rank, t = np.repeat(np.arange(len(tokens)), tokens), np.arange(sum(tokens))
    x = np.zeros_like(case["X"])
    x[:, :4] = np.stack([rank, t // 128**2, t // 128 % 128, t % 128], axis=1)
    return case | {"X": x}


def compare_line(moeref, folder, line, tokens, combine, wire):
    case = export(moeref, line, folder)
    files, sent = run(case, line, tokens, combine, wire)
    if "capacity" in line or "padding" in line:
        sent = run(numbered(case, tokens), line, tokens, combine, wire)[1]
    for r, tensors in enumerate(files):
        if tokens[r] == 0:
            tensors = {name: t for name, t in tensors.items() if name not in ("O", "dX")}
        write_safetensors(folder / f"rank{r}.safetensors", tensors)
    arithmetic = "fp64" if "W_r" in case else "fp32"  # of a given plan's weights
    judged = subprocess.run([moeref, "check", "--outputs", str(folder / "rank%d.safetensors"),
                             "--arithmetic", arithmetic, "--case", line], capture_output=True,
                            text=True, check=False)
    told = subprocess.run([moeref, "check", "--backend", "reference", "--case", line, "--output",
                           "json"], capture_output=True, text=True, check=False)
    counted = json.loads(told.stdout)["cases"][0]["over_ranks"]["bytes"] if told.stdout else None
    print(f"{line}: {judged.stdout.splitlines()[-1]}; {sent} bytes, moeref counts {counted}")
    if judged.returncode:
        print(judged.stdout, judged.stderr)
    return judged.returncode == 0 and counted == sent


def main(moeref, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    right = compare_coding(moeref, folder)
    for line in LINES:
        right = compare_line(moeref, folder, *line) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
