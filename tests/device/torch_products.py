#!/usr/bin/env python3
"""Which arithmetic torch's products on a device have: H of a layer whose sums cancel, one expert
at a time (torch.matmul), batched (torch.bmm) and grouped (grouped_mm), each held to the bank.

torch_products.py MOEREF FOLDER. By hand, on a device with torch and safetensors."""
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

MOEREF, FOLDER = sys.argv[1], Path(sys.argv[2])
LINE = ("T={T} d={d} n={n} E=4 K=1 route=counts:{T4}+{T4}+{T4}+{T4} data=cancel "
        "dtype={dtype} seed=7")
SHAPES = [(64, 320, 384), (512, 1024, 768), (512, 4096, 1536)]


def run(*words):
    return subprocess.run([MOEREF, *words], capture_output=True, text=True, check=False).stdout


def one_by_one(x, w):
    return torch.cat([x[e] @ w[e].T for e in range(len(w))])


def batched(x, w):
    return torch.bmm(x, w.transpose(1, 2)).flatten(0, 1)


def grouped(x, w):
    call = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
    rows = x.flatten(0, 1)
    ends = torch.arange(1, len(w) + 1, device=x.device, dtype=torch.int32) * x.shape[1]
    return call(rows, w.transpose(1, 2), offs=ends)


def main():
    print("torch", torch.__version__, torch.cuda.get_device_name())
    for T, d, n in SHAPES:
        for dtype in ("bf16", "fp16"):
            line = LINE.format(T=T, T4=T // 4, d=d, n=n, dtype=dtype)
            exported = str(FOLDER / "torch_case.safetensors")
            run("golden", "--case", line, "--export", exported)
            t = {k: v.cuda() for k, v in load_file(exported).items()}
            x = t["X"][t["plan_token"].long()].view(4, T // 4, d)
            for how in (one_by_one, batched, grouped):
                try:
                    h = how(x, t["W1"])
                except Exception as error:  # not for this type or build
                    print(f"{how.__name__:11s} {dtype} {T}x{d}x{n}: {str(error)[:80]}")
                    continue
                mine = str(FOLDER / "torch_h.safetensors")
                save_file({"H": h.contiguous().cpu()}, mine)
                report = run("check", "--outputs", mine, "--case", line, "--bits", "find",
                             "--arithmetic", dtype)
                said = [r.strip() for r in report.splitlines() if "bits: H " in r]
                print(f"{how.__name__:11s} {dtype} {T}x{d}x{n}: {said[0] if said else report}")
    return 0


sys.exit(main())
