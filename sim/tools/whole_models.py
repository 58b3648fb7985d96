#!/usr/bin/env python3
"""Published speeds of whole models beside predicted ones: prints Markdown tables.

    whole_models.py MOEREF CONFIG

CONFIG: the config.json of Qwen3-30B-A3B. What a host adds is no part of a GPU's description: one
number for each serving loop is taken from the rows marked "taken", and all others are held out.
"""
import json
import math
import subprocess
import sys

# Qwen's "Speed Benchmark" (qwen.readthedocs.io, 2025), SGLang 0.4.6 on one H20: prompt and 2048
# tokens generated over the time of both, batch 1.
QWEN = {"bf16": {1: 137.18, 6144: 490.10, 14336: 849.62, 30720: 1283.94, 63488: 1538.79},
        "fp8": {1: 155.55, 6144: 551.34, 14336: 945.13, 30720: 1405.91, 63488: 1647.89}}
GENERATED = 2048

# ML.ENERGY leaderboard (github.com/ml-energy/leaderboard, 0cd52da, public/data/tasks/
# lm-arena-chat.json), Qwen3-30B-A3B-Instruct-2507 in vLLM, bf16, one GPU: sequences at once and the
# median time between two tokens, ms. A token follows 975 of its own answer on average (its
# distribution of lengths, E[L^2] / 2E[L]); prompts' lengths are not told and count 0.
ENERGY = {"h100-sxm": {8: 12.85, 16: 17.55, 32: 22.57, 64: 28.94, 88: 32.07},
          "b200-sxm": {8: 8.24, 16: 10.81, 32: 14.28, 64: 19.32, 96: 18.96, 128: 20.93, 192: 23.71,
                       256: 26.27}}
FOLLOWS = 975


def model_us(gpu, method, operands, *options):
    out = subprocess.run([sys.argv[1], "predict", "--config", sys.argv[2], "--dtype", "bf16",
                          "--operands", operands, "--layers", "all", "--pass", "fwd", "--gpu", gpu,
                          "--method", method, "--output", "json", *options],
                         check=True, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])["model_us"]


def sglang_us(operands, prompt, step_us):
    """A prompt, then tokens one by one, taken at their mean context."""
    def part(*options):
        return model_us("h20", "sglang_fused_moe", operands, "--step-us", str(step_us), *options)
    us = GENERATED * part("--tokens", "1", "--context", str(prompt + GENERATED // 2))
    return us + (part("--tokens", str(prompt)) if prompt > 1 else 0)


def qwen():
    operands, prompt = "bf16", 1
    measured = (prompt + GENERATED) / QWEN[operands][prompt] * 1e6
    step_us = round((measured - sglang_us(operands, prompt, 0)) / GENERATED)
    print(f"SGLang on an H20, --step-us {step_us}:\n\n"
          "| operands | prompt | published, tokens/s | predicted | error | without a host |\n"
          "|---|---|---|---|---|---|")
    for operands, row in QWEN.items():
        for prompt, speed in row.items():
            ours, bare = ((prompt + GENERATED) / sglang_us(operands, prompt, us) * 1e6
                          for us in (step_us, 0))
            taken = " (taken)" if (operands, prompt) == ("bf16", 1) else ""
            print(f"| {operands} | {prompt} | {speed:.0f} | {ours:.0f}{taken} | "
                  f"{100 * (ours / speed - 1):+.0f} % | {100 * (bare / speed - 1):+.0f} % |")


def energy():
    bare = {gpu: {batch: model_us(gpu, "triton_fused_moe", "bf16", "--tokens", str(batch),
                                  "--context", str(FOLLOWS)) / 1e3 for batch in rows}
            for gpu, rows in ENERGY.items()}
    def error(us):
        return sum(abs(math.log((bare["h100-sxm"][batch] + us * batch / 1e3) / ms))
                   for batch, ms in ENERGY["h100-sxm"].items())
    us = min(range(0, 200, 2), key=error)
    print(f"\nvLLM, --sequence-us {us}:\n\n"
          "| GPU | sequences | published, ms | predicted | error | without a host |\n"
          "|---|---|---|---|---|---|")
    for gpu, rows in ENERGY.items():
        for batch, ms in rows.items():
            ours = bare[gpu][batch] + us * batch / 1e3
            print(f"| `{gpu}`{' (taken)' if gpu == 'h100-sxm' else ''} | {batch} | {ms:.2f} | "
                  f"{ours:.2f} | {100 * (ours / ms - 1):+.0f} % | "
                  f"{100 * (bare[gpu][batch] / ms - 1):+.0f} % |")


if len(sys.argv) != 3:
    sys.exit(__doc__)
qwen()
energy()
