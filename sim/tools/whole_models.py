#!/usr/bin/env python3
"""Published speeds of whole models beside predicted ones: prints a Markdown table.

    whole_models.py MOEREF CONFIG

CONFIG: the config.json of Qwen3-30B-A3B. Figures: Qwen's "Speed Benchmark" (qwen.readthedocs.io,
2025), SGLang 0.4.6 on one H20: prompt and 2048 tokens generated over the time of both, batch 1.
"""
import json
import subprocess
import sys

PUBLISHED = {"bf16": {1: 137.18, 6144: 490.10, 14336: 849.62, 30720: 1283.94, 63488: 1538.79},
             "fp8": {1: 155.55, 6144: 551.34, 14336: 945.13, 30720: 1405.91, 63488: 1647.89}}
GENERATED = 2048


def model_us(operands, *options):
    out = subprocess.run([sys.argv[1], "predict", "--config", sys.argv[2], "--dtype", "bf16",
                          "--operands", operands, "--layers", "all", "--pass", "fwd", "--gpu",
                          "h20", "--method", "sglang_fused_moe", "--output", "json", *options],
                         check=True, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])["model_us"]


def predicted(operands, prompt):
    """A prompt, then tokens one by one, taken at their mean context."""
    us = GENERATED * model_us(operands, "--tokens", "1", "--context", str(prompt + GENERATED // 2))
    if prompt > 1:
        us += model_us(operands, "--tokens", str(prompt))
    return (prompt + GENERATED) / us * 1e6


def main():
    print("| operands | prompt | published, tokens/s | predicted | error |\n|---|---|---|---|---|")
    for operands, row in PUBLISHED.items():
        for prompt, speed in row.items():
            ours = predicted(operands, prompt)
            print(f"| {operands} | {prompt} | {speed:.0f} | {ours:.0f} | "
                  f"{100 * (ours / speed - 1):+.0f} % |")


if len(sys.argv) != 3:
    sys.exit(__doc__)
main()
