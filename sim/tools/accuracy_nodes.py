"""Errors of transfers between GPUs and of published times of several, for accuracy.py."""
import re
import sys

import published
from ask import ERRORS, moeref

# Carrier, table, node, lines, what is fitted, and the class of rows that counts.
TRANSFERS = [
    ("alltoall", "nccl", "h100-x8", "system=h100_sxm", "start_us ramp link_eff near", 15, "m or T"),
    ("alltoall", "nccl", "a100-x8", "system=a100_sxm", "start_us ramp link_eff near", 15, "m or T"),
    ("deepep_dispatch", "deepep-normal", "h100-x8", "nodes=1",
     "start_us fill_us link_eff sm_gbps visit_us", 4, "m or T"),
    ("deepep_combine", "deepep-normal", "h100-x8", "nodes=1",
     "start_us fill_us first_gbps link_eff sm_gbps copy_us token_gbps", 4, "m or T"),
    ("ll_dispatch", "deepep-ll", "h100-x8", "nodes=1",
     "start_us expert_us first_gbps link_eff sm_gbps", 4, ">= 4 us"),
    ("ll_combine", "deepep-ll", "h100-x8", "nodes=1",
     "start_us expert_us first_gbps link_eff", 4, ">= 4 us")]
HELD_OUT = re.compile(r"held-out shapes.*?(?=held-out, by)", re.S)


def transfers(tables):
    """Errors with sizes or shapes left out."""
    rows = []
    for carrier, table_name, node, where, keys, least, which in TRANSFERS:
        said = moeref("calibrate", "--from", f"{tables}/net/{table_name}-calibrate.tsv", "--node",
                      node, "--where", where, "--kernel", carrier, "--free",
                      ",".join(f"{carrier}.{key}" for key in keys.split()), "--folds", "1000",
                      "--evaluations", "1500", "--sample", "5000", "--min-us", str(least))
        found = ERRORS.findall(HELD_OUT.search(said)[0])
        rows += [(f"`{node}`", f"`{carrier}`, {what[0].replace('m or T >= 1024', 'large')}",
                  *what[1:]) for what in found if what[0].startswith(which)]
    return rows


def several_gpus():
    rows = []
    for what, shipped, errors, _ in published.tables(sys.argv[1]):
        mean = [100 * sum(map(abs, e)) / len(e) for e in (shipped, errors)]
        worst = 100 * max(map(abs, errors))
        rows.append((what, len(errors), *(f"{e:.1f}" for e in mean), f"{worst:.1f}"))
    return rows
