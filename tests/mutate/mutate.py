#!/usr/bin/env python3
"""Do the tests hold anything? Changes one place of the code at a time and expects a test to fail.

Places are drawn by a seeded generator over src/check, src/route, src/reference, sim and
backends/openblas, in proportion to their lines. The tree is copied to a folder of its own
(tracked files, and new ones that Git does not ignore) and built there once; each mutant is then one
edited file, one `ninja`, and the tests until the first fails: those whose names share a word with
the file's path first, then the others, quick ones first. A test that takes far longer than usual
has noticed as well. A mutant that does not compile is drawn again, and so is one that
equivalent.txt lists: a change that alters no result. Releases of memory and out-of-bounds reads
that change nothing are for ./dev sanitize; --meson builds the mutants with sanitizers.

  mutate.py 40 --seed 1                          the usual run, 10 to 40 minutes on two cores
  mutate.py --rerun build-mutate/last.json       its survivors again, after a test was mended
  mutate.py --only src/route/select.c:42         every change of one line
  mutate.py --rerun build-mutate/last.json --meson=-Db_sanitize=address,undefined \\
            --meson=-Db_lundef=false             survivors under sanitizers

Exit code: 0 at least 95 % were noticed, 1 fewer, 2 usage, 3 the unchanged tree does not pass.
"""
import argparse
import json
import random
import sys
from pathlib import Path

from places import collapse, mutants
from scratch import ROOT, Scratch

FOLDERS = ["src/check", "src/route", "src/reference", "sim", "backends/openblas"]
ENOUGH = 0.95
SHOWN = ("file", "line", "operator", "before", "after")


def read(tree, names):
    return [m for name in names for m in mutants(name, (tree / name).read_text())]


def sources(tree, folder):
    return sorted(str(p.relative_to(tree)) for p in (tree / folder).rglob("*.[ch]"))


def equivalents():
    """(file, before, after) of equivalent.txt; after is "*" for any change of the line."""
    found = set()
    for block in (Path(__file__).parent / "equivalent.txt").read_text().split("\n\n"):
        lines = [line for line in block.split("\n") if line and line[0] != "#"]
        if not lines:
            continue
        file, before, after = lines[0], lines[1], lines[2]
        if before[:2] != "- " or after[:2] != "+ " or lines[3][:2] != "= ":
            sys.exit("mutate: equivalent.txt: not an entry: " + file)
        found.add((file, collapse(before[2:]), collapse(after[2:])))
    return found


def draw(tree, seed):
    """Mutants without end: a folder by its share of lines, a line, an operator, a change."""
    rng, per_folder = random.Random(seed), {}
    for folder in FOLDERS:
        lines = {}
        for m in read(tree, sources(tree, folder)):
            lines.setdefault((m.file, m.line), {}).setdefault(m.operator, []).append(m)
        per_folder[folder] = lines
    queue, seen = [], set()
    while True:
        # Each folder once, then by lines: none is left out of a short run.
        if not queue:
            sizes = [len(per_folder[f]) for f in FOLDERS]
            queue = FOLDERS + rng.choices(FOLDERS, sizes, k=35)
        lines = per_folder[queue.pop(0)]
        operators = lines[rng.choice(sorted(lines))]
        mutant = rng.choice(operators[rng.choice(sorted(operators))])
        if mutant not in seen:
            seen.add(mutant)
            yield mutant


def survivors(report, tree):
    """Those of an earlier run; where their line has moved, every line that reads the same."""
    wanted = [r for r in json.loads(Path(report).read_text())["mutants"] if not r["noticed"]]
    names = sorted({r["file"] for r in wanted if (tree / r["file"]).is_file()})
    found, places = [], read(tree, names)
    for r in wanted:
        same = [m for m in places if (m.file, m.before, m.after) ==
                (r["file"], r["before"], r["after"])]
        found += [m for m in same if m.line == r["line"]] or same
    return found


def chosen(options, tree):
    """The mutants to judge, in order, and how many of them."""
    if options.only:
        name, _, line = options.only.partition(":")
        found = [m for m in read(tree, [name]) if m.line == int(line)]
        return found, len(found)
    if options.rerun:
        found = survivors(options.rerun, tree)
        return found, len(found)
    return draw(tree, options.seed), options.count


def table(results):
    for r in results:
        print("%s:%d  %s\n  - %s\n  + %s\n  %s" % (
            r["file"], r["line"], r["operator"], r["before"], r["after"],
            "noticed by " + r["noticed"] if r["noticed"] else "SURVIVED"))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=40, help="mutants, default 40")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws others")
    parser.add_argument("--only", metavar="FILE:LINE", help="every change of this line")
    parser.add_argument("--rerun", metavar="JSON", help="the survivors of an earlier run")
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--skip", action="append", default=[], metavar="TEST",
                        help="a slow test that is left out: what survives, try again with it")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, default 2")
    parser.add_argument("--meson", action="append", default=[], help="an option of the build")
    parser.add_argument("--folder", type=Path, default=ROOT / "build-mutate", help="where to work")
    options = parser.parse_args()
    known, results = equivalents(), []
    skipped = {"not compiled": 0, "equivalent": 0}
    scratch = Scratch(options.folder.resolve(), options.jobs, options.meson)
    if not options.list:
        scratch.copy()
        scratch.configure(options.skip)
        scratch.baseline()
    places, count = chosen(options, ROOT if options.list else scratch.tree)
    for m in places:
        if len(results) >= count:
            break
        if known & {(m.file, m.before, m.after), (m.file, m.before, "*")}:
            skipped["equivalent"] += 1
            continue
        judged = ("not run", 0) if options.list else scratch.judge(m)
        if judged is None:
            skipped["not compiled"] += 1
            continue
        results.append({key: getattr(m, key) for key in SHOWN})
        results[-1].update(noticed=judged[0] or "", seconds=round(judged[1], 1))
        if not options.list:
            print("%3d of %d  %5.1f s  %s:%d  %s: %s" % (
                len(results), count, judged[1], m.file, m.line, m.operator,
                judged[0] or "SURVIVED"), file=sys.stderr, flush=True)
    noticed = sum(bool(r["noticed"]) for r in results)
    report = json.dumps({"seed": options.seed, "noticed": noticed, "total": len(results), **skipped,
                         "mutants": results}, indent=1)
    if not options.list:
        (options.folder / "last.json").write_text(report + "\n")
    if options.output == "json":
        print(report)
    else:
        table(results)
        print("%d of %d noticed; drawn again: %d did not compile, %d equivalent" % (
            noticed, len(results), skipped["not compiled"], skipped["equivalent"]))
    return 0 if results and noticed >= ENOUGH * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
