#!/usr/bin/env python3
"""Turns what tests/bench/peers measured of the project's own kernels into what the model reads.

    tables.py golden/timing/h100-sxm/peers.json FOLDER

writes FOLDER/moeref.tsv (passes, for `moeref calibrate --from`) and FOLDER/moeref.json (kernels, in the
form of `moeref bench --output json`, for `moeref predict --against`). Microseconds.
"""
import json
import sys


def main(path, folder):
    measured = json.load(open(path))
    rows = [("kernel", "T", "d", "n", "K", "E", "pass", "route", "median_us")]
    bench = []
    for shape in measured["shapes"].values():
        ours = shape["ours"]
        sizes = [shape[x] for x in "TdnKE"]
        for passes in ("fwd", "bwd"):
            rows.append(("moeref", *sizes, passes, "uniform", f"{ours[passes + '_us']:.1f}"))
        case = "T={} d={} n={} E={} K={} route=uniform".format(*(shape[x] for x in "TdnEK"))
        passes = [("forward", ours["fwd_us"]), ("backward", ours["bwd_us"])]
        bench.append({"case": case, "backend": "cuda",
                      "kernels": [{"name": k, "measured_us": round(us, 1)}
                                  for k, us in ours["kernels_us"].items()],
                      "passes": [{"name": k, "measured_us": round(us, 1)} for k, us in passes]})
    with open(f"{folder}/moeref.tsv", "w") as out:
        for row in rows:
            out.write("\t".join(str(x) for x in row) + "\n")
    with open(f"{folder}/moeref.json", "w") as out:
        about = {x: measured[x] for x in ("date", "gpu_and_driver", "command")}
        json.dump({"moeref": 1, **about, "bench": bench}, out, indent=1)
        out.write("\n")


main(*sys.argv[1:3])
