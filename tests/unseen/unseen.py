#!/usr/bin/env python3
"""Does the judge notice bugs that it was not written beside, and does it say what they are?

Each bug of bugs.py (or, with --set, of another file) is an edit of a copy of backends/faulty,
built to a plug-in of its own and checked on its layer. Caught: the verdict is fail. Named: the
explanation, or where none is needed the reason, holds the words that were decided beforehand; an
explanation that says only where never counts.

  unseen.py --build build                       all, small layers, three types: some 15 minutes
  unseen.py --build build --size real --one     T=512 d=768 n=256 E=64 K=4, a type a bug
  unseen.py --build build --only dS_of_O -v     one, with what the report says
  unseen.py --build build --sample 12 --one     every 12th: what the test suite runs

Exit code: 0 at least 99 % were caught and 85 % named, 1 fewer, or an edit that fits nowhere, 2
usage.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bugs
import changelogs
import edits
import libraries
import mixed_1
import mixed_2
import mixed_3
import mixed_4
import mixed_5
import mixtures
import splits
import tiles
import trackers
import trackers_later
import tries
import users
import wide_router
import wide_rows
import wide_terms

ROOT = Path(__file__).resolve().parents[2]
FAULTY = ROOT / "backends" / "faulty"
FLAGS = ["-std=gnu11", "-O2", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-w"]
PLACES = {"", "elements", "wrong_block", "wrong_experts"}
TYPES = ["fp32", "bf16", "fp16"]
CAUGHT, NAMED = 0.99, 0.85
SETS = {"bugs": bugs.BUGS, "mixed_1": mixed_1.BUGS, "mixtures": mixtures.BUGS,
        "tiles": tiles.BUGS, "splits": splits.BUGS, "mixed_2": mixed_2.BUGS,
        "wide": wide_rows.BUGS + wide_terms.BUGS + wide_router.BUGS, "mixed_3": mixed_3.BUGS,
        "mixed_4": mixed_4.BUGS, "changelogs": changelogs.BUGS, "mixed_5": mixed_5.BUGS,
        "users": users.BUGS, "trackers": trackers.BUGS + libraries.BUGS,
        "trackers_later": trackers_later.BUGS, "tries": tries.BUGS}
SETS["all"] = sum(SETS.values(), [])


def edited(name, edits):
    """Texts of the files that a bug's edits change."""
    texts = {}
    for file, old, new in edits:
        text = texts.get(file) or (FAULTY / file).read_text()
        if text.count(old) != 1:
            sys.exit("unseen: %s: %s has %d of: %s" % (name, file, text.count(old), old))
        texts[file] = text.replace(old, new)
    return texts


class Workshop:
    """Object files of the unedited plug-in, and plug-ins of edited ones."""

    def __init__(self, build, folder):
        self.build, self.folder = Path(build).resolve(), Path(folder)
        self.flags = FLAGS + ["-I%s" % p for p in (FAULTY, ROOT / "src" / "include", ROOT / "src")]
        self.program = os.environ.get("MOEREF", str(self.build / "src" / "cli" / "moeref"))
        self.object = {p.name: self.folder / (p.stem + ".o") for p in sorted(FAULTY.glob("*.c"))}
        for name, made in self.object.items():
            self.compile(FAULTY / name, made)

    def compile(self, source, made):
        subprocess.run(["cc", *self.flags, "-c", str(source), "-o", str(made)], check=True)

    def plugin(self, name, edits):
        objects = dict(self.object)
        for file, text in edited(name, edits).items():
            source = self.folder / (name + "." + file)
            source.write_text(text)
            objects[file] = source.with_suffix(".o")
            self.compile(source, objects[file])
        made = self.folder / (name + ".so")
        library = self.build / "src"
        subprocess.run(["cc", "-shared", "-o", str(made), *map(str, objects.values()),
                        "-L%s" % library, "-Wl,-rpath,%s" % library, "-lmoeref", "-lm"], check=True)
        return made

    def check(self, plugin, dtype, line):
        run = subprocess.run(
            [self.program, "check", "--threads", "1", "--output", "json", "--backend",
             "%s:%s" % (plugin, dtype), "--case", line + " dtype=" + dtype],
            text=True, capture_output=True)
        if run.returncode not in (0, 1):
            sys.exit("unseen: moeref ended with %d: %s" % (run.returncode, run.stderr))
        return json.loads(run.stdout)["cases"][0]


