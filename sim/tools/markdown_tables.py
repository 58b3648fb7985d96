"""What scripts that write Markdown tables share."""
import math


def mean(values):
    """Geometric."""
    return math.exp(sum(map(math.log, values)) / len(values))


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |\n"


def table(header, rows):
    return row(*header) + "|---" * len(header) + "|\n" + "".join(row(*r) for r in rows)
