"""What scripts that turn timings into tables and reports of the model share. Microseconds.

A shape is an object with T, d, n, E, K and, under each peer's name, what `tests/bench/peers`
measured of it.
"""

PASSES = ("kernel", "T", "d", "n", "K", "E", "pass", "route", "median_us")


def entry(shape, backend, kernels, times):
    """One case in the form of `moeref bench --output json`: kernels by name, and both passes."""
    passes = [("forward", times["fwd_us"]), ("backward", times["bwd_us"])]
    return {
        "case": "T={} d={} n={} E={} K={} route=uniform".format(*(shape[x] for x in "TdnEK")),
        "backend": backend,
        "kernels": [{"name": k, "measured_us": round(us, 1)} for k, us in kernels.items()],
        "passes": [{"name": k, "measured_us": round(us, 1)} for k, us in passes],
    }


def is_busy(times, least=0.95):
    """Kernels fill so much of both passes, by the profiler: the rest would be the host's time."""
    return all(times["profile"][part]["busy_us"] >= least * times[p + "_us"]
               for part, p in (("forward", "fwd"), ("backward", "bwd")))


def about(measured, *keys):
    """The head of a report: what the measuring run says of itself."""
    return {"moeref": 1, **{x: measured[x] for x in keys}}


def pass_rows(method, shape, times, route="uniform"):
    """Rows under PASSES, of the passes that were timed."""
    return [(method, *(shape[x] for x in "TdnKE"), p, route, f"{times[p + '_us']:.1f}")
            for p in ("fwd", "bwd") if f"{p}_us" in times]


def write_table(path, header, rows):
    with open(path, "w") as out:
        out.writelines("\t".join(str(x) for x in row) + "\n" for row in (header, *rows))
