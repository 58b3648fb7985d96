#!/usr/bin/env python3
"""Published speeds of whole models beside predicted ones: prints Markdown tables.

    whole_models.py MOEREF CONFIG LARGE

CONFIG and LARGE: the config.json of Qwen3-30B-A3B and of Qwen3-235B-A22B. What a host adds is no
part of a GPU's description: one number for each serving loop is taken from the rows marked "taken",
and all others are held out.
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

# The same file, Qwen3-235B-A22B-Instruct-2507 on eight H100: vLLM's tensor parallelism with experts
# spread over the same GPUs ("expert_parallel": 8). Sequences at once on average.
LARGE = {"bf16": {8: 20.24, 16: 25.35, 32: 34.71, 64: 40.34, 96: 43.68, 128: 46.64, 192: 52.36,
                  228: 55.48},
         "fp8": {8: 24.74, 16: 26.79, 32: 30.16, 64: 34.67, 96: 38.74, 128: 42.14, 192: 49.61,
                 256: 54.93}}


def ask(config, operands, *options):
    out = subprocess.run([sys.argv[1], "predict", "--config", config, "--dtype", "bf16",
                          "--operands", operands, "--layers", "all", "--pass", "fwd",
                          "--output", "json", *options],
                         check=True, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])["model_us"]


def model_us(gpu, method, operands, *options):
    return ask(sys.argv[2], operands, "--gpu", gpu, "--method", method, *options)


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
    return us


def eight(us):
    print(f"\nvLLM on eight H100, --ep 8 --attention-tp 8, --sequence-us {us}:\n\n"
          "| operands | sequences | published, ms | predicted | error | without a host |\n"
          "|---|---|---|---|---|---|")
    for operands, rows in LARGE.items():
        for batch, ms in rows.items():
            bare = ask(sys.argv[3], operands, "--node", "h100-x8", "--ep", "8", "--attention-tp",
                       "8", "--compute", "triton_fused_moe", "--tokens", str(batch),
                       "--context", str(FOLLOWS)) / 1e3
            ours = bare + us * batch / 1e3
            print(f"| {operands} | {batch} | {ms:.2f} | {ours:.2f} | "
                  f"{100 * (ours / ms - 1):+.0f} % | {100 * (bare / ms - 1):+.0f} % |")


if len(sys.argv) != 4:
    sys.exit(__doc__)
qwen()
eight(energy())
