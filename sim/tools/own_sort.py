#!/usr/bin/env python3
"""Turns what tests/bench/peers --alternate measured of the sort into what the model reads.

    own_sort.py golden/timing/h200/sonicmoe.json golden/timing/h200/sort.json

writes the form of `moeref bench --output json`, for `moeref predict --against`. Microseconds.
"""
import json
import sys

from measured import about


def main(path, to):
    with open(path) as file:
        measured = json.load(file)
    bench = []
    for shape in measured["shapes"].values():
        us = next(iter(shape["alternate"].values()))["ours sorting"]["us"]
        case = "T={} d={} n={} E={} K={}".format(*(shape[x] for x in "TdnEK"))
        bench.append({"case": case, "backend": "cuda",
                      "kernels": [{"name": "metadata", "measured_us": us}]})
    with open(to, "w") as out:
        known = about(measured, "date", "gpu_and_driver", "command")
        json.dump({**known, "bench": bench}, out, indent=1)
        out.write("\n")


main(*sys.argv[1:3])
