"""How often a measured time lies in an interval that was made without its shape.

Twice left out: a shape, and of the others one after another, by which sim/fit/spread.c finds how
long the interval must be. Rows: (what, measured, predicted), us, of `moeref calibrate --rows`.
"""
TAILS = [i / 100 for i in range(10, -1, -1)]
GROUPS = 12


def words(what):
    return dict(word.split("=") for word in what.split() if "=" in word)


def shape(what):
    at = words(what)
    return tuple(at[key] for key in (("n", "k") if "k" in at else ("d", "n", "E", "K")))


def is_large(what, predicted):
    at = words(what)
    return predicted >= 20 if "k" in at else int(at["T"]) >= 1024


def inner(shares, tail):
    """What is left after `tail` of the rows is cut off on each side."""
    shares = sorted(shares)
    cut = int(tail * len(shares))
    return min(1, shares[cut]), max(1, shares[-1 - cut])


def inside(shares, interval):
    return sum(interval[0] <= share <= interval[1] for share in shares)


def interval(groups):
    """The shortest that holds 80 % of rows whose group is left out."""
    everything = [share for group in groups for share in group]
    for tail in TAILS:
        rest = [[s for j, g in enumerate(groups) if j != i for s in g] for i in range(len(groups))]
        hits = sum(inside(g, inner(r, tail)) for g, r in zip(groups, rest) if r)
        if hits >= 0.8 * len(everything):
            break
    return inner(everything, tail)


def covered(rows):
    """In percent, over both sizes."""
    hits = 0
    for size in (False, True):
        of_size = [(shape(what), us / predicted) for what, us, predicted in rows
                   if is_large(what, predicted) == size]
        shapes = sorted({s for s, _ in of_size})
        group = {s: i % GROUPS for i, s in enumerate(shapes)}
        groups = [[v for s, v in of_size if group[s] == i] for i in range(min(GROUPS, len(shapes)))]
        for i, left_out in enumerate(groups):
            others = groups[:i] + groups[i + 1:]
            hits += inside(left_out, interval(others)) if others else 0
    return 100 * hits / len(rows)
