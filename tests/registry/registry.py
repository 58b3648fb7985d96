#!/usr/bin/env python3
"""Adds one of each kind to a scratch copy, builds it and asks the program for every addition.

The files that an addition took must be those that the table of CONTRIBUTING.md names, no more and
no fewer. What is added is called "copied": mostly a copy of something that is there, whose results
it must then repeat.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

NAME = "copied"
SMALL = "T=24 d=16 n=8 E=8 K=2 seed=3"
MODEL = "T=4096 d=2048 n=768 E=64 K=8"


class Tree:
    """A copy of the source tree, and what was touched in it since `touched` was emptied."""

    def __init__(self, source, root):
        self.root = root
        self.touched = set()
        for path in self.listed(source):
            if os.path.isfile(os.path.join(source, path)):
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                shutil.copy(os.path.join(source, path), os.path.join(root, path))

    @staticmethod
    def listed(source):
        if os.path.exists(os.path.join(source, ".git")):
            return subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=source,
                                  check=True, text=True, capture_output=True).stdout.splitlines()
        found = []  # an unpacked archive: all but build folders
        for folder, folders, files in os.walk(source):
            folders[:] = [f for f in folders if not re.match(r"build|__pycache__", f)]
            found += [os.path.relpath(os.path.join(folder, f), source) for f in files]
        return found

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    def write(self, path, text):
        os.makedirs(os.path.dirname(os.path.join(self.root, path)), exist_ok=True)
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(text)
        self.touched.add(path)

    def edit(self, path, old, new):
        """Replaces `old`, which stands there once: else this test must follow the file."""
        text = self.read(path)
        if text.count(old) != 1:
            sys.exit(f"{path} has {text.count(old)} places {old!r}; tests/registry expects one")
        self.write(path, text.replace(old, new))

    def copy(self, path, new_path, *replaced):
        text = self.read(path)
        for old, new in replaced:
            if old not in text:
                sys.exit(f"{path} has no {old!r}; tests/registry expects it")
            text = text.replace(old, new)
        self.write(new_path, text)


# What is edited for a value of an enum: file, text that stands there once, text put before it.
LAYER, KEYS = "src/include/moeref/layer.h", "src/layer/case_keys.c"
VALUES = {
    "score": [
        (LAYER, "    MOE_SCORE_COUNT\n", "    MOE_SCORE_COPIED,\n"),
        (KEYS, 'N("sparsemixer", MOE_SCORE_SPARSEMIXER)', 'N("copied", MOE_SCORE_COPIED) '),
        ("src/route/score.c", "    [MOE_SCORE_SPARSEMIXER] =",
         "    [MOE_SCORE_COPIED] = {sigmoid_all, sigmoid_weigh, sigmoid_backward},\n"),
    ],
    "selection": [
        (LAYER, "    MOE_SELECT_COUNT\n", "    MOE_SELECT_COPIED,\n"),
        (KEYS, 'N("token_rounding", MOE_SELECT_TOKEN_ROUNDING)',
         'N("copied", MOE_SELECT_COPIED) '),
        ("src/route/select.c", "    [MOE_SELECT_CAPACITY] =",
         "    [MOE_SELECT_COPIED] = {choose_topk, 0},\n"),
    ],
    "activation": [
        (LAYER, "    MOE_ACT_COUNT\n", "    MOE_ACT_COPIED,\n"),
        (KEYS, 'N("silu", MOE_ACT_SILU)', 'N("copied", MOE_ACT_COPIED) '),
        ("src/reference/activation.c", "    case MOE_ACT_RELU2:\n",
         "    case MOE_ACT_COPIED: /* the identity */\n        *slope = 1;\n        return x;\n"),
    ],
    "rounding": [
        (LAYER, "    MOE_ROUND_COUNT\n", "    MOE_ROUND_COPIED,\n"),
        (KEYS, 'N("balance", MOE_ROUND_BALANCE)', 'N("copied", MOE_ROUND_COPIED) '),
        ("src/route/rounding.c", "    case MOE_ROUND_UP:\n", "    case MOE_ROUND_COPIED:\n"),
    ],
}


def add_value(kind):
    def add(tree):
        for path, place, text in VALUES[kind]:
            tree.edit(path, place, text + place)
    return add


def add_family(tree):
    path = "src/hf/families.c"
    row = re.search(r'    \{\n        \.model_type = "mixtral",.*?\n    \},\n', tree.read(path),
                    re.S)
    tree.edit(path, row[0], row[0] + row[0].replace('"mixtral"', '"copied"'))


def add_gpu(tree):
    tree.copy("sim/gpus/h100-sxm.json", "sim/gpus/copied.json",
              ('"name": "h100-sxm"', '"name": "copied"'))


def add_method(tree):
    tree.copy("sim/methods/cublas.c", "sim/methods/copied.c",
              ("moe_int_method_cublas", "moe_int_method_copied"))
    tree.edit("sim/gpus/systems.h", "    SYSTEM(MOEREF, moeref)",
              "    SYSTEM(COPIED, copied) \\\n    SYSTEM(MOEREF, moeref)")


def add_backend(tree):
    tree.copy("backends/example/example.c", "backends/copied/copied.c", ("example", "copied"))
    tree.copy("backends/example/meson.build", "backends/copied/meson.build",
              ("moe_example", "moeref-copied"), ("example", "copied"))
    tree.edit("backends/meson.build", "subdir('example')\n",
              "subdir('example')\nsubdir('copied')\n")


def add_verb(tree):
    tree.write("src/cli/verbs/copied.c", """#include "cli/verbs/verbs.h"

#include <stdio.h>

