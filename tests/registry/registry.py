#!/usr/bin/env python3
"""Adds one of each kind to a scratch copy, builds it and asks the program for every addition.

The files that an addition took must be those that the table of CONTRIBUTING.md names, no more and
no fewer. What is added is called "copied": mostly a copy of something that is there, whose results
it must then repeat.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import additions
from additions import NAME, SMALL

MODEL = "T=4096 d=2048 n=768 E=64 K=8"


class Program:
    """The program that the scratch copy made."""

    def __init__(self, tree):
        self.tree = tree
        self.path = os.path.join(tree.root, "build/src/cli/moeref")
        self.env = dict(os.environ, MOEREF_GOLDEN=os.path.join(tree.root, "golden"),
                        MOEREF_BACKEND_PATH=os.pathsep.join(
                            os.path.join(tree.root, "build/backends", name)
                            for name in (NAME, "openblas")))

    def __call__(self, *args):
        done = subprocess.run([self.path, *args], env=self.env, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"moeref {' '.join(args)}: exit code {done.returncode}\n"
                     f"{done.stdout}{done.stderr}")
        return done.stdout

    def passes(self, case, backend="reference"):
        """Judged by the oracle: one case, and it passed."""
        report = self("check", "--backend", backend, "--case", case)
        return "1 passed, 0 failed" in report

    def everywhere(self, case):
        """Passes on the reference and, where that can run here, on OpenBLAS."""
        return self.passes(case) and ("openblas" not in self.usable()
                                      or self.passes(case, "openblas"))

    def usable(self):
        listed = json.loads(self("list", "--output", "json"))["backends"]
        return {b["name"] for b in listed if b["usable"]}

    def tensors(self, case):
        """The bytes of a case's inputs and of the oracle's outputs."""
        path = os.path.join(self.tree.root, "case.safetensors")
        self("golden", "--case", case, "--export", path)
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
            return file.read()[header:]

    def same(self, key, value, more=""):
        """key=copied passes, and repeats the results of key=value."""
        case = f"{SMALL} {more}{key}="
        return (self.everywhere(case + NAME)
                and self.tensors(case + NAME) == self.tensors(case + value))


def ask_family(moeref):
    config = os.path.join(moeref.tree.root, "config.json")
    text = moeref.tree.read("golden/hf/mixtral/config.json")
    moeref.tree.write("config.json", text.replace('"mixtral"', '"copied"'))
    theirs = os.path.join(moeref.tree.root, "golden/hf/mixtral/config.json")
    ours, theirs = (moeref("predict", "--config", path).split("\n", 1)[1]  # after the path
                    for path in (config, theirs))
    return (ours == theirs
            and NAME in json.loads(moeref("list", "--output", "json"))["families"])


def ask_gpu(moeref):
    def on(gpu):
        out = moeref("predict", "--case", MODEL + " pass=fwd", "--gpu", gpu, "--method", "all")
        return out.replace("h100-sxm", NAME)  # the copy, too, says what it is held to
    return on(NAME) == on("h100-sxm")


def ask_method(moeref):
    out = moeref("predict", "--case", MODEL, "--method", NAME, "--what-if", "copied.tensor=0.5")
    return "dW1" in out and NAME in moeref("predict", "--case", MODEL + " pass=fwd",
                                       "--method", "all")


def ask_activation(moeref):
    case = f"{SMALL} act="
    return (moeref.everywhere(case + NAME)
            and moeref.tensors(case + NAME) != moeref.tensors(case + "relu"))


def ask_backend(moeref):
    return NAME in moeref.usable() and moeref.passes(SMALL + " dtype=fp32 route=uniform", NAME)


def ask_stage(moeref):
    stages = json.loads(moeref("list", "--output", "json"))["stages"]
    return [s["part_of"] for s in stages if s["name"] == NAME] == ["dX"]


def ask_recipe(moeref):
    recipes = {r["name"]: r for r in json.loads(moeref("list", "--output", "json"))["recipes"]}
    return (NAME in recipes and recipes[NAME]["points"] == recipes["moeref"]["points"]
            and moeref("check", "--backend", f"reference:bf16.{NAME}", "--recipe", NAME, "--case",
                       SMALL + " dtype=bf16"))


def ask_fault(moeref):
    """Is it caught, and named by the new hypothesis?"""
    killed = moeref("selftest", "--fault", NAME, "--dtype", "fp32")
    return re.search(rf"^named +fp32\.{NAME} +{NAME} ", killed, re.M)


# Kind, as the table calls it: what adds one, and whether the program then has it.
KINDS = {
    "family": (additions.add_family, ask_family),
    "GPU": (additions.add_gpu, ask_gpu),
    "method": (additions.add_method, ask_method),
    "score": (additions.add_value("score"), lambda moeref: moeref.same("score", "sigmoid")),
    "selection": (additions.add_value("selection"), lambda moeref: moeref.same("select", "topk")),
    "activation": (additions.add_value("activation"), ask_activation),
    "rounding": (additions.add_value("rounding"), lambda moeref: moeref.same(
        "rounding", "up", "select=token_rounding tile=4 ")),
    "backend": (additions.add_backend, ask_backend),
    "verb": (additions.add_verb, lambda moeref: moeref(NAME) == "1 copied\n"),
    "stage": (additions.add_stage, ask_stage),
    "case key": (additions.add_key, lambda moeref: moeref.passes(SMALL + " copied=1")),
    "recipe": (additions.add_recipe, ask_recipe),
    "hypothesis": (additions.add_hypothesis, ask_fault),
    "fault": (additions.add_fault, ask_fault),
    "block": (additions.add_block, lambda moeref: moeref.same("block", "rewired")),
    "edge case": (additions.add_edge_case, lambda moeref: SMALL in json.loads(
        moeref("list", "--output", "json"))["cases"]),
}


class Row:
    """A row of the page's table: how many files, their names, and what CUDA then asks for."""

    def __init__(self, count, files, then):
        self.files = (int(count), set(re.findall(r"`([^`]*)`", files)))
        cuda = re.search(r"CUDA: ([^;]*)", then)
        self.cuda = set(re.findall(r"`([^`]*)`", cuda[1])) if cuda else set()


