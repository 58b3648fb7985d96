#!/usr/bin/env python3
"""Errors of the shipped GPU descriptions on measured tables: prints sim/ACCURACY.md.

    accuracy.py MOEREF TABLES [KEEP] > sim/ACCURACY.md

MOEREF: path of the program. TABLES: a folder of measured tables that are not part of this
repository, one folder for each GPU (h100, a100, b200), with gemm.tsv (m n k ... median_us) and
moe.tsv (kernel T d n K E ... median_us), h100/gemm_fp8.tsv by public_fp8.py, gb200/moe.tsv and
gb300/moe.tsv by public_moe.py, and transfers between GPUs in net/. sim/CALIBRATION.md says what
they are. Where a table of a public_ script is not there, its rows of the page that stands are kept,
and say so. KEEP: as of spreads.py.
"""
import datetime
import json
import sys
import tempfile
from pathlib import Path

import accuracy_nodes
import intervals
import left_out
from ask import ERRORS, moeref
from markdown_tables import table

GPUS = {"h100": "h100-sxm", "a100": "a100-sxm", "b200": "b200-sxm"}
METHODS = {"moe_torch_flow_cutlass": "cutlass_moe",
           "vllm_unquantizedfusedmoe_triton_tritonexperts": "triton_fused_moe",
           "sglang_fused_moe_triton": "sglang_fused_moe"}
# Terms that descriptions differ in, and how each is switched off, everything else as shipped.
TERMS = {"warps' own operands (`mma_warps=1`)": "mma_warps=1",
         "barriers (`sync_clocks=0`)": "sync_clocks=0",
         "refetch over partitions (`refetch=0`)": "refetch=0",
         "hidden epilogues (`epilogue_hidden=0`)": "epilogue_hidden=0",
         "multicast (`cluster=1`)": "cluster=1",
         "split-K (`splitk_us=1000`)": "splitk_us=1000",
         "imperfect overlap (`overlap_p=100`)": "overlap_p=100",
         "bandwidth ramp (`inflight_kib=1024`)": "inflight_kib=1024"}
ROOT = Path(__file__).parents[2]
NEAR, FAR = 1.05, 1.5  # times of a pair whose order counts
# Mean errors that are aimed at, of shapes that a fit had not seen.
AIMS = {("h100", "dense GEMM, >= 20 us"): "5", ("h100", "dense GEMM, >= 4 us"): "6.5",
        ("a100", "dense GEMM, >= 20 us"): "5.5", ("b200", "dense GEMM, >= 20 us"): "6, p90 14",
        ("h100", "`cutlass_moe`, T >= 1024"): "6", ("h100", "`cutlass_moe`, all T"): "7",
        ("h100", "`triton_fused_moe`, T >= 1024"): "12",
        ("h100", "`sglang_fused_moe`, T >= 1024"): "12",
        ("a100", "`sglang_fused_moe`, T >= 1024"): "8",
        ("a100", "`sglang_fused_moe`, all T"): "12",
        ("b200", "`cutlass_moe`, T >= 1024"): "8", ("b200", "`cutlass_moe`, all T"): "12"}


def judged(*args):
    """Class of rows to [rows, mean, median, p90, bias]."""
    return {found[0]: found[1:] for found in ERRORS.findall(moeref("calibrate", *args))}


