"""Kernels against kernels: the passes of two layers alternate in one queue, and every kernel's own
duration is taken (CUPTI, by torch's profiler), so that nobody's host is in anybody's time."""
import time

import torch

from measure import clock_and_power, device_events, median, median_and_spread, short_name

MARK = "spin_kernel"  # what torch.cuda._sleep launches
PASSES = ("ours fwd", "peer fwd", "ours bwd", "peer bwd")
# Sorting of the caller's choices; the others' is done before their passes begin.
METADATA = ("sort_kernel",)
ROUNDS = 4  # in one recording


def one_round(ours, peer):
    for run in (ours.forward, peer.forward, ours.backward, peer.backward):
        torch.cuda._sleep(1)
        run()


def split(events):
    """[(name, start us, end us)] of each pass, between the marks."""
    passes = []
    for name, start, end in events:
        if MARK in name:
            passes.append([])
        elif passes:
            passes[-1].append((short_name(name), start, end))
    return passes


def recorded(ours, peer):
    """{pass: [kernels of each round]} of one recording."""
    def rounds():
        for _ in range(ROUNDS):
            one_round(ours, peer)

    passes = split(device_events(rounds))
    if len(passes) != ROUNDS * len(PASSES):
        raise RuntimeError(f"{len(passes)} passes recorded, {ROUNDS * len(PASSES)} were run")
    return {name: passes[i::len(PASSES)] for i, name in enumerate(PASSES)}


def busy(kernels, sorting=False):
    """The sum of the kernels that sort the choices, or of all others."""
    return sum(end - start for name, start, end in kernels
               if (name.split("<")[0] in METADATA) == sorting)


def waiting(kernels):
    """The share of a pass, from its first kernel's start to its last one's end, with no kernel."""
    span = max(end for _, _, end in kernels) - kernels[0][1]
    return 1 - sum(end - start for _, start, end in kernels) / span


def summary(samples):
    us, spread = median_and_spread(samples)
    return {"us": round(us, 1), "spread": round(spread, 4)}


def alternate(ours, peer, seconds):
    """Medians of each pass's busy time, of ours without the sorting, which is told apart."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        one_round(ours, peer)
        torch.cuda.synchronize()
    found = {name: [] for name in PASSES}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(found[PASSES[0]]) < 12:
        for name, kernels in recorded(ours, peer).items():
            found[name] += kernels
    result = {name: summary([busy(k) for k in kernels]) for name, kernels in found.items()}
    result["ours sorting"] = summary([busy(k, sorting=True) for k in found["ours fwd"]])
    result["waiting"] = {name: round(median(sorted(map(waiting, kernels))), 4)
                         for name, kernels in found.items()}
    for which in ("fwd", "bwd"):
        result[f"peer/ours {which}"] = round(
            result[f"peer {which}"]["us"] / result[f"ours {which}"]["us"], 3)
    result["kernels"] = {name: [[k, round(end - start, 1)] for k, start, end in kernels[-1]]
                         for name, kernels in found.items()}
    return {**result, "rounds": len(found[PASSES[0]]), **clock_and_power()}


def print_alternate(shapes):
    print(f"{'shape':12s} {'peer':11s} {'ours us':>19s} {'peer us':>19s} {'peer / ours':>13s} "
          f"{'sort us':>8s} {'ours waits':>12s}")
    for name, r in shapes.items():
        for peer, a in r.get("alternate", {}).items():
            if "error" in a:
                print(f"{name:12s} {peer:11s} {a['error']}")
                continue
            us = {k: a[k]["us"] for k in PASSES}
            print(f"{name:12s} {peer:11s} {us['ours fwd']:9.0f}/{us['ours bwd']:<9.0f} "
                  f"{us['peer fwd']:9.0f}/{us['peer bwd']:<9.0f} "
                  f"{a['peer/ours fwd']:6.2f}/{a['peer/ours bwd']:<6.2f} "
                  f"{a['ours sorting']['us']:8.1f} "
                  f"{100 * a['waiting']['ours fwd']:5.1f}/{100 * a['waiting']['ours bwd']:.1f} %")
