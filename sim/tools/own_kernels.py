#!/usr/bin/env python3
"""Turns what tests/bench/peers measured of the project's own kernels into what the model reads.

    tables.py golden/timing/h100-sxm/kernels.json FOLDER

writes FOLDER/moeref.tsv (passes, for `moeref calibrate --from`) and FOLDER/moeref.json (kernels, in
the form of `moeref bench --output json`, for `moeref predict --against`). Microseconds.
"""
import json
import sys

from measured import PASSES, about, entry, pass_rows, write_table


def main(path, folder):
    measured = json.load(open(path))
    shapes = measured["shapes"].values()
    write_table(f"{folder}/moeref.tsv", PASSES,
                [row for s in shapes for row in pass_rows("moeref", s, s["ours"])])
    bench = [entry(s, "cuda", s["ours"]["kernels_us"], s["ours"]) for s in shapes]
    with open(f"{folder}/moeref.json", "w") as out:
        known = about(measured, "date", "gpu_and_driver", "command")
        json.dump({**known, "bench": bench}, out, indent=1)
        out.write("\n")


main(*sys.argv[1:3])