int cli_copied(int argc, char **argv) {
    return printf("%d %s\\n", argc, argv[0]) < 0;
}
""")
    tree.edit("src/cli/verbs/verbs.h", "int cli_list(",
              "int cli_copied(int argc, char **argv);\nint cli_list(")
    tree.edit("src/cli/verbs/meson.build", "  'check.c',\n", "  'check.c',\n  'copied.c',\n")
    tree.edit("src/cli/main.c", '    {"list", ', '    {"copied", "repeats its name", cli_copied},\n'
              '    {"list", ')


def add_stage(tree):
    tree.edit("src/include/moeref/stage.h", "    MOE_STAGE_COUNT\n",
              "    MOE_STAGE_COPIED,\n    MOE_STAGE_COUNT\n")
    tree.edit("src/layer/stages.c", "    PART(SORT, ",
              '    PART(COPIED, "copied", BWD, NONE, DX),\n    PART(SORT, ')


def add_key(tree):
    tree.edit("src/include/moeref/case.h", "} moe_case;\n", "    int32_t copied;\n} moe_case;\n")
    tree.edit(KEYS, '    KEY("pass", ', '    KEY("copied", "      ", FLAG, copied, NO, "0", '
              '"1: nothing") \\\n    KEY("pass", ')


def add_edge_case(tree):
    tree.edit("src/suite/suite.c", "    C(one_token,  ", f'    C(copied, 0, "{SMALL}") \\\n'
              "    C(one_token,  ")


class Program:
    """The program that the scratch copy made."""

    def __init__(self, tree):
        self.tree = tree
        self.path = os.path.join(tree.root, "build/src/cli/moeref")
        self.env = dict(os.environ, MOEREF_GOLDEN=os.path.join(tree.root, "golden"),
                        MOEREF_BACKEND_PATH=os.path.join(tree.root, "build/backends/copied"))

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
        return self.passes(case + NAME) and self.tensors(case + NAME) == self.tensors(case + value)


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
        return moeref("predict", "--case", MODEL, "--gpu", gpu, "--method", "all")
    return on(NAME) == on("h100-sxm").replace("h100-sxm", NAME)


def ask_method(moeref):
    out = moeref("predict", "--case", MODEL, "--method", NAME, "--what-if", "copied.tensor=0.5")
    return "dW1" in out and NAME in moeref("predict", "--case", MODEL, "--method", "all")


def ask_activation(moeref):
    case = f"{SMALL} act="
    return (moeref.passes(case + NAME)
            and moeref.tensors(case + NAME) != moeref.tensors(case + "relu"))


def ask_backend(moeref):
    listed = {b["name"]: b["usable"]
              for b in json.loads(moeref("list", "--output", "json"))["backends"]}
    return listed.get(NAME) and moeref.passes(SMALL + " dtype=fp32 route=uniform", NAME)


def ask_stage(moeref):
    stages = json.loads(moeref("list", "--output", "json"))["stages"]
    return [s["part_of"] for s in stages if s["name"] == NAME] == ["dX"]


# Kind, as the table calls it: what adds one, and whether the program then has it.
KINDS = {
    "family": (add_family, ask_family),
    "GPU": (add_gpu, ask_gpu),
    "method": (add_method, ask_method),
    "score": (add_value("score"), lambda moeref: moeref.same("score", "sigmoid")),
    "selection": (add_value("selection"), lambda moeref: moeref.same("select", "topk")),
    "activation": (add_value("activation"), ask_activation),
    "rounding": (add_value("rounding"), lambda moeref: moeref.same(
        "rounding", "up", "select=token_rounding tile=4 ")),
    "backend": (add_backend, ask_backend),
    "verb": (add_verb, lambda moeref: moeref(NAME) == "1 copied\n"),
    "stage": (add_stage, ask_stage),
    "case key": (add_key, lambda moeref: moeref.passes(SMALL + " copied=1")),
    "edge case": (add_edge_case, lambda moeref: SMALL in json.loads(
        moeref("list", "--output", "json"))["cases"]),
}


def table_of(page):
    """Kind -> (number of files, their names) as the page's table has them."""
    rows = {}
    for line in page.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].isdigit():
            rows[cells[0]] = (int(cells[1]), set(re.findall(r"`([^`]*)`", cells[2])))
    return rows


def as_in_table(touched):
    """Paths with NAME for what was added; a new folder is one entry."""
    named = {path.replace(NAME, "NAME") for path in touched}
    return {re.sub(r"^backends/NAME/.*", "backends/NAME/", path) for path in named}


def main():
    source, meson = sys.argv[1:3]
    failed = []
    with tempfile.TemporaryDirectory(prefix="moeref-registry-") as root:
        tree = Tree(source, root)
        table = table_of(tree.read("CONTRIBUTING.md"))
        if set(table) != set(KINDS):
            failed.append(f"CONTRIBUTING.md and this test differ in {set(table) ^ set(KINDS)}")
        for kind, (add, _) in KINDS.items():
            tree.touched = set()
            add(tree)
            files = as_in_table(tree.touched)
            if table.get(kind) != (len(files), files):
                failed.append(f"a new {kind} took {len(files)} files, {sorted(files)}; "
                              f"CONTRIBUTING.md says {table.get(kind)}")
        subprocess.run([meson, "setup", "build", "-Dcuda=disabled", "-Dopenblas=disabled",
                        "-Dtests=disabled", "-Dbuildtype=plain", "-Doptimization=0",
                        "-Dwerror=true"], cwd=root, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([meson, "compile", "-C", "build", "moeref:executable", "moeref-copied"],
                       cwd=root, check=True, stdout=subprocess.DEVNULL)
        moeref = Program(tree)
        for kind, (_, ask) in KINDS.items():
            if not ask(moeref):
                failed.append(f"the new {kind} is not there, or does not do what it copies")
    print("\n".join(failed) or f"{len(KINDS)} kinds, each added as CONTRIBUTING.md says")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