def predicted(*args, kernel=""):
    """Rows of a table: what, and measured, predicted, low and high end of the interval, us."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.tsv"
        moeref("calibrate", *args, "--rows", str(path))
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return [[r[0], *(float(r[i]) for i in (2, 3, 5, 6))] for r in rows if r[1] == kernel]


def covered(rows, unseen):
    """Share of rows in the 80 % interval: as shipped, and where prediction and interval are made
    without their shape, `unseen`; rows of shapes that no fit has are in none."""
    shipped = 100 * sum(low <= us <= high for _, us, _, low, high in rows) / len(rows)
    without = intervals.covered(unseen) * len(unseen) / len(rows)
    return f"{shipped:.0f}, {without:.0f}"


def unseen_rows(tables, gpu, method):
    fit = next(fit for fit in left_out.FITS if fit[:2] == (gpu, method))
    return left_out.fitted(sys.argv[1], tables, fit, *sys.argv[3:])[1]


def line(gpu, what, values, inside=""):
    aim = next((aim for (name, of), aim in AIMS.items() if GPUS[name] == gpu and of == what), "")
    return (f"`{gpu}`", what, *values[:2], aim, *values[2:], inside)


def order(gpu, table):
    """Share of pairs of rows from 5 to 50 % apart that come out in the measured order."""
    rows = predicted("--from", table, "--gpu", gpu)
    rows = sorted((us, ours) for _, us, ours, *_ in rows if us >= 20)
    right = pairs = 0
    for i, (short, first) in enumerate(rows):
        for long, second in rows[i + 1:]:
            if long > FAR * short:
                break
            if long >= NEAR * short:
                pairs += 1
                right += second > first
    return pairs, 100 * right / pairs


def dense(tables, gpu, path):
    inside = covered(predicted("--from", path, "--gpu", gpu), unseen_rows(tables, gpu, "cublas"))
    rows = []
    for what, values in judged("--from", path, "--gpu", gpu).items():
        rows.append(line(gpu, f"dense GEMM, {what}", values, "" if rows else inside))
    return rows


def errors_of(rows):
    """[rows, mean, median, p90, bias] in percent, as calibrate prints them."""
    errors = [100 * (ours / us - 1) for _, us, ours, *_ in rows]
    sizes = sorted(map(abs, errors))
    return [len(rows), f"{sum(sizes) / len(sizes):.2f}", f"{sizes[len(sizes) // 2]:.2f}",
            f"{sizes[9 * len(sizes) // 10]:.1f}", f"{sum(errors) / len(errors):+.2f}"]


def without_elsewhere(gpu, method, rows, unseen):
    """Lines of errors without the layers that ran untuned."""
    shape = left_out.UNTUNED.get((gpu, method))
    if not shape:
        return []
    rest = [row for row in rows if shape.items() - intervals.words(row[0]).items()]
    large = [row for row in rest if int(intervals.words(row[0])["T"]) >= 1024]
    what = f"`{method}` without {' '.join('='.join(item) for item in shape.items())}"
    return [line(gpu, f"{what}, all T", errors_of(rest), covered(rest, unseen)),
            line(gpu, f"{what}, T >= 1024", errors_of(large))]


def layers(tables, gpu, path):
    kernels = {line.split("\t")[0] for line in Path(path).read_text().splitlines()[1:]}
    rows = []
    for kernel, method in METHODS.items():
        if kernel in kernels:
            args = "--from", path, "--gpu", gpu, "--kernel", kernel, "--method", method
            found, all_rows = judged(*args), predicted(*args, kernel=kernel)
            unseen = unseen_rows(tables, gpu, method)
            inside = covered(all_rows, unseen)
            rows.append(line(gpu, f"`{method}`, all T", found[">= 4 us"], inside))
            rows.append(line(gpu, f"`{method}`, T >= 1024", found["m or T >= 1024"]))
            rows += without_elsewhere(gpu, method, all_rows, unseen)
    return rows


# Where nothing was fitted: description, what, table (of the project, or of TABLES), options, aim.
UNSEEN = [("h200-sxm", "cuBLAS, bf16", "golden/timing/h200/gemm.tsv", (), "5"),
          ("h800-sxm", "DeepGEMM, fp8 in blocks", "golden/sim/deepgemm_fp8.tsv",
           ("--operands", "fp8"), ""),
          ("h100-sxm", "fp8 in blocks, three systems", "{tables}/h100/gemm_fp8.tsv",
           ("--operands", "fp8", "--converts"), "")]
CUT = {"": "whole experts", "_tp": "experts cut for 2 to 32 GPUs"}
UNSEEN += [(gpu, f"`cutlass_moe`, {gpu.upper()}, {of}", f"{{tables}}/{gpu}/moe.tsv",
            ("--kernel", left_out.CUTLASS + part, "--method", "cutlass_moe"), "")
           for gpu in ("gb200", "gb300") for part, of in CUT.items()]
# Classes of errors, of layers alone those that tell something.
OF_LAYERS = {">= 4 us": "all T", "m or T >= 1024": "T >= 1024"}


def kept(what):
    """Lines of the page that stands whose second column begins so."""
    page = (ROOT / "sim/ACCURACY.md").read_text().splitlines()
    lines = [line.strip("|").split("|") for line in page if line.startswith("|")]
    lines = [[cell.strip() for cell in line] for line in lines]
    mark = " (an earlier page's)"
    return [[line[0], line[1].removesuffix(mark) + mark, *line[2:]]
            for line in lines if line[1].startswith(what)]


def unseen(tables):
    rows = []
    for gpu, what, path, options, aim in UNSEEN:
        path = Path(path.format(tables=tables))
        path = path if path.is_absolute() else ROOT / path
        if not path.exists():
            rows += kept(what)
            continue
        for of, values in judged("--from", str(path), "--gpu", gpu, *options).items():
            said = OF_LAYERS.get(of) if "--kernel" in options else of
            if said:
                rows.append((f"`{gpu}`", f"{what}, {said}", *values[:2],
                             aim if of == ">= 20 us" else "", *values[2:]))
    return rows


def rates():
    """Of each GPU: types whose rate is held to measured products, with those, and the others."""
    rows = []
    for gpu in json.loads(moeref("list", "--output", "json"))["gpus"]:
        held = {}
        for rate in gpu["rates"]:
            held.setdefault(rate["held_to"], []).append(rate["type"])
        alone = ", ".join(held.pop(None, []))
        said = "; ".join(f"{', '.join(types)}: {text}" for text, types in held.items())
        rows.append((f"`{gpu['name']}`", said or "nothing", alone))
    return rows


def worth(tables):
    rows = []
    for what, edit in TERMS.items():
        cells = []
        for name, gpu in GPUS.items():
            found = judged("--from", f"{tables}/{name}/gemm.tsv", "--gpu", gpu, "--what-if", edit)
            cells.append(found[">= 20 us"][1])
        rows.append((what, *cells))
    return rows


# Layers of few tokens, and what their times are made of: {0} is the method.
FEW = 64
SMALL_TERMS = {"nothing": None, "bandwidth ramp (`inflight_kib=1024`)": "inflight_kib=1024",
               "launch, first loads and drain (`kernel_us=0.001`)": "kernel_us=0.001",
               "host and metadata (`METHOD.fixed_us=0`)": "{0}.fixed_us=0",
               "gaps (`METHOD.gap_us=0`)": "{0}.gap_us=0",
               "halves of lines (`METHOD.half_lines=0`)": "{0}.half_lines=0",
               "imperfect overlap (`overlap_p=100`)": "overlap_p=100"}


def few_tokens(gpu, path, kernel, edit):
    method = METHODS[kernel]
    args = ["--from", path, "--gpu", gpu, "--kernel", kernel, "--method", method]
    args += ["--what-if", edit.format(method)] if edit else []
    sizes = sorted(100 * abs(ours / us - 1)
                   for what, us, ours, *_ in predicted(*args, kernel=kernel)
                   if int(intervals.words(what)["T"]) <= FEW)
    return f"{sum(sizes) / len(sizes):.1f} ({sizes[9 * len(sizes) // 10]:.1f})"


def small(tables):
    systems = []
    for name, gpu in GPUS.items():
        path = f"{tables}/{name}/moe.tsv"
        kernels = {line.split("\t")[0] for line in Path(path).read_text().splitlines()[1:]}
        systems += [(gpu, path, kernel) for kernel in METHODS if kernel in kernels]
    header = ["without", *(f"`{METHODS[kernel]}`, {gpu}" for gpu, _, kernel in systems)]
    return table(header, [[what, *(few_tokens(*system, edit) for system in systems)]
                          for what, edit in SMALL_TERMS.items()])


def main(tables):
    errors, pairs = [], []
    for name, gpu in GPUS.items():
        gemm = f"{tables}/{name}/gemm.tsv"
        errors += dense(tables, gpu, gemm) + layers(tables, gpu, f"{tables}/{name}/moe.tsv")
        count, share = order(gpu, gemm)
        pairs.append((f"`{gpu}`", count, f"{share:.1f}"))
    plain = [judged("--from", f"{tables}/{name}/gemm.tsv", "--gpu", gpu)[">= 20 us"][1]
             for name, gpu in GPUS.items()]
    print("# Errors of the shipped descriptions\n")
    print(f"Made on {datetime.date.today()} by\n\n    sim/tools/accuracy.py MOEREF TABLES\n")
    print("from measured tables that are not part of this repository\n"
          "([CALIBRATION.md](CALIBRATION.md) says what they are). Of these rows four fifths\n"
          "and more were fitted: errors on shapes that a fit had not seen are in CALIBRATION.md.\n")
    print(table(("GPU", "what", "rows", "mean, %", "aim, %", "median, %", "p90, %", "bias, %",
                 "in the 80 % interval, %"), errors))
    print("Aims are those of shapes that a fit had not seen. Intervals: as shipped, and where\n"
          "prediction and interval are made without the row's shape, of which 75 to 88 are aimed\n"
          "at. Rows as shipped were fitted, so that more of them lie inside.\n")
    print("What the rate of each type is held to. The types of layers are held to nothing but\n"
          "bf16's.\n")
    print(table(("GPU", "measured", "the vendor's peak alone"), rates()))
    print("Products and layers of descriptions and types to which nothing was fitted. Times of\n"
          "fp8 in blocks hold the kernel that makes fp8 of A, and so do predictions\n"
          "(`--converts`), but for rows of an earlier page: those lack it, 3 to 28 % of the time\n"
          "at m >= 1024.\n")
    print(table(("GPU", "what", "rows", "mean, %", "aim, %", "median, %", "p90, %", "bias, %"),
                unseen(tables)))
    print("Order: pairs of dense GEMMs of 20 us and more whose times are 5 to 50 % apart.\n")
    print(table(("GPU", "pairs", "in the measured order, %", "aim, %"),
                [(*pair, "95") for pair in pairs]))
    print("Transfers between GPUs, sizes (NCCL, from 1 MiB) or shapes (DeepEP, T >= 1024; low "
          "latency:\nall) left out.\n")
    print(table(("node", "what", "rows", "mean, %", "median, %", "p90, %", "bias, %"),
                accuracy_nodes.transfers(tables)))
    print("Published times of several GPUs, each row left out.\n")
    print(table(("what", "rows", "as shipped, mean, %", "left out, mean, %", "worst, %"),
                accuracy_nodes.several_gpus()))
    print("What a term is worth: mean error of dense GEMMs of 20 us and more, in percent, with\n"
          "the term switched off and everything else as shipped.\n")
    print(table(("without", *(f"`{gpu}`" for gpu in GPUS.values())),
                [("nothing", *plain), *worth(tables)]))
    print(f"Layers of at most {FEW} tokens: mean error and, in brackets, p90, in percent, as\n"
          "shipped and with a term switched off.\n")
    print(small(tables), end="")


if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
main(sys.argv[2])
