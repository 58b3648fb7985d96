#!/usr/bin/env python3
"""Dense products in blocks of fp8 on an H100, of aiconfigurator's tables, for `calibrate`.

    public_fp8.py REPOSITORY > TABLES/h100/gemm_fp8.tsv

REPOSITORY: a checkout of github.com/ai-dynamo/aiconfigurator (at 095f58a5). Needs pyarrow. A row is
kept where three systems' collections agree within a tenth: their median. Nothing but rows of
fp8_block is read.
"""
import statistics
import sys
from pathlib import Path

import pyarrow.parquet

DATA = "aic-core/src/aiconfigurator_core/systems/data/h100_sxm/gemm"
COLLECTIONS = ("trtllm/1.3.0rc20", "sglang/0.5.14", "vllm/0.24.0")
AGREE = 1.1


def main(repository):
    times = {}
    for collection in COLLECTIONS:
        path = Path(repository) / DATA / collection / "gemm_perf.parquet"
        rows = pyarrow.parquet.read_table(path, columns=["m", "n", "k", "latency"],
                                          filters=[("gemm_dtype", "=", "fp8_block")])
        for row in rows.to_pylist():
            times.setdefault((row["m"], row["n"], row["k"]), []).append(1e3 * row["latency"])
    print("m\tn\tk\tmedian_us")
    for size, us in sorted(times.items()):
        if len(us) == len(COLLECTIONS) and max(us) < AGREE * min(us):
            print(*size, f"{statistics.median(us):.3f}", sep="\t")


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
