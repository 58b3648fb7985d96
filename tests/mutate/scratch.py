"""A copy of the tree with a build of its own, in which mutants are built and tested."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                                text=True, check=True, capture_output=True)
        names = {n for n in listed.stdout.split("\n") if n and (ROOT / n).is_file()}
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
        files = {t["cmd"][0] for t in tests}
        for test in tests:
            files.update(*map(self.targets.get, test["depends"]))
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
            return (seconds if seconds > 10 and not shared else 0, -shared, seconds)

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
