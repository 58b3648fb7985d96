#!/usr/bin/env python3
"""The intervals of the shipped descriptions, of errors on shapes that no fit had seen.

    spreads.py MOEREF TABLES [KEEP]

After a change of the model or of a description's numbers, build, run this, build again: the program
has the descriptions in it. Then accuracy.py says what the intervals hold. Ten minutes; KEEP is a
folder where errors wait for accuracy.py, which need not fit them again then. TABLES as
in accuracy.py. Writes sim/gpus/*-sxm.json, h100-pcie.json and gb*.json.
"""
import json
import subprocess
import sys

import left_out

GPUS = left_out.ROOT / "sim/gpus"
SAME_CHIP = {"h100-sxm": ("h100-pcie", "h200-sxm", "h800-sxm"), "b200-sxm": ("gb200", "gb300")}
# Tables to which nothing was fitted, and what of them: where one is there, errors as shipped.
LAYERS = "--method", "cutlass_moe", "--kernel", left_out.CUTLASS
UNSEEN = {"h200-sxm": ("golden/timing/h200/gemm.tsv", "golden/timing/h200/gemm.tsv"),
          "gb200": ("{tables}/gb200/moe.tsv", "aiconfigurator's MoE table", *LAYERS),
          "gb300": ("{tables}/gb300/moe.tsv", "aiconfigurator's MoE table", *LAYERS)}


def source(path):
    if not path.startswith("{tables}"):
        return path
    name = "gemm" if path.endswith("gemm.tsv") else "MoE"
    whose = "aiconfigurator" if "/h100/" in path else "half of aiconfigurator's"
    return f"{whose} {name} table"


def unseen(spread):
    """Entries of a description that its own rows made, kept where their table is not there."""
    return {method: entry for method, entry in spread.items()
            if entry["source"].startswith("errors as shipped")}


def change(gpu, spread):
    path = GPUS / f"{gpu}.json"
    description = json.loads(path.read_text())
    description["spread"] = spread(description)
    path.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def main(moeref, tables, keep=None):
    made = {}
    for fit in left_out.FITS:
        gpu, method, _, path, *_ = fit
        entry, _ = left_out.fitted(moeref, tables, fit, keep)
        entry["source"] = f"shapes left out, {source(path)}"
        made.setdefault(gpu, {})[method] = entry
        print(gpu, method, entry.get("small"), entry.get("large"), flush=True)
    for gpu, entries in made.items():
        change(gpu, lambda d, entries=entries: {**d["spread"], **entries})
        assumed = {method: {**entry, "source": f"assumed: as {gpu}, the same chip"}
                   for method, entry in entries.items()}
        for name in SAME_CHIP.get(gpu, ()):
            change(name, lambda d, assumed=assumed: {**assumed, **unseen(d["spread"])})
    for gpu, (table, what, *options) in UNSEEN.items():
        path, table = str(GPUS / f"{gpu}.json"), left_out.ROOT / table.format(tables=tables)
        if table.exists():
            subprocess.run([moeref, "calibrate", "--gpu", path, "--to", path, "--from", str(table),
                            "--source", f"errors as shipped, {what}", *options], check=True)


if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
main(*sys.argv[1:])
