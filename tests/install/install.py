#!/usr/bin/env python3
"""Installs a build, moves the tree to a path with a space, and uses it as its users do.

Nothing of the build or source tree may be needed: the environment is empty, and the programs of
examples/ are built against the moved tree, by pkg-config, CMake and Meson.
"""
import argparse
import contextlib
import glob
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import threading

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
        self.program = os.path.join(self.root, options["bindir"], "moeref")

    def moeref(self, *words):
        return run(self.program, *words, cwd="/")

    def on_terminal(self, *words):
        """Standard output, and what a terminal shows of standard error."""
        mine, theirs = pty.openpty()
        shown = []

        def read():
            with contextlib.suppress(OSError):  # the other end is closed
                while some := os.read(mine, 4096):
                    shown.append(some)

        reader = threading.Thread(target=read)
        reader.start()
        out = subprocess.run([self.program, *words], stdout=subprocess.PIPE, stderr=theirs,
                             text=True, check=False, env={"OMP_NUM_THREADS": "2"}, cwd="/").stdout
        os.close(theirs)
        reader.join()
        os.close(mine)
        return out, b"".join(shown).decode()


def test_program(tree):
    """Worker, plug-ins, goldens, GPU descriptions and the faulty backend are found."""
    listed = tree.moeref("list")
    need(os.path.join(tree.lib, "moeref", "moeref-openblas.so") in listed, "list: no openblas")
    layers = tree.moeref("golden")
    need(layers.count(tree.share) > 5, f"golden layers are not of the tree:\n{layers}")
    olmoe = os.path.join(tree.share, "moeref", "golden", "hf", "olmoe")
    said, progress = tree.on_terminal("validate", "--backend", "openblas", "--hf", olmoe,
                                      "--repeat", "1", "--html",
                                      os.path.join(tree.root, "report.html"))
    need("is it right on T=1024" in progress and "run 1 of 2" in progress,
         f"no progress while it times: {progress!r}")
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


def test_manuals(tree):
    """A page for the program and for each verb, without a word that troff does not know."""
    verbs = re.findall(r"^  (\w+) +\S", tree.moeref("--help"), re.M)
    verbs = sorted({v for v in verbs if v != "help"})
    need(len(verbs) > 9, f"--help lists {verbs}")
    for page in ["moeref.1"] + [f"moeref-{verb}.1" for verb in verbs]:
        path = os.path.join(tree.man, page)
        need(os.path.isfile(path), f"{page} is not installed")
        if shutil.which("groff"):
            got = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", path],
                                 capture_output=True,
                                 text=True, check=True)
            need(not got.stderr and "NAME" in got.stdout, f"{page}: {got.stderr}")
    options = set(re.findall(r"^  (--[\w-]+)", tree.moeref("check", "--help"), re.M)) - {"--help"}
    with open(os.path.join(tree.man, "moeref-check.1"), encoding="utf-8") as file:
        page = file.read().replace("\\-", "-")
    need(all(f"\\fB{o}\\fR" in page for o in options), "moeref-check.1 lacks an option")


def test_completion(tree):
    """bash completes verbs, options and their words; zsh and fish take their scripts."""
    script = os.path.join(tree.share, "bash-completion", "completions", "moeref")

    def complete(*words):
        array = " ".join(f"'{w}'" for w in words)
        return run("bash", "-c", f"compopt() {{ :; }}; . '{script}'; "
                   f"COMP_WORDS=('{tree.program}' {array}); "
                   f"COMP_CWORD={len(words)}; _moeref; echo ${{COMPREPLY[*]}}").split()

    need(complete("val") == ["validate"], complete("val"))
    need(complete("check", "--no-") == ["--no-explanation", "--no-isolation"], "check --no-")
    need(complete("check", "--output", "") == ["text", "json"], "check --output")
    need("case" in complete("help", ""), "help")
    need(complete("predict", "--method", "so") == ["sonicmoe"], "predict --method")
    need("h100-sxm" in complete("predict", "--gpu", "h100"), "predict --gpu")
    need("openblas" in complete("check", "--backend", ""), "check --backend")
    others = {"zsh": os.path.join(tree.share, "zsh", "site-functions", "_moeref"),
              "fish": os.path.join(tree.share, "fish", "vendor_completions.d", "moeref.fish")}
    for shell, path in others.items():
        with open(path, encoding="utf-8") as file:
            need("dump-on-fail" in file.read(), f"{shell} completes no --dump-on-fail")
        if shutil.which(shell):
            run(shell, "-n", path)


def exported(path):
    table = run("nm", "-D", "--defined-only", path)
    return [line.split()[-1] for line in table.splitlines()]


def test_exports(tree):
    """What the library shows begins with moe_, and is not its own; a plug-in shows its table."""
    names = exported(os.path.join(tree.lib, "libmoeref.so"))
    wrong = [n for n in names if not n.startswith("moe_") or n.startswith("moe_int_")]
    need(len(names) > 100 and not wrong, f"exported: {wrong}")
    plugins = glob.glob(os.path.join(glob.escape(tree.lib), "moeref", "*.so"))
    need(len(plugins) > 1, plugins)
    for path in plugins:
        names = exported(path)
        need(names in (["moe_plugin_v"], ["moe_transport_v"]), f"{path} exports {names}")


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
    shutil.copy(os.path.join(root, "examples", "layer.c"), scratch)  # beside it, as in the tree
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
        for test, more in ((test_program, ()), (test_files, ()),
                           (test_manuals, ()), (test_completion, ()),
                           (test_exports, ()), (test_pkg_config, (examples, scratch)),
                           (test_cmake, (examples, scratch))):
            test(tree, *more)
            print(f"ok {test.__name__}", flush=True)
        test_subproject(root, scratch)
        print("ok test_subproject")


if __name__ == "__main__":
    main()
