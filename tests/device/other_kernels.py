#!/usr/bin/env python3
"""Products that cancel as other people's kernels make them, for moeref-explain: Triton's tl.dot
with 16 and 8 bits, ScatterMoE's two kernels, torch's products of 8 bits, DeepGEMM. What is not
installed is left out, and said.

other_kernels.py EXPLAIN OUT.safetensors [PART...], all parts where none is named (triton_dots,
scattermoe, torch_of_8_bits, deep_gemm). By hand, on a device with torch."""
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

EXPLAIN, OUT, *PARTS = sys.argv[1:]
SIZES = {"bf16": ["128x128x1024", "256x128x4096"], "fp16": ["128x128x1024"],
         "e4m3": ["128x128x1024", "256x128x4096"], "e5m2": ["128x128x1024"]}
FP8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
ROWS, COLUMNS = 8, 32  # the sample of product_data.h
record = {}


def products():
    names = [f"{f}_{size}" for f, sizes in SIZES.items() for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "factors.safetensors")
        subprocess.run([EXPLAIN, "draw", path, *names], check=True)
        t = {k: v.cuda() for k, v in load_file(path).items()}
    for name in names:
        fmt = name.split("_")[0]
        a, b = (t[f"{name}.{side}"] for side in ("left", "right"))
        if fmt in FP8:
            a, b = a.view(FP8[fmt]), b.view(FP8[fmt])
        yield name, fmt, a, b


