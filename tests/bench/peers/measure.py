"""Times: settled clocks, whole passes, and kernel by kernel."""
import contextlib
import re
import signal
import subprocess
import time

import torch


class NotFinished(BaseException):
    """Not an Exception: autotuners swallow those of the configurations that they try."""


@contextlib.contextmanager
def time_limit(seconds):
    """Raises NotFinished in the block after so long, or when the foreign call that it is in
    returns."""
    def stop(_signal, _frame):
        raise NotFinished(f"not finished within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def median(values):
    return sorted(values)[len(values) // 2]


def median_and_spread(values):
    """The median, and the middle half's width as a share of it."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return median(ordered), (ordered[-1 - quarter] - ordered[quarter]) / median(ordered)


def once_us(run, device):
    if device == "cpu":
        start = time.perf_counter()
        run()
        return 1e6 * (time.perf_counter() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return 1e3 * begin.elapsed_time(end)


def settled_us(run, seconds, device):
    """Median time of `run` on the device, after and during continuous work."""
    once_us(run, device)
    samples, start = [], time.perf_counter()
    while time.perf_counter() - start < 2 * seconds or len(samples) < 5:
        us = once_us(run, device)
        samples.append((time.perf_counter() - start, us))
    return median([us for at, us in samples if at >= seconds] or [us for _, us in samples])


def smi(fields):
    """What nvidia-smi says of the device in use."""
    query = ["nvidia-smi", f"--id={torch.cuda.current_device()}", f"--query-gpu={fields}",
             "--format=csv,noheader,nounits"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


def clock_and_power():
    clock, power = smi("clocks.sm,power.draw").split(",")
    return {"sm_clock_mhz": float(clock), "power_w": float(power)}


def time_ours(ours, seconds):
    """The library times its own kernels; pass times are their sums."""
    samples, start = [], time.perf_counter()
    while time.perf_counter() - start < 2 * seconds or len(samples) < 6:
        at = time.perf_counter() - start
        ours.forward()
        ours.backward()
        samples.append((at, *ours.times()))
    state = {} if ours.p.device == "cpu" else clock_and_power()
    late = [s for s in samples if s[0] >= seconds] or samples[len(samples) // 2:]
    burst = [s for s in samples if s[0] < 0.1][1:] or samples[:2]

    def medians(rows, which):
        return {k: median([r[which][k] for r in rows]) for k in rows[0][which]}

    fwd, bwd = medians(late, 1), medians(late, 2)
    return {
        "kernels_us": {**fwd, **bwd},
        "fwd_us": sum(fwd.values()),
        "bwd_us": sum(bwd.values()),
        "burst_fwd_us": sum(medians(burst, 1).values()),
        "burst_bwd_us": sum(medians(burst, 2).values()),
        "runs": len(late),
        **state,
        "memory_bytes": ours.memory(),
    }


def host_us(run, device, calls=20, repeats=5):
    """Median time that the host takes to put one call into an empty queue; 0 on the CPU, where
    nothing is queued."""
    if device == "cpu":
        return 0.0
    samples = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        samples.append(1e6 * (time.perf_counter() - start) / calls)
    torch.cuda.synchronize()
    return median(samples)


def time_layer(layer, seconds):
    """A differentiable layer: forward alone, then forward with backward; backward is the
    difference."""
    def both():
        layer.forward()
        layer.backward()

    fwd = settled_us(layer.forward, seconds, layer.device)
    host_fwd = host_us(layer.forward, layer.device)
    return {"fwd_us": fwd, "bwd_us": settled_us(both, seconds, layer.device) - fwd,
            "host_fwd_us": host_fwd, "host_bwd_us": host_us(both, layer.device) - host_fwd}


def short_name(name):
    """A kernel's name without arguments and namespaces, and the first name among its template
    arguments."""
    name = re.sub(r"^void |\(anonymous namespace\)::|_object_at_.*|__tensorptr.*", "",
                  name).split("(")[0].strip()
    base, _, arguments = name.partition("<")
    first = re.search(r"(?:\w+::)*([A-Za-z_]\w*)", arguments)
    return (base.split("::")[-1] + (f"<{first[1]}>" if first else ""))[:100]


def device_events(run):
    """[(name, start us, end us)] of what one run puts on the device, by start."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    on_device = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return sorted(((e.name, e.time_range.start, e.time_range.end) for e in on_device),
                  key=lambda e: e[1])


def kernel_table(runs):
    """Medians by place in the launch order, over the runs that launched as much as most did."""
    count = median([len(run) for run in runs])
    runs = [run for run in runs if len(run) == count]
    kernels = [{"name": short_name(runs[-1][i][0]),
                "us": round(median([r[i][2] - r[i][1] for r in runs]), 2)} for i in range(count)]
    span = median([max(e[2] for e in r) - r[0][1] for r in runs]) if count else 0.0
    busy = sum(k["us"] for k in kernels)
    return {"kernels": kernels, "busy_us": round(busy, 1), "span_us": round(span, 1)}


def profile_layer(layer, repeats=5):
    """Kernels of one forward and one backward: median times in launch order, their sum (the device
    is busy), and the span from the first one's start to the last one's end (the rest are gaps)."""
    forward, backward = [], []
    for _ in range(repeats):
        layer.forward()
        forward.append(device_events(layer.forward))
        backward.append(device_events(layer.backward))
    return {"forward": kernel_table(forward), "backward": kernel_table(backward)}
