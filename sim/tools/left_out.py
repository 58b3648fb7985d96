"""Fits again what each method was fitted with, shapes left out in turn, of which only the errors on
those shapes are kept. Starts are a sixth off, so that no fit begins where all rows had led it."""
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DENSE = "tensor_eff hbm_eff inflight_kib overlap_p kernel_us tile_us epilogue_bw splitk_us throttle"
VLLM = "vllm_unquantizedfusedmoe_triton_tritonexperts"
CUTLASS, SGLANG = "moe_torch_flow_cutlass", "sglang_fused_moe_triton"
# Layers of a table that ran untuned, as the method does not: sim/LOG.md.
UNTUNED = {("b200-sxm", "cutlass_moe"): {"d": "5120", "n": "8192", "E": "16"}}
# GPU, method, what is fitted, table (of the project, or of TABLES), its rows, state.
FITS = [
    ("h100-sxm", "cublas", DENSE, "{tables}/h100/gemm.tsv", "", ""),
    ("h100-sxm", "cutlass_moe", "hbm stream fixed_us gap_us", "{tables}/h100/moe.tsv", CUTLASS, ""),
    ("h100-sxm", "triton_fused_moe", "hbm stream fixed_us gap_us tensor", "{tables}/h100/moe.tsv",
     VLLM, ""),
    ("h100-sxm", "sglang_fused_moe", "hbm fixed_us load half_lines", "{tables}/h100/moe.tsv",
     SGLANG, ""),
    ("h100-sxm", "sonicmoe", "tensor fixed_us", "golden/sim/sonicmoe_bars.tsv", "sonicmoe",
     "settled"),
    ("h100-sxm", "momoe", "tensor load fixed_us", "golden/sim/sonicmoe_figure.tsv", "momoe",
     "settled"),
    ("h100-sxm", "megablocks", "load fixed_us", "golden/sim/sonicmoe_figure.tsv", "megablocks",
     "settled"),
    ("h100-sxm", "deepgemm", "stream fixed_us", "golden/sim/sonicmoe_figure.tsv", "deepgemm",
     "settled"),
    ("h100-sxm", "grouped_mm", "stream", "golden/sim/peers.tsv", "grouped_mm", "settled"),
    ("h100-sxm", "scattermoe", "load stream fixed_us", "golden/sim/peers.tsv", "scattermoe",
     "settled"),
    ("h100-sxm", "moeref", "tensor stream gap_us", "golden/timing/h100-sxm/moeref.tsv", "moeref",
     "settled"),
    ("a100-sxm", "cublas", f"{DENSE} sync_clocks refetch", "{tables}/a100/gemm.tsv", "", ""),
    ("a100-sxm", "sglang_fused_moe", "hbm stream fixed_us gap_us load half_lines scattered",
     "{tables}/a100/moe.tsv", SGLANG, ""),
    ("b200-sxm", "cublas", f"{DENSE} epilogue_hidden", "{tables}/b200/gemm.tsv", "", ""),
    ("b200-sxm", "cutlass_moe", "hbm stream fixed_us gap_us", "{tables}/b200/moe.tsv", CUTLASS, ""),
]


def own_rows(gpu, method, path, folder):
    """The table without rows that ran untuned."""
    shape = UNTUNED.get((gpu, method))
    if not shape:
        return path
    lines = Path(path).read_text().splitlines(keepends=True)
    columns = [lines[0].rstrip("\n").split("\t").index(name) for name in shape]
    rest = [line for line in lines if [line.split("\t")[c] for c in columns] != [*shape.values()]]
    to = Path(folder) / "own.tsv"
    to.write_text("".join(rest))
    return str(to)


def fitted(moeref, tables, fit, keep=None):
    """The interval, and [what, measured us, predicted us] of shapes that were left out. `keep`: a
    folder that holds them from call to call."""
    kept = Path(keep) / f"{fit[0]}.{fit[1]}.json" if keep else None
    if kept and kept.exists():
        return json.loads(kept.read_text())
    found = fit_again(moeref, tables, fit)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return found


def fit_again(moeref, tables, fit):
    gpu, method, keys, path, kernel, clock = fit
    path = path.format(tables=tables)
    path = path if path.startswith("/") else str(ROOT / path)
    names = [key if method == "cublas" else f"{method}.{key}" for key in keys.split()]
    with tempfile.TemporaryDirectory() as folder:
        to, rows = Path(folder) / "gpu.json", Path(folder) / "rows.tsv"
        args = ["calibrate", "--gpu", gpu, "--method", method, "--free", ",".join(names),
                "--from", own_rows(gpu, method, path, folder), "--to", str(to), "--rows", str(rows),
                "--folds", "12" if kernel else "5", "--evaluations", "250" if kernel else "200"]
        args += ["--kernel", kernel] if kernel else []
        args += ["--clock", clock] if clock else []
        args += [word for name in names for word in ("--what-if", f"{name}/1.2")]
        subprocess.run([moeref, *args], check=True, stdout=subprocess.DEVNULL)
        table = [line.split("\t") for line in rows.read_text().splitlines()[1:]]
        return (json.loads(to.read_text())["spread"][method],
                [[r[0], float(r[2]), float(r[7])] for r in table if float(r[7]) > 0])
