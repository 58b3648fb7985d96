#!/usr/bin/env python3
"""Turns JSON files of batched cuBLAS timings into tables for `moeref calibrate --from`.

    peers_tables.py peers.json bmm_settled.json OUT_FOLDER

peers.json: {NAME: {T, d, n, E, K, bmm_up, bmm_down, bmm_da, bmm_dw2, bmm_dx, bmm_dw1}},
milliseconds, P/E rows for each expert. bmm_settled.json: {NAME: {up: [ms, ...], down: ...}} for the
same batched GEMMs in the settled clock state; shapes that peers.json lacks are taken from SHAPES.
"""
import json
import sys

from measured import write_table

SHAPES = {  # T, d, n, E, K
    "1.4b-n256": (40960, 768, 256, 128, 8), "1.4b-n512": (40960, 768, 512, 64, 4),
    "1.4b-n1024": (40960, 768, 1024, 32, 2), "7b-n512": (24576, 1536, 512, 64, 4),
    "30b-n512": (32768, 4096, 512, 128, 8), "120b-n512": (32768, 4096, 512, 256, 16),
    "120b-n2048": (32768, 4096, 2048, 64, 4),
}


def gemms(shape):
    """The six batched GEMMs (m, n, k) with T*K/E rows for each of E experts."""
    tokens, d, n, experts, top_k = shape
    rows = tokens * top_k // experts
    return {"up": (rows, 2 * n, d), "down": (rows, d, n), "da": (rows, n, d),
            "dw2": (d, n, rows), "dx": (rows, d, 2 * n), "dw1": (2 * n, d, rows)}


def gemm_rows(shapes, milliseconds):
    return [(*mnk, shape[3], f"{milliseconds(name, stage) * 1e3:.3f}")
            for name, shape in shapes.items() for stage, mnk in gemms(shape).items()]


def main(peers_path, settled_path, folder):
    peers = {k: v for k, v in json.load(open(peers_path)).items() if isinstance(v, dict)}
    settled = json.load(open(settled_path))
    shapes = {k: tuple(v[x] for x in "TdnEK") for k, v in peers.items()}
    gemm_header = ("m", "n", "k", "batch", "median_us")
    write_table(f"{folder}/bmm.tsv", gemm_header,
                gemm_rows(shapes, lambda name, stage: peers[name]["bmm_" + stage]))
    known = {k: s for k, s in {**SHAPES, **shapes}.items() if k in settled}
    write_table(f"{folder}/bmm_settled.tsv", gemm_header,
                gemm_rows(known, lambda name, stage: settled[name][stage][0]))


main(*sys.argv[1:4])
