#!/usr/bin/env python3
"""FSMoE's grid: in how many of its 1458 layers do the passes want different numbers of chunks?

    fsmoe_grid.py MOEREF

arXiv 2501.10714, table 4 and section 2.3: on testbed B (8 hosts of 4 RTX 2080 Ti) 912. Counted by
the model on fsmoe_node.json and fsmoe_gpu.json, and by the paper's own equations (section 4.2) with
the lines that it prints (figure 5). Facts of the paper and of its release stand here.
"""
import itertools
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HOSTS, GPUS = 8, 4  # experts over hosts, each one's width over a host's GPUs
TOP, EXPERTS = 2, 8  # section 6.4
HEADS = 3  # numbers of heads that table 4 has, of which neither model sees anything
NONE = 1.0  # f = *: no token is dropped, and none padded
# Figure 5(c) and (d): ms, and ms a byte; products count 4 bytes a multiply-add (m n k).
A2A, AG, RS, AR = (0.175, 3.06e-7), (0.032, 1.68e-7), (0.0391, 1.67e-7), (0.0837, 5.99e-7)
GEMM = (0.0924, 4.42e-11)
ROUNDED, WHOLE = (1, 2, 4, 8), range(1, 9)  # the release's tools/optim.py; any number


def layers():
    """(batch * length * f, d, n / d, Mixtral's experts) of table 4, without heads."""
    for batch, length, d, scale, f, mixtral in itertools.product(
            (1, 2, 4), (256, 512, 1024), (1024, 2048, 4096), (2, 3, 4), (1.2, 2.4, NONE),
            (False, True)):
        yield f * batch * length, d, scale, mixtral


def gradients(d, mixtral):
    """Bytes of attention's, fp32: four square matrices, or Mixtral's with fewer keys and values."""
    return (10 if mixtral else 16) * d * d


def line(of, amount, chunks):
    return of[0] + of[1] * amount / chunks


def paper_ms(layer, chunks, backward, with_gradients):
    """Equations 2 to 5 of section 4.2, by their conditions Q1 to Q7."""
    tokens, d, scale, mixtral = layer
    products = (3 if mixtral else 2) * (2 if backward else 1)
    rows = TOP * tokens * d * 4
    a2a, ag, rs = line(A2A, rows / GPUS, chunks), line(AG, rows, chunks), line(RS, rows, chunks)
    experts = products * chunks * line(GEMM, rows * scale * d / GPUS, chunks)
    reduced = line(AR, gradients(d, mixtral) / GPUS, 1) if with_gradients else 0
    if a2a > ag:
        rest = max(ag + rs, ag + rs + experts - 2 * (chunks - 1) * a2a)
    elif experts > (chunks - 1) * (ag + rs):
        rest = ag + rs + experts - 2 * (chunks - 1) * a2a
    else:
        rest = chunks * (ag + rs) - 2 * (chunks - 1) * a2a
    return 2 * chunks * a2a + max(reduced, rest)


def by_paper(layer, counts, with_gradients):
    return [min(counts, key=lambda r: paper_ms(layer, r, b, b and with_gradients))
            for b in (False, True)]


def model_us(moeref, group, chunks, beside):
    """(forward, backward) of layers with the same gradients."""
    cases = "".join(f"T={round(tokens / GPUS)} d={d} n={scale * d} E={EXPERTS} K={TOP} "
                    f"act={'swiglu' if mixtral else 'gelu'} route=balanced\n"
                    for tokens, d, scale, mixtral in group)
    said = subprocess.run(
        [moeref, "predict", "--node", str(HERE / "fsmoe_node.json"), "--gpu",
         str(HERE / "fsmoe_gpu.json"), "--operands", "tf32", "--compute", "cublas", "--method",
         "fsmoe", "--ep", str(HOSTS), "--tp", str(GPUS), "--chunks", str(chunks), "--beside-bytes",
         str(beside), "--batch", "-", "--output", "json"], input=cases, check=True, text=True,
        stdout=subprocess.PIPE).stdout
    return [(p["forward_us"], p["backward_us"]) for p in map(json.loads, said.splitlines())]


def by_model(moeref, counts, with_gradients):
    key = lambda layer: gradients(layer[1], layer[3])
    for beside, group in itertools.groupby(sorted(layers(), key=key), key=key):
        group = list(group)
        us = {r: model_us(moeref, group, r, beside if with_gradients else 0) for r in counts}
        for i in range(len(group)):
            yield [min(counts, key=lambda r: us[r][i][b]) for b in range(2)]


def told(chosen):
    chosen = list(chosen)
    differ = HEADS * sum(a != b for a, b in chosen)
    return f"{differ} ({100 * differ / (HEADS * len(chosen)):.1f} %)"


def main(moeref):
    print("| chunks | gradients | paper's equations | model |\n|---|---|---|---|")
    for counts, what in ((ROUNDED, "1, 2, 4, 8"), (WHOLE, "1 to 8")):
        for with_gradients in (True, False):
            paper = told(by_paper(layer, counts, with_gradients) for layer in layers())
            model = told(by_model(moeref, counts, with_gradients))
            print(f"| {what} | {'in the gaps' if with_gradients else 'none'} | {paper} | {model} |",
                  flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
