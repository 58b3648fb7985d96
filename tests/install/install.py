#!/usr/bin/env python3
"""Installs a build, moves the tree to a path with a space, and uses it as its users do.

Nothing of the build or source tree may be needed: the environment is empty, and the programs of
examples/ are built against the moved tree, by pkg-config, CMake and Meson.
"""
import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

CASE = "T=40 d=32 n=24 E=5 K=2 dtype=fp32 renorm=1 seed=3"
SAMPLE = re.compile(r"openblas, moeref [\d.]+: O\[0, 0\] = -?\d\.\d{6}, dW1\[0, 0, 0\] = -?\d")


def run(*command, **more):
    """Its standard output; a failure ends the test with what it printed."""
    more = {"env": {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "2"}, **more}
    got = subprocess.run(command, capture_output=True, text=True, **more)
    if got.returncode:
        sys.exit(f"FAILED ({got.returncode}): {' '.join(command)}\n{got.stdout}{got.stderr}")
    return got.stdout


def need(condition, sentence):
    if not condition:
        sys.exit(f"FAILED: {sentence}")


class Tree:
    """An installed tree that was moved to another folder since."""

    def __init__(self, build, scratch):
        options = {o["name"]: o["value"] for o in json.loads(run("meson", "introspect", build,
                                                                 "--buildoptions"))}
        staged = os.path.join(scratch, "staged")
        run("meson", "install", "-C", build, "--quiet", "--no-rebuild",
            env={**os.environ, "DESTDIR": staged})
        self.root = os.path.join(scratch, "moved to here")
        shutil.move(staged + options["prefix"], self.root)
        self.lib = os.path.join(self.root, options["libdir"])
        self.share = os.path.join(self.root, options["datadir"])
        self.man = os.path.join(self.root, options["mandir"], "man1")
        self.include = os.path.join(self.root, options["includedir"])
        self.program = os.path.join(self.root, options["bindir"], "moeref")

    def moeref(self, *words):
        return run(self.program, *words, cwd="/")


def test_program(tree):
    """Worker, plug-ins, goldens, GPU descriptions and the faulty backend are found."""
    listed = tree.moeref("list")
    need(os.path.join(tree.lib, "moeref", "moeref-openblas.so") in listed, "list: no openblas")
    layers = tree.moeref("golden")
    need(layers.count(tree.share) > 5, f"golden layers are not of the tree:\n{layers}")
    olmoe = os.path.join(tree.share, "moeref", "golden", "hf", "olmoe")
    said = tree.moeref("validate", "--backend", "openblas", "--hf", olmoe, "--repeat", "1",
                       "--html", os.path.join(tree.root, "report.html"))
    need("olmoe" in said and said.endswith("\nVALID\n"), said)
    need("<html" in open(os.path.join(tree.root, "report.html"), encoding="utf-8").read(4096),
         "the report is no page")
    tree.moeref("check", "--backend", "openblas", "--case", CASE)
    tree.moeref("predict", "--gpu", "h100-pcie", "--case", CASE.replace("fp32", "bf16"))
    tree.moeref("predict", "--case", CASE.replace("fp32", "bf16"), "--gpu",
                os.path.join(tree.share, "moeref", "gpus", "h100-sxm.json"))
    need("renorm_missing" in tree.moeref("selftest", "--list"), "selftest lists no fault")
    said = tree.moeref("selftest", "--dtype", "fp32", "--fault", "renorm_missing")
    need(" 1 " in said and "SURVIVED" not in said, said)


def test_files(tree):
    """Licence, pages, manuals and completions are there, and say what --help says."""
    doc = os.path.join(tree.share, "doc", "moeref")
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "backends/README.md"):
        need(os.path.isfile(os.path.join(doc, name)), f"{name} is not installed")
    for name in ("gpus/template.json", "moeref.schema.json", "golden/edge/uniform.safetensors"):
        need(os.path.isfile(os.path.join(tree.share, "moeref", name)), f"{name} is not installed")


