#!/usr/bin/env python3
"""Forward layers of TensorRT-LLM on systems to which nothing is fitted, of aiconfigurator's tables.

    public_moe.py REPOSITORY SYSTEM > TABLES/SYSTEM/moe.tsv     SYSTEM: gb200, gb300 or b300_sxm
    public_moe.py REPOSITORY                                    counts of layers that ran untuned

REPOSITORY: a checkout of github.com/ai-dynamo/aiconfigurator (at 095f58a5). Needs pyarrow. Read are
rows of CUTLASS kernels in bf16 alone; written those of balanced tokens and all experts on one GPU,
of layers that were tuned: median of the collections. Kernel moe_torch_flow_cutlass is of whole
experts, moe_torch_flow_cutlass_tp of experts whose width 2 to 32 GPUs share.

The collector names a file of tuned tactics after hidden size, width and experts of one GPU, and
takes any file whose name begins so; TensorRT-LLM finds none in it but those of a layer's own K, TP
and EP (sim/LOG.md). So a layer may have run untuned if another one's name begins with its own.
"""
import statistics
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet

DATA = "aic-core/src/aiconfigurator_core/systems/data"
SYSTEMS = ("gb200", "gb300", "b300_sxm")
COLLECTIONS = ("1.3.0rc10", "1.3.0rc20")
KERNEL = "moe_torch_flow_cutlass"
KEY = ("hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")
SLOW = 1.25  # median over tokens of time / least time of the systems


def collected(repository, system, collection):
    """Of each layer and distribution: tokens to microseconds."""
    path = Path(repository) / DATA / system / "moe/trtllm" / collection / "moe_perf.parquet"
    rows = pyarrow.parquet.read_table(path, filters=[("kernel_source", "=", KERNEL),
                                                     ("moe_dtype", "=", "bfloat16")])
    series = {}
    for row in rows.to_pylist():
        at = (*(row[key] for key in KEY), row["distribution"])
        series.setdefault(at, {})[row["num_tokens"]] = 1e3 * row["latency"]
    return series


def name_of(layer):
    d, width, _, experts, tp, ep = layer[:6]
    return f"{d}_{width // tp}_{experts // ep}"


def shared(series):
    """Layers whose name another layer's begins with."""
    layers = {at[:6] for at in series}
    return {layer for layer in layers
            if any(other != layer and name_of(other).startswith(name_of(layer))
                   for other in layers)}


def write(repository, system):
    times = {}
    for collection in COLLECTIONS:
        series = collected(repository, system, collection)
        doubtful = shared(series)
        for at, by_tokens in series.items():
            d, width, top_k, experts, tp, ep, distribution = at
            if ep > 1 or distribution != "balanced" or at[:6] in doubtful:
                continue
            kernel = KERNEL + ("_tp" if tp > 1 else "")
            for tokens, us in by_tokens.items():
                times.setdefault((kernel, tokens, d, width // tp, top_k, experts), []).append(us)
    print("kernel\tT\td\tn\tK\tE\tmedian_us")
    for row, us in sorted(times.items()):
        print(*row, f"{statistics.median(us):.3f}", sep="\t")


def count(repository):
    print("collection\tsystem\tname shared\tslow\tlayers and distributions")
    for collection in COLLECTIONS:
        systems = {system: collected(repository, system, collection) for system in SYSTEMS}
        common = set.intersection(*map(set, systems.values()))
        for system, series in systems.items():
            doubtful, counts = shared(series), Counter()
            for at in common:
                ratios = [us / min(other[at][tokens] for other in systems.values())
                          for tokens, us in series[at].items()
                          if all(tokens in other[at] for other in systems.values())]
                counts[at[:6] in doubtful, statistics.median(ratios) > SLOW] += 1
            for (of_another, slow), layers in sorted(counts.items()):
                print(collection, system, of_another, slow, layers, sep="\t")


if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
if len(sys.argv) == 2:
    count(sys.argv[1])
else:
    write(*sys.argv[1:])