def said(case):
    """What a report says of the cause: its explanation, or the reasons that need none."""
    why = [case["why"]] + [t["why"] for t in case["tensors"] if t["verdict"] == "fail"]
    plain = [w for w in why if w and "NMSE" not in w and "max z" not in w]
    later = [w for w in why if "second input" in w]
    cause, stage = case["explanation"], case["first_wrong_stage"]
    if cause and (cause["kind"] or "") not in PLACES and "another weight" not in cause["text"]:
        plain, stage = [cause["kind"] + ", " + cause["text"]], cause["tensor"]
    return "%s: %s" % (stage, "; ".join(plain + later)) if plain or later else ""


def located(case):
    """The place, where no cause is named."""
    cause = case["explanation"]
    if cause and cause["kind"]:
        return cause["text"]
    return case["where"]["text"] if case["where"] else case["why"]


def judge(shop, bug, plugin, dtype, large):
    name, layer, _, words, _ = bug
    line = edits.layer(layer, large)
    case = shop.check(plugin, dtype, line)
    text = said(case)
    caught = case["verdict"] == "fail"
    named = caught and re.search(words, text) is not None
    return {"bug": name, "dtype": dtype, "case": line, "caught": caught, "named": named,
            "says": text, "place": located(case), "seconds": case["seconds"]}


def tasks(options):
    """(bug, types), in order."""
    chosen = SETS[options.set]
    for bug in chosen:  # those that are not tried today fit too
        edited(bug[0], bug[4])
    unknown = set(options.only) - {b[0] for b in chosen}
    if unknown:
        sys.exit("unseen: no such bug: " + ", ".join(sorted(unknown)))
    chosen = [b for b in chosen if not options.only or b[0] in options.only]
    for i, bug in enumerate(chosen[::options.sample]):
        types = [t for t in bug[2] if t in options.dtype]
        yield bug, types[i % len(types):][:1] if options.one and types else types


def table(results):
    print("| type | tried | caught | named |\n|------|------:|-------:|------:|")
    for dtype in TYPES:
        of = [r for r in results if r["dtype"] == dtype]
        print("| %s | %5d | %6d | %5d |" % (
            dtype, len(of), sum(r["caught"] for r in of), sum(r["named"] for r in of)))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--size", choices=["small", "real"], default="small")
    parser.add_argument("--dtype", action="append", choices=TYPES, help="default: all")
    parser.add_argument("--one", action="store_true", help="each bug in one type, taking turns")
    parser.add_argument("--only", action="append", default=[], metavar="BUG")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every Nth bug")
    parser.add_argument("--set", choices=SETS, default="bugs", help="whose bugs; default: bugs.py")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-v", "--verbose", action="store_true", help="what every report says")
    options = parser.parse_args()
    options.dtype = options.dtype or TYPES
    results = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        shop = Workshop(options.build, folder)

        def one(task):
            bug, types = task
            plugin = shop.plugin(bug[0], bug[4]) if types else None
            return [judge(shop, bug, plugin, t, options.size == "real") for t in types]

        for group in pool.map(one, tasks(options)):
            for r in group:
                results.append(r)
                state = "named" if r["named"] else "caught" if r["caught"] else "SURVIVED"
                if state != "named" or options.verbose:
                    print("%-8s %s.%s (%.1f s)  %s\n         at: %s" % (
                        state, r["dtype"], r["bug"], r["seconds"], r["says"], r["place"]),
                        flush=True)
    table(results)
    caught, named = (sum(r[k] for r in results) for k in ("caught", "named"))
    tried = len(results)
    print("%d tried, %d caught, %d named" % (tried, caught, named))
    enough = caught >= math.floor(CAUGHT * tried) and named >= math.floor(NAMED * tried)
    return 0 if tried and enough else 1


if __name__ == "__main__":
    sys.exit(main())
