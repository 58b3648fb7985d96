"""Tables of the model's errors on measured times of golden/, for readme_tables.py; sys.argv[1] is
the path of the program."""
import json
import re
import subprocess
import sys
from pathlib import Path

from markdown_tables import mean, table

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ("A", "Y", "O", "dH", "dS", "dW2", "dXp", "dW1", "dX")


def moeref(*args):
    return subprocess.run([Path(sys.argv[1]).resolve(), *args], check=True, text=True, cwd=ROOT,
                          stdout=subprocess.PIPE).stdout


def error(r):
    return 100 * (r["predicted_us"] / r["measured_us"] - 1)


def kernel_row(name, rows):
    errors = [error(r) for r in rows]
    over_floor = mean([r["measured_us"] / r["floor_us"] for r in rows])
    return ("dX~" if name == "dXp" else name, len(rows),
            f"{sum(map(abs, errors)) / len(errors):.1f}", f"{sum(errors) / len(errors):+.1f}",
            f"{min(errors):+.0f} to {max(errors):+.0f}", f"{over_floor:.2f}")


def beside(path):
    """Kernels by name, in the order of the cases: measured beside predicted."""
    lines = moeref("predict", "--against", path, "--gpu", "h100-sxm", "--clock", "settled",
                   "--stream", "--output", "json").splitlines()
    found = {}
    for line in map(json.loads, lines):
        found.setdefault(line["name"], []).append(line)
    return found


def against():
    """Errors of the model on the project's own kernels; these over their floors."""
    found = beside(OWN)
    rows = [kernel_row(name, found[name]) for name in KERNELS]
    every = [r for name in KERNELS for r in found[name]]
    rows.append((*kernel_row("**all**", every)[:-1], ""))
    header = ("kernel", "rows", "mean error, %", "bias, %", "range, %", "measured / floor")
    return table(header, rows)


OWN = "golden/timing/h100-sxm/moeref.json"
ROUTED = "golden/timing/h100-sxm/bench.json"
FIGURE = "golden/sim/sonicmoe_figure.tsv"
PEERS = "golden/sim/peers.tsv"
STAGES = ("router", "topk", "router_backward", "dX")


def router():
    """Errors on the router's stages, and on dX that starts from its part, in percent."""
    found = beside(ROUTED)
    names = [" ".join(r["case"].split()[1:5]) for r in found["router"]]
    return table(("stage", *names), [(s, *(f"{error(r):+.1f}" for r in found[s])) for s in STAGES])


STATED = (  # who, what, file, options
    ("cublas", "fp8 GEMMs, H800, nothing fitted", "golden/sim/deepgemm_fp8.tsv",
     "--gpu h800-sxm --operands fp8"),
    ("cublas", "passes, 17 shapes", PEERS, "--kernel cublas --clock settled"),
    ("moeref", "kernels, 17 shapes", OWN, "--clock settled --stream"),
    ("moeref", "passes, 17 shapes", "golden/timing/h100-sxm/moeref.tsv", "--clock settled"),
    ("moeref", "kernels with router, 3 shapes", ROUTED, "--clock settled --stream"),
    ("grouped_mm", "kernels, 17 shapes", "golden/sim/grouped_mm.json", ""),
    ("grouped_mm", "passes, 17 shapes", PEERS, "--kernel grouped_mm --clock settled"),
    ("scattermoe", "kernels, 16 shapes", "golden/sim/scattermoe.json", ""),
    ("scattermoe", "passes, 16 shapes", PEERS, "--kernel scattermoe --clock settled"),
    ("scattermoe", "bars, no host time", FIGURE,
     "--kernel scattermoe --clock settled --what-if scattermoe.fixed_us=0"),
    ("sonicmoe", "passes, 4 shapes", "golden/sim/sonicmoe_measured.tsv", "--clock settled"),
    ("sonicmoe", "bars, 12 shapes", "golden/sim/sonicmoe_bars.tsv", "--clock settled"),
    ("momoe", "bars, 12 shapes", FIGURE, "--kernel momoe --clock settled"),
    ("megablocks", "bars, 10 shapes", FIGURE, "--kernel megablocks --clock settled"),
    ("deepgemm", "bars, 12 shapes", FIGURE, "--kernel deepgemm --clock settled"),
)
SHIPPED = re.compile(r"(\d+) rows +mean +([\d.]+) % +median +([\d.]+) % +p90 +([\d.]+) % "
                     r"+bias +([-+\d.]+) %")


def accuracy():
    """Errors of the shipped H100 description on every table of golden/."""
    rows = []
    for method, what, path, options in STATED:
        out = moeref("calibrate", "--from", path, "--method", method, *options.split())
        count, *errors, bias = SHIPPED.search(out).groups()
        rows.append((f"`{method}`", what, count, *(f"{float(x):.1f}" for x in errors),
                     f"{float(bias):+.1f}", f"`{Path(path).name}`"))
    return table(("method", "what", "rows", "mean, %", "median, %", "p90, %", "bias, %", "table"),
                 rows)
