#!/usr/bin/env python3
"""The project's passes on an H200 beside what a description predicts: prints a line a pass.

    h200_passes.py MOEREF GPU.json

Measured: golden/timing/h200/sonicmoe.json, kernels' sums without the sort. A shape for which the
board drew less than 650 of its 700 W was not slowed by its power limit: it is predicted at the
clock of a cool device (burst), the others at the settled one.
"""
import json
import subprocess
import sys
from pathlib import Path

LIMITED_W = 650
TIMES = Path(__file__).parents[2] / "golden/timing/h200/sonicmoe.json"


def predicted(shape, which, clock):
    words = " ".join(f"{key}={shape[key]}" for key in ("T", "d", "n", "E", "K"))
    out = subprocess.run([sys.argv[1], "predict", "--gpu", sys.argv[2], "--method", "moeref",
                          "--case", f"{words} route=uniform pass={which}", "--clock", clock,
                          "--stream", "--output", "json"],
                         check=True, text=True, stdout=subprocess.PIPE).stdout
    return sum(k["us"] for k in json.loads(out)["kernels"] if k["name"] != "metadata")


def errors():
    for name, shape in json.loads(TIMES.read_text())["shapes"].items():
        seen = shape["alternate"]["sonicmoe"]
        clock = "settled" if seen["power_w"] > LIMITED_W else "burst"
        for which in ("fwd", "bwd"):
            error = predicted(shape, which, clock) / seen[f"ours {which}"]["us"] - 1
            yield name, which, clock, 100 * error


def main():
    found = list(errors())
    for name, which, clock, error in found:
        print(f"{name:12s} {which} {clock:8s} {error:+5.1f} %")
    sizes = [abs(error) for *_, error in found]
    print(f"mean {sum(sizes) / len(sizes):.1f} %, worst {max(sizes):.1f} %")


if len(sys.argv) != 3:
    sys.exit(__doc__)
main()
