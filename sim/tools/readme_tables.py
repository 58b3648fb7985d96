#!/usr/bin/env python3
"""Tables of figures in the Markdown files: made from golden/ and from the model, never typed.

    readme_tables.py MOEREF             prints every table; MOEREF: path of the program
    readme_tables.py MOEREF --write     puts them where the Markdown files mark a place
    readme_tables.py MOEREF --check     fails where a Markdown file says something else

A place is <!-- table: NAME --> ... <!-- end -->. What stands on the same line as its marks is a
phrase, all else a block. Ratios compare times of one run; averages of ratios are geometric.
"""
import functools
import json
import math
import re
import sys
from pathlib import Path

import model_tables
from markdown_tables import mean, table

ROOT = Path(__file__).resolve().parents[2]
TIMING = ROOT / "golden/timing"
FILES = ("README.md", "backends/cuda/README.md", "golden/timing/README.md", "sim/README.md",
         "sim/CALIBRATION.md")
PLACE = re.compile(r"(<!-- table: (\w+) -->)(.*?)(<!-- end -->)", re.S)
PASSES = ("fwd", "bwd")
NAMES = {"olmoe": "OLMoE", "qwen3-235b": "Qwen3-235B", "qwen3-next": "Qwen3-Next",
         "dsv3": "DeepSeek-V3"}
# Who is compared with the project's kernels, and the runs that timed both, best first. A star for
# each run further down; what has two stars counts in no mean.
RUNS = {"bmm": ("kernels",), "grouped_mm": ("kernels", None, "peers"), "scattermoe": ("kernels",)}
# Runs whose passes took turns in one queue: kernels against kernels.
TURNS = (("sonicmoe", "SonicMoE", "sonicmoe"), ("grouped_mm", "grouped_mm", "alternate"))


@functools.cache
def shapes(run, gpu="h100-sxm"):
    return json.loads((TIMING / gpu / f"{run}.json").read_text())["shapes"]


def speed_up(peer, name):
    """Times of a peer over the project's in the best run that has both; its stars."""
    for stars, run in enumerate(RUNS[peer]):
        shape = shapes(run).get(name, {}) if run else {}
        if "fwd_us" in shape.get(peer, {}):
            return [shape[peer][p + "_us"] / shape["ours"][p + "_us"] for p in PASSES], stars
    return None, 0


def of_bound(name):
    """Share of the dense cuBLAS bound, by TFLOP/s: 1 would be as fast."""
    shape = shapes("kernels")[name]
    return [shape["ours"][p + "_tflops"] / shape["bmm"][p + "_tflops"] for p in PASSES]


def ratios(peer, but_stars=2):
    every = [(name, *speed_up(peer, name)) for name in shapes("kernels")]
    return {name: both for name, both, stars in every if both and stars < but_stars}


def in_turns(peer, run):
    """{shape: the peer's kernels over the project's, forward and backward}."""
    return {name: [shape["alternate"][peer][f"peer/ours {p}"] for p in PASSES]
            for name, shape in shapes(run, "h200").items()}


def means(rows):
    return [mean(values) for values in zip(*rows)]


def both(values, form="{:.2f}"):
    return "/".join(form.format(v) for v in values)


def speed_row(name, shape):
    cells = [NAMES.get(name, name), ",".join(str(shape[x]) for x in "TdnEK")]
    cells.append(both((shape["ours"][p + "_tflops"] for p in PASSES), "{:.0f}"))
    cells.append(both(of_bound(name)))
    for peer in ("grouped_mm", "scattermoe"):
        found, stars = speed_up(peer, name)
        cells.append(both(found) + "*" * stars if found else "failed")
    return cells


def speed():
    """Every shape: TFLOP/s forward/backward, and the project's speed over that of others."""
    run = shapes("kernels")
    peers = [ratios(peer) for peer in ("grouped_mm", "scattermoe")]
    bound = [of_bound(name) for name in run]
    rows = [speed_row(name, shape) for name, shape in run.items()]
    over = [both(means(values)) for values in (bound, *(p.values() for p in peers))]
    rows.append(["**mean**", "", "", *over])
    rows.append(["shapes in it", "", "", len(bound), *map(len, peers)])
    header = ("shape", "T,d,n,E,K", "ours", "/bmm", "/grouped_mm", "/ScatterMoE")
    return table(header, rows)


def ranged(who, values):
    ranges = [f"{min(v):.2f} to {max(v):.2f}" for v in zip(*values)]
    m = means(values)
    return (who, len(values), f"{m[0]:.2f}", ranges[0], f"{m[1]:.2f}", ranges[1])


def speed_means():
    """The means of `speed` alone, and of `turns`."""
    rows = [ranged("cuBLAS, the six products alone", [of_bound(n) for n in shapes("kernels")])]
    for peer, who in (("grouped_mm", "`torch.nn.functional.grouped_mm`"),
                      ("scattermoe", "ScatterMoE")):
        rows.append(ranged(who, list(ratios(peer).values())))
    peer, who, run = TURNS[0]
    rows.append(ranged(f"{who}, kernels alone, on an H200", list(in_turns(peer, run).values())))
    return table(("times as fast as", "shapes", "forward", "range", "backward", "range"), rows)


def turns():
    """Every shape whose passes took turns with another's: our kernels' time, theirs over it."""
    rows = []
    found = [in_turns(peer, run) for peer, _, run in TURNS]
    for name in dict.fromkeys(name for peer in found for name in peer):
        peer, run = next((p, r) for (p, _, r), f in zip(TURNS, found) if name in f)
        shape = shapes(run, "h200")[name]
        ours = [shape["alternate"][peer][f"ours {p}"]["us"] for p in PASSES]
        rows.append([NAMES.get(name, name), ",".join(str(shape[x]) for x in "TdnEK"),
                     both(ours, "{:.0f}"), *(both(f[name]) if name in f else "" for f in found)])
    rows.append(["**mean**", "", "", *(both(means(f.values())) for f in found)])
    header = ("shape", "T,d,n,E,K", "ours, us", *(f"/{who}" for _, who, _ in TURNS))
    return table(header, rows)


