#!/usr/bin/env python3
"""golden/hf/FAMILIES.md from the table of families: families_page.py MOEREF [--write].

Without --write it fails where the page is not what it would write.
"""

import pathlib
import subprocess
import sys

IN_TRANSFORMERS = 78  # model types with a routed MoE block in 5.24.0
BEYOND = ()  # families that are not among them
ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "golden/hf/FAMILIES.md"


def families(moeref):
    """(name, what its block has beside a layer) of `moeref list`."""
    text = subprocess.run([moeref, "list"], check=True, capture_output=True, text=True).stdout
    rows = text.split("families (--hf)\n")[1].splitlines()
    for row in rows:
        if not row.startswith("  "):
            return
        name, _, block = row.strip().partition(": ")
        yield name, block


def page(moeref):
    rows = sorted(families(moeref))
    counted = len({name for name, _ in rows} - set(BEYOND))
    if counted > IN_TRANSFORMERS:
        sys.exit(f"{counted} families of {IN_TRANSFORMERS}: one that Transformers 5.24 does not "
                 "have goes into BEYOND, and a newer Transformers has another IN_TRANSFORMERS")
    beyond = f" Not of them: {', '.join(BEYOND)}." if BEYOND else ""
    folders = {f.name for f in (ROOT / "golden/hf").iterdir() if f.is_dir()}
    held = [name for name, _ in rows if name in folders]
    text = f"""# Families

{counted} of the {IN_TRANSFORMERS} model types of Transformers 5.24.0 with a routed MoE block
are read in full, forward and backward (nllb-moe forward alone); {len(held)} are held to a golden
layer that Transformers made, and every one to a twin of it in NumPy (`tests/twins`). This page is
what `moeref list` says: `tests/golden/families_page.py MOEREF --write` writes it, and a test holds
it to the table.{beyond}

| family | golden | its block has beside a layer |
|---|---|---|
"""
    for name, block in rows:
        golden = "held" if name in folders else ""
        text += f"| {name} | {golden} | {block} |\n"
    return text


def main(moeref, *options):
    wanted = page(moeref)
    if "--write" in options:
        PAGE.write_text(wanted)
    elif PAGE.read_text() != wanted:
        print(f"{PAGE} is not current: {sys.argv[0]} MOEREF --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
