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
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from places import Mutant, collapse, mutants

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["src/check", "src/route", "src/reference", "sim", "backends/openblas"]
ENOUGH = 0.95
FIRST = 6  # tests that are linked and run before the others
# Threads that wait leave the processor; memory that nobody wrote holds no lucky zeros.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "MALLOC_PERTURB_": "165"}
# A mutant may ask for absurd memory or write without end.
LIMITS = {resource.RLIMIT_FSIZE: 1 << 30, resource.RLIMIT_CORE: 0}


class Scratch:
    """A copy of the tree with a build of its own."""

    def __init__(self, folder, jobs, options):
        self.tree, self.jobs, self.options = folder / "tree", jobs, options
        # In the tree: programs find the golden files from where they were built.
        self.build = self.tree / "-".join(["build"] + [re.sub(r"\W+", "_", o) for o in options])
        self.tests, self.seconds = [], {}

    def copy(self):
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                                check=True, capture_output=True).stdout.split("\n")
        names = {n for n in listed if n and (ROOT / n).is_file()}
        for old in self.tree.rglob("*"):
            name = str(old.relative_to(self.tree))
            if old.is_file() and name not in names and not name.startswith("build"):
                old.unlink()
        for name in names:
            source, copy = ROOT / name, self.tree / name
            data = source.read_bytes()
            if not copy.is_file() or copy.read_bytes() != data:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)
                copy.chmod(source.stat().st_mode)

    def configure(self, skip):
        if not (self.build / "build.ninja").exists():
            subprocess.run(["meson", "setup", self.build, self.tree, "-Dcuda=disabled",
                            "-Ddebug=false", "-Doptimization=2", *self.options],
                           check=True, stdout=subprocess.DEVNULL)
        if not self.ninja():
            sys.exit("mutate: the unchanged tree does not build: ninja -C %s" % self.build)
        self.tests = [t for t in self.introspect("--tests") if t["name"] not in skip]
        self.targets = {t["id"]: t["filename"] for t in self.introspect("--targets")}

    def introspect(self, what):
        return json.loads(subprocess.run(["meson", "introspect", what, self.build], text=True,
                                         check=True, capture_output=True).stdout)

    def ninja(self, tests=()):
        """Builds what these tests need, or everything."""
        files = {f for t in tests for f in [t["cmd"][0]] + sum(map(self.targets.get, t["depends"]), [])}
        inside = [os.path.relpath(f, self.build) for f in files if f.startswith(str(self.build))]
        done = subprocess.run(["ninja", "-C", self.build, f"-j{self.jobs}", *inside], timeout=900,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0

    def baseline(self):
        """Every test once: it must pass, and takes so long."""
        failed, _ = self.first_failure(self.tests)
        if failed:
            sys.exit("mutate: the unchanged tree fails %s" % failed)

    def run(self, test, running):
        """True if the test passed."""
        def limit():
            for what, value in LIMITS.items():
                resource.setrlimit(what, (value, resource.getrlimit(what)[1]))

        usual = self.seconds.get(test["name"])
        start = time.monotonic()
        process = subprocess.Popen(test["cmd"], cwd=test["workdir"] or self.build, text=True,
                                   env={**os.environ, **ENVIRONMENT, **test["env"]},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   errors="replace", start_new_session=True, preexec_fn=limit)
        running.append(process)
        try:
            out = process.communicate(timeout=20 + 5 * usual if usual else test["timeout"])[0]
        except subprocess.TimeoutExpired:
            kill(process)
            return False
        if not usual:
            self.seconds[test["name"]] = time.monotonic() - start
        return process.returncode == 0 and not re.search(r"^not ok|^Bail out", out, re.M)

    def first_failure(self, tests):
        """The first test that fails, two at a time, and the seconds that all took."""
        running, failed, start = [], [], time.monotonic()

        def one(test):
            if failed or self.run(test, running):
                return
            failed.append(test["name"])
            for process in running:
                kill(process)

        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(one, tests))
        return failed[0] if failed else None, time.monotonic() - start

    def order(self, name):
        words = [w for w in re.split(r"[/_.]", name) if len(w) > 3 or w in ("sim", "fit")]

        def key(test):
            said = " ".join([test["name"], *test["suite"]])
            shared = sum(w[:5] in said for w in words)
            seconds = self.seconds[test["name"]]
            return (seconds if seconds > 10 else 0, -shared, seconds)

        return sorted(self.tests, key=key)

    def judge(self, mutant):
        """None if it does not compile, else (the test that noticed or None, seconds)."""
        path, tests = self.tree / mutant.file, self.order(mutant.file)
        text, seconds = path.read_text(), 0
        path.write_text(text[:mutant.start] + mutant.text + text[mutant.end:])
        try:
            # Linking every test takes longer than running those that are likely to notice.
            for some in (tests[:FIRST], tests[FIRST:]):
                if not self.ninja(some):
                    return None
                failed, more = self.first_failure(some)
                seconds += more
                if failed:
                    return failed, seconds
            return None, seconds
        finally:
            path.write_text(text)


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


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


def chosen(options, tree):
    """The mutants to judge, in order, and how many of them."""
    if options.only:
        name, _, line = options.only.partition(":")
        found = [m for m in read(tree, [name]) if m.line == int(line)]
        return found, len(found)
    if options.rerun:
        wanted = {(r["file"], r["before"], r["after"]) for r in
                  json.loads(Path(options.rerun).read_text())["mutants"] if not r["noticed"]}
        names = sorted({file for file, _, _ in wanted if (tree / file).is_file()})
        found = [m for m in read(tree, names) if (m.file, m.before, m.after) in wanted]
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
        results.append({**{k: getattr(m, k) for k in ("file", "line", "operator", "before", "after")},
                        "noticed": judged[0] or "", "seconds": round(judged[1], 1)})
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