def table_of(page):
    """Kind -> its row."""
    rows = {}
    for line in page.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].isdigit():
            rows[cells[0]] = Row(*cells[1:])
    return rows


# Nothing here compiles CUDA: what stops it is read from its files.
CUDA_ENUMS = {"score": "SCORE", "selection": "SELECT", "activation": "ACT", "rounding": "ROUND"}


def cuda_wrong(tree, table):
    """Rows that do not name the files of backends/cuda which a new value of the enum stops."""
    folder = os.path.join(tree.root, "backends/cuda")
    paths = [f"backends/cuda/{name}" for name in os.listdir(folder)]
    for kind, enum in CUDA_ENUMS.items():
        stops = re.compile(rf"case MOE_{enum}_COUNT:|static_assert\(MOE_{enum}_COUNT ==")
        found = {p for p in paths if p.endswith((".cu", ".cuh")) and stops.search(tree.read(p))}
        if kind in table and table[kind].cuda != found:
            yield (f"a new {kind} stops {sorted(found)}; CONTRIBUTING.md says "
                   f"{sorted(table[kind].cuda)}")


def as_in_table(touched):
    """Paths with NAME for what was added; a new folder is one entry."""
    named = {path.replace(NAME, "NAME") for path in touched}
    return {re.sub(r"^backends/NAME/.*", "backends/NAME/", path) for path in named}


def build(meson, root):
    for command in (["setup", "build", "-Dcuda=disabled", "-Dtests=disabled",
                     "-Dbuildtype=plain", "-Doptimization=0", "-Dwerror=true"],
                    ["compile", "-C", "build"]):
        done = subprocess.run([meson, *command], cwd=root, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"the scratch copy does not build:\n{done.stdout}{done.stderr}")


def main():
    source, meson = sys.argv[1:3]
    failed = []
    with tempfile.TemporaryDirectory(prefix="moeref-registry-") as root:
        tree = additions.Tree(source, root)
        table = table_of(tree.read("CONTRIBUTING.md"))
        if set(table) != set(KINDS):
            failed.append(f"CONTRIBUTING.md and this test differ in {set(table) ^ set(KINDS)}")
        for kind, (add, _) in KINDS.items():
            tree.touched = set()
            add(tree)
            files = as_in_table(tree.touched)
            if kind in table and table[kind].files != (len(files), files):
                failed.append(f"a new {kind} took {len(files)} files, {sorted(files)}; "
                              f"CONTRIBUTING.md says {table[kind].files}")
        failed += cuda_wrong(tree, table)
        build(meson, root)
        moeref = Program(tree)
        for kind, (_, ask) in KINDS.items():
            if not ask(moeref):
                failed.append(f"the new {kind} is not there, or does not do what it copies")
    print("\n".join(failed) or f"{len(KINDS)} kinds, each added as CONTRIBUTING.md says")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
