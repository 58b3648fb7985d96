"""Draws what `learning` printed: held-out loss over steps, a line for each seed and router."""
import csv
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "moeref"})  # text as text
from matplotlib import pyplot  # noqa: E402  (after the choice of a backend)

COLOURS = {"topk": "tab:blue", "rounding": "tab:orange"}


def main(path, image):
    pyplot.figure(figsize=(5, 3))
    curves = {}
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curves.setdefault((row["router"], row["seed"]), []).append(
                (int(row["step"]), float(row["loss"])))
    for (router, seed), points in curves.items():
        pyplot.plot(*zip(*points), color=COLOURS[router], marker=".",
                    label=router if seed == "1" else None)
    pyplot.xlabel("step")
    pyplot.ylabel("held-out loss with top-K, nats a character")
    pyplot.legend()
    pyplot.savefig(image, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    main(*sys.argv[1:])