def predicted_ranks(method):
    """{(case without its pass, pass): us} of golden/sim/two_gpus.tsv."""
    rows = (line.rstrip("\n").split("\t") for line in open(ROOT / "golden/sim/two_gpus.tsv")
            if not line.startswith("#"))
    return {(r[6].split(" route")[0], r[1]): float(r[3]) for r in rows if r[0] == method}


def two_gpus():
    """A layer over two GPUs: measured in each way, beside one GPU with as many pairs as one of them
    has, torch's exchange around the same kernels, and what had been predicted. T is a rank's."""
    run = json.loads((TIMING / "h200/two_gpus.json").read_text())
    sizes = {x["case"]: (x["forward"], x["both"] - x["forward"]) for x in run["torch"]}
    rows, alone = [], {}
    for x in run["layers"]:
        T, d, n, E, K = (int(w.split("=")[1]) for w in x["case"].split()[:5])
        if x["backend"] == "cuda":
            alone[d] = (f"T={T} d={d} n={n} E={E} K={K}", "one GPU, `cuda`", f"{x['fwd']:.0f}",
                        f"{x['bwd']:.0f}")
    for case in dict.fromkeys(x["case"] for x in run["layers"] if x["backend"] != "cuda"):
        T, d, n, E, K = (int(w.split("=")[1]) for w in case.split()[:5])
        of_rank = f"T={T // 2} d={d} n={n} E={E} K={K}"
        rows.append(alone[d])
        for x in (x for x in run["layers"] if x["case"] == case):
            rows.append((of_rank, f"`{x['backend']}`", f"{x['fwd']:.0f}", f"{x['bwd']:.0f}"))
        rows.append((of_rank, "torch's all_to_all_single around the same kernels",
                     *(f"{us:.0f}" for us in sizes[f"{T // 2},{d},{n},{E},{K}"])))
        for method in ("moeref_ep", "ep_serial"):
            known = predicted_ranks(method)
            rows.append((of_rank, f"predicted, `{method}`",
                         *(f"{known[of_rank, p]:.0f}" for p in PASSES)))
    return table(("layer, T of each rank", "how", "forward, us", "backward, us"), rows)


def links():
    """Rates of rows over NVLink beside plain copies of as many bytes, both ways at once, GB/s."""
    run = json.loads((TIMING / "h200/two_gpus.json").read_text())
    plain = {y["mib"]: y["gbps"] for y in run["rates"] if y["ways"] == 2 and y["by"] == "engine"}
    rows = []
    for x in (x for x in run["layers"] if x["backend"].endswith("+links")):
        for what, mb in (("X there", "there_mb"), ("dO there", "there_mb"),
                         ("dX~ home", "home_mb")):
            near = min(plain, key=lambda mib: abs(math.log(mib / x[mb])))
            rate = x[what + " rate"]
            rows.append((x["case"].split()[1], what, f"{x[mb]:.0f}", f"{rate:.0f}",
                         f"{rate / plain[near]:.2f}"))
    return table(("layer", "rows", "MB each way", "GB/s", "of cudaMemcpy"), rows)


def speed_phrase():
    """The same in a sentence, of the shapes that every peer ran."""
    common = [name for name in shapes("kernels") if name in ratios("scattermoe")]
    bound = means([of_bound(name) for name in common])
    grouped, scatter = (means([ratios(peer)[name] for name in common])
                        for peer in ("grouped_mm", "scattermoe"))
    peer, _, run = TURNS[0]
    sonic = in_turns(peer, run).values()
    least, mid = min(map(min, sonic)), means(sonic)
    return (f"{len(common)} layer shapes, means, forward and backward: "
            f"{bound[0]:.2f} and {bound[1]:.2f} of the dense cuBLAS bound; "
            f"{grouped[0]:.2f} and {grouped[1]:.2f} times `torch.nn.functional.grouped_mm`; "
            f"{scatter[0]:.2f} and {scatter[1]:.2f} times ScatterMoE. Kernels alone, in turns, "
            f"{len(sonic)} shapes on an H200: {mid[0]:.2f} and {mid[1]:.2f} times SonicMoE, "
            f"at least {least:.2f}")


TABLES = {"speed": speed, "turns": turns, "two_gpus": two_gpus, "links": links,
          "speed_means": speed_means, "speed_phrase": speed_phrase, "against": model_tables.against,
          "router": model_tables.router, "accuracy": model_tables.accuracy}


def filled(match):
    start, name, old, end = match.groups()
    made = TABLES[name]()
    return start + (made if "\n" not in old else f"\n{made}") + end


def main(mode=None):
    if mode is None:
        print("\n".join(f"{name}\n\n{made()}" for name, made in TABLES.items()))
        return 0
    stale, placed = 0, set()
    for name in FILES:
        path = ROOT / name
        old = path.read_text()
        placed.update(match[1] for match in PLACE.findall(old))
        new = PLACE.sub(filled, old)
        if new == old:
            continue
        stale += 1
        if mode == "--write":
            path.write_text(new)
        print(f"{name}: {'written' if mode == '--write' else 'says other figures'}")
    if placed != set(TABLES):
        sys.exit(f"tables without a place: {', '.join(set(TABLES) - placed)}")
    return mode == "--check" and stale > 0


sys.exit(main(*sys.argv[2:3]))