def attempt(name, label, multiply):
    try:
        sums = multiply()
        torch.cuda.synchronize()
    except Exception as error:  # not for this type, size or build
        print(f"{name}/{label}: {type(error).__name__}: {str(error).strip()[:160]!r}", flush=True)
        return
    step = max(1, sums.shape[0] // ROWS)
    record[f"{name}/{label}"] = sums[::step, :COLUMNS].contiguous().cpu()
    print(f"{name}/{label}: done", flush=True)


def triton_dots():
    import triton
    import triton.language as tl
    globals().update(tl=tl)

    @triton.jit
    def product(a, b, out, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                IMPRECISE: tl.constexpr, ADD: tl.constexpr):
        i = tl.program_id(0) * BM + tl.arange(0, BM)
        j = tl.program_id(1) * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for first in range(0, K, BK):
            x = tl.load(a + i[:, None] * K + (first + k)[None, :])
            w = tl.load(b + j[None, :] * K + (first + k)[:, None])
            if ADD:
                acc += tl.dot(x, w, max_num_imprecise_acc=IMPRECISE)
            else:
                acc = tl.dot(x, w, acc, max_num_imprecise_acc=IMPRECISE)
        tl.store(out + i[:, None] * N + j[None, :], acc)

    def run(a, b, tile, imprecise, add, warps):
        M, N, K = a.shape[0], b.shape[0], a.shape[1]
        out = torch.empty(M, N, device="cuda")
        BM, BN, BK = tile
        product[(M // BM, N // BN)](a, b, out, N, K, BM, BN, BK, imprecise, add, num_warps=warps)
        return out

    for name, fmt, a, b in products():
        for tile in ((128, 128, 32), (128, 128, 128), (16, 16, 64)):
            for warps in (4,) if tile[0] == 128 else (1,):
                where = f"triton,tile{'.'.join(map(str, tile))}"
                for add in (True, False) if tile[2] == 32 else (False,):
                    attempt(name, f"{where},{'add' if add else 'acc'}",
                            lambda: run(a, b, tile, None, add, warps))
                if fmt in FP8:
                    for imprecise in (0, 32, 64, 128):
                        if imprecise <= tile[2]:
                            attempt(name, f"{where},acc,imprecise{imprecise}",
                                    lambda: run(a, b, tile, imprecise, False, warps))


def scattermoe():
    from scattermoe.kernels import ops
    for name, fmt, a, b in products():
        if fmt in FP8:
            continue
        rows = torch.arange(a.shape[0], device="cuda")
        expert = torch.zeros_like(rows)
        attempt(name, "scattermoe,scatter2scatter", lambda: ops.scatter2scatter(
            a, b.T.unsqueeze(0), expert, rows, 1))
        ends = torch.tensor([a.shape[1]], device="cuda")
        attempt(name, "scattermoe,group_bwd_W", lambda: ops.group_bwd_W(
            b.T.contiguous(), a.T.contiguous(), ends, 1)[0][0])


def torch_of_8_bits():
    for name, fmt, a, b in products():
        if fmt not in FP8:
            continue
        M, N, K = a.shape[0], b.shape[0], a.shape[1]
        one = torch.ones((), device="cuda")
        rows, columns = torch.ones(M, 1, device="cuda"), torch.ones(1, N, device="cuda")
        for fast in (True, False):
            for out in (torch.float32, torch.bfloat16):
                label = f"torch,{'fast' if fast else 'exact'},{str(out)[6:]}"
                attempt(name, f"scaled_mm,{label}", lambda: torch._scaled_mm(
                    a, b.T, one, one, out_dtype=out, use_fast_accum=fast))
                attempt(name, f"scaled_mm_rows,{label}", lambda: torch._scaled_mm(
                    a, b.T, rows, columns, out_dtype=out, use_fast_accum=fast))
            ends = torch.tensor([M], device="cuda", dtype=torch.int32)
            attempt(name, f"scaled_grouped_mm,torch,{'fast' if fast else 'exact'}",
                    lambda: torch._scaled_grouped_mm(a, b.unsqueeze(0).transpose(1, 2),
                                                     rows.flatten(), columns, offs=ends,
                                                     out_dtype=torch.bfloat16,
                                                     use_fast_accum=fast))
        by_128 = torch.ones(K // 128, M, device="cuda").T
        blocks = torch.ones(N // 128, K // 128, device="cuda")
        for out in (torch.float32, torch.bfloat16):
            attempt(name, f"scaled_mm_blocks,torch,{str(out)[6:]}", lambda: torch._scaled_mm(
                a, b.T, by_128, blocks.T, out_dtype=out))


def deep_gemm():
    import deep_gemm as dg
    for name, fmt, a, b in products():
        if fmt == "e5m2" or fmt == "fp16":
            continue
        M, N, K = a.shape[0], b.shape[0], a.shape[1]
        half = torch.empty(M, N, device="cuda", dtype=torch.bfloat16)
        wide = torch.zeros(M, N, device="cuda")
        if fmt == "bf16":
            attempt(name, "deep_gemm,bf16", lambda: (dg.bf16_gemm_nt(a, b, half), half)[1])
            continue
        rows, blocks = torch.ones(M, K // 128, device="cuda"), torch.ones(
            N // 128, K // 128, device="cuda")
        each = torch.ones(N, K // 128, device="cuda")
        layout = torch.zeros(M, device="cuda", dtype=torch.int32)
        attempt(name, "deep_gemm,fp8_1d2d", lambda: (
            dg.fp8_gemm_nt((a, rows), (b, blocks), half), half)[1])
        attempt(name, "deep_gemm,m_grouped", lambda: (
            dg.m_grouped_fp8_gemm_nt_contiguous((a, rows), (b.unsqueeze(0), blocks.unsqueeze(0)),
                                                half, layout), half)[1])
        attempt(name, "deep_gemm,fp8_1d1d", lambda: (
            dg.fp8_gemm_nt((a, rows), (b, each), wide, c=wide, recipe=(1, 1, 128)), wide)[1])


def main():
    print("torch", torch.__version__, torch.cuda.get_device_name(), flush=True)
    for part in (triton_dots, scattermoe, torch_of_8_bits, deep_gemm):
        if PARTS and part.__name__ not in PARTS:
            continue
        try:
            part()
        except Exception as error:  # not there
            why = error.__cause__ or error.__context__ or error
            print(f"{part.__name__} left out: {type(error).__name__}: {str(why)[:300]}")
        save_file(record, OUT)
    return 0


sys.exit(main())
