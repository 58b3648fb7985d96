"""What a run says at its end."""
import math


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def print_ratios(results, peers):
    """ours / peer in TFLOP/s, forward and backward."""
    others = [peer for peer in peers if peer != "ours"]
    print(f"{'shape':12s} {'ours fwd':>9s} {'bwd':>5s}" +
          "".join(f" {'/' + peer:>18s}" for peer in others))
    ratios = {peer: ([], []) for peer in others}
    for name, r in results.items():
        ours = r.get("ours", {"error": "not measured"})
        if "error" in ours:
            print(f"{name:12s} {ours['error']}")
            continue
        row = f"{name:12s} {ours['fwd_tflops']:9.0f} {ours['bwd_tflops']:5.0f}"
        for peer in others:
            if "error" in r.get(peer, {"error": ""}):
                row += f" {'-':>18s}"
                continue
            pair = [ours[k] / r[peer][k] for k in ("fwd_tflops", "bwd_tflops")]
            for i in range(2):
                ratios[peer][i].append(pair[i])
            row += f" {pair[0]:10.2f} {pair[1]:7.2f}"
        print(row)
    print(f"{'geomean':28s}" +
          "".join(f" {geometric_mean(ratios[q][0]):10.2f} {geometric_mean(ratios[q][1]):7.2f}"
                  for q in others))


def print_checks(results, peers):
    """The worst NMSE of every tensor over all shapes that passed; what could not be timed, and
    why."""
    for peer in peers:
        passed = [r[peer]["checked"] for r in results.values() if "checked" in r.get(peer, {})]
        if passed:
            names = passed[0]["worst_nmse"]
            print(f"{peer}: right on {len(passed)} shapes ({passed[0]['tokens']} tokens, up to "
                  f"{max(len(c['experts']) for c in passed)} experts each); worst NMSE "
                  + ", ".join(f"{k} {max(c['worst_nmse'][k] for c in passed):.1e}" for k in names))
    for name, r in results.items():
        for peer in peers:
            if "error" in r.get(peer, {}):
                print(f"{name}: {peer}: {r[peer]['error']}")


def print_kernels(results, peers):
    """The kernels of each layer on each shape, where they were recorded."""
    for name, r in results.items():
        for peer in peers:
            for which, table in r.get(peer, {}).get("profile", {}).items():
                print(f"{name} {peer} {which}: "
                      f"busy {table['busy_us']:.0f} us of {table['span_us']:.0f}")
                for kernel in table["kernels"]:
                    print(f"  {kernel['us']:10.1f}  {kernel['name']}")