def test_headers(tree):
    """moeref.h includes every public header but the one for authors of backends."""
    text = open(os.path.join(tree.include, "moeref.h"), encoding="utf-8").read()
    there = {os.path.basename(p) for p in glob.glob(os.path.join(tree.include, "moeref", "*.h"))}
    named = set(re.findall(r'#include "moeref/(\w+\.h)"', text))
    need(named == there - {"plugin.h"}, f"moeref.h and the headers differ: {named ^ there}")


def test_exports(tree):
    """What the library shows begins with moe_, and is not the library's own."""
    table = run("nm", "-D", "--defined-only", os.path.join(tree.lib, "libmoeref.so"))
    names = [line.split()[-1] for line in table.splitlines()]
    wrong = [n for n in names if not n.startswith("moe_") or n.startswith("moe_int_")]
    need(len(names) > 100 and not wrong, f"exported: {wrong}")


def check_sample(program, tree):
    said = run(program, env={"LD_LIBRARY_PATH": tree.lib})
    need(SAMPLE.match(said), f"{program} printed {said!r}")


def test_pkg_config(tree, examples, scratch):
    environment = {**os.environ, "PKG_CONFIG_PATH": os.path.join(tree.lib, "pkgconfig")}
    program = os.path.join(scratch, "by-pkg-config")
    run("sh", "-c", 'eval "cc -std=c11 -Wall -Wextra -Werror $0 -o $1 '
        '$(pkg-config --cflags --libs moeref)"', os.path.join(examples, "layer.c"), program,
        env=environment)
    check_sample(program, tree)


def test_cmake(tree, examples, scratch):
    built = os.path.join(scratch, "by cmake")
    run("cmake", "-S", os.path.join(examples, "cmake"), "-B", built,
        f"-DCMAKE_PREFIX_PATH={tree.root}")
    run("cmake", "--build", built)
    check_sample(os.path.join(built, "layer"), tree)
    script = os.path.join(scratch, "too_new.cmake")
    with open(script, "w", encoding="utf-8") as file:
        file.write("set(PACKAGE_FIND_VERSION 0.99)\nset(PACKAGE_FIND_VERSION_MAJOR 0)\n"
                   "set(PACKAGE_FIND_VERSION_MINOR 99)\n"
                   f'include("{tree.lib}/cmake/moeref/moerefConfigVersion.cmake")\n'
                   "if(PACKAGE_VERSION_COMPATIBLE)\nmessage(FATAL_ERROR served)\nendif()\n")
    run("cmake", "-P", script)


def test_subproject(root, scratch):
    """The dependency of the tree as a subproject, configured; its sources are built elsewhere."""
    project = os.path.join(scratch, "by-meson")
    shutil.copytree(os.path.join(root, "examples", "subproject"), project)
    shutil.copy(os.path.join(root, "examples", "layer.c"), project)
    os.mkdir(os.path.join(project, "subprojects"))
    os.symlink(root, os.path.join(project, "subprojects", "moeref"))
    said = run("meson", "setup", "build", "--wrap-mode=forcefallback", cwd=project,
               env=dict(os.environ))
    need(re.search(r"Dependency moeref found: YES [\d.]+ \(overridden\)", said), said)
    rules = run("ninja", "-C", "build", "-t", "query", "layer", cwd=project)
    need("libmoeref.so" in rules, rules)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("root", help="the source tree")
    parser.add_argument("build", help="a build tree of it")
    args = parser.parse_args()
    root, build = os.path.abspath(args.root), os.path.abspath(args.build)
    examples = os.path.join(root, "examples")
    with tempfile.TemporaryDirectory() as scratch:
        tree = Tree(build, scratch)
        for test, more in ((test_program, ()), (test_files, ()), (test_headers, ()),
                           (test_exports, ()), (test_pkg_config, (examples, scratch)),
                           (test_cmake, (examples, scratch))):
            test(tree, *more)
            print(f"ok {test.__name__}", flush=True)
        test_subproject(root, scratch)
        print("ok test_subproject")


if __name__ == "__main__":
    main()
