#!/usr/bin/env python3
"""Checks what clang-format does not: widths, names, include circles, the folder list, links.

Each rule is a function that yields (file, line, sentence); its first line says why it is there.
Only tracked files are read. Prints FILE:LINE: sentence for each finding, and exits with 1 if there
is any.
"""
import argparse
import os
import re
import subprocess
import sys

WIDTH = 100
C_ENDINGS = (".c", ".h", ".cu", ".cuh", ".c.in", ".h.in")
CODE_ENDINGS = C_ENDINGS + (".py", "meson.build", "meson_options.txt", "dev", ".ci/run")
INCLUDE_ROOTS = ("src/include", "src", "", "tests/unit")
# Folder -> what the names of its functions start with, where no public header declares them.
PREFIXES = (("src/cli/", "cli_"), ("src/", "moe_int_"), ("sim/", "moe_int_"),
            ("backends/openblas/", "ob_"), ("backends/faulty/", "fy_"))


class Tree:
    """The tracked files that are there, with their text."""

    def __init__(self, root):
        self.root = root
        self.paths = [p for p in self.listed() if os.path.isfile(os.path.join(root, p))]
        self.texts = {}

    def listed(self):
        if os.path.exists(os.path.join(self.root, ".git")):
            return subprocess.run(["git", "ls-files"], cwd=self.root, check=True, text=True,
                                  capture_output=True).stdout.splitlines()
        found = []  # an unpacked archive: all but what .gitignore names
        for folder, folders, files in os.walk(self.root):
            folders[:] = [f for f in folders if not re.match(r"build|\.git$|__pycache__", f)]
            found += [os.path.relpath(os.path.join(folder, f), self.root) for f in files]
        return sorted(found)

    def some(self, *endings, under=""):
        return [p for p in self.paths if p.endswith(endings) and p.startswith(under)]

    def text(self, path):
        if path not in self.texts:
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                self.texts[path] = file.read()
        return self.texts[path]

    def lines(self, path):
        return enumerate(self.text(path).split("\n"), 1)

    def code(self, path):
        """C without comments and string literals, line numbers kept."""
        blank = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
        return blank.sub(lambda m: '""' if m[0][0] == '"' else "\n" * m[0].count("\n"),
                         self.text(path))


def formatted(tree, path):
    """Lines of code, without tables of one line a row that clang-format leaves alone."""
    off = False
    for number, line in tree.lines(path):
        off = ("clang-format off" in line or off) and "clang-format on" not in line
        if not off:
            yield number, line


def prose(tree, path):
    """Lines of a Markdown file outside code blocks and tables."""
    in_block = False
    for number, line in tree.lines(path):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block and not line.startswith("|"):
            yield number, line


def rule_width(tree):
    """Two files fit side by side. A link cannot be broken; tables and code blocks stay whole."""
    for path in tree.some(*CODE_ENDINGS, ".md"):
        for number, line in (prose if path.endswith(".md") else formatted)(tree, path):
            if len(line) > WIDTH and not re.search(r"https?://", line):
                yield path, number, f"{len(line)} columns, at most {WIDTH} allowed"


def rule_blanks(tree):
    """Invisible differences make noise in diffs."""
    for path in tree.some(*CODE_ENDINGS, ".md"):
        for number, line in tree.lines(path):
            if line != line.rstrip():
                yield path, number, "trailing blanks"
            if "\t" in line:
                yield path, number, "a tab; indent with spaces and write \\t in strings"
        text = tree.text(path)
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield path, text.count("\n") + 1, "a file ends in exactly one newline"


def line_of(text, match):
    return text.count("\n", 0, match.start(1)) + 1


def rule_public_names(tree):
    """Whoever includes a public header gets names of ours only."""
    named = re.compile(r"^#define (\w+)|\b(?:struct|enum|union) (\w+)|^}\s*(\w+);"
                       r"|^ {4}([A-Z]\w*)(?: = |,|$)|^MOE_API[^;(]*?(\w+)\(", re.M)
    for path in tree.some(".h", ".h.in", under="src/include/"):
        text = tree.code(path)
        for match in named.finditer(text):
            name = next(group for group in match.groups() if group)
            if not re.match(r"moe_|MOE_|MOEREF_", name):
                line = text.count("\n", 0, match.start()) + 1
                yield path, line, f"public name {name}: must start with moe_ or MOE_"


def rule_thread_safety(tree):
    """Whoever shares an object between threads must not have to read its code."""
    for path in tree.some(".h", under="src/include/"):
        comment = ""
        for number, line in tree.lines(path):
            if line.startswith("typedef struct") and "Thread-safety:" not in comment:
                yield path, number, "its comment lacks a line Thread-safety: ..."
            comment = comment + line if line.startswith(("/*", " *")) else ""


def public_functions(tree):
    return {name for path in tree.some(".h", ".h.in", under="src/include/")
            for name in re.findall(r"\b(moe_\w+)\(", tree.code(path))}


def rule_internal_names(tree):
    """In a static library all names meet; a prefix tells whose a function is."""
    public = public_functions(tree)
    function = re.compile(
        r"^(?!.*\b(?:static|typedef|return|\w*_INLINE)\b)\w[\w *]*[ *](\w+)\(", re.M)
    alias = re.compile(r"^#define (\w+)\s+\w+\((moe_int_\w+)\)", re.M)
    named = {m[1] for p in tree.some(".c", ".h") for m in alias.finditer(tree.code(p))}
    for path in tree.some(".c", ".h"):
        prefix = next((p for folder, p in PREFIXES if path.startswith(folder)), None)
        if not prefix or path.startswith("src/include/") or path == "sim/gpus/embed.c":
            continue
        text = tree.code(path)
        for match in function.finditer(text):
            name = match[1]
            if not name.startswith(prefix) and name not in public | named | {"main"}:
                yield path, line_of(text, match), f"{name}: must be static or start with {prefix}"


def rule_status_names(tree):
    """One name for one thing; a second one says in a word whose it is (worst, want)."""
    variable = re.compile(r"\bmoe_status (\w+)\s*(?:=|;|\)|,(?:\s*(\w+)\s*[=;])?)")
    for path in tree.some(".c", ".h", ".cu", ".cuh"):
        text = tree.code(path)
        for match in variable.finditer(text):
            for name in filter(None, match.groups()):
                if len(name) < 4 or name in ("code", "error", "result"):
                    yield path, line_of(text, match), f"moe_status {name}: call it status"


def rule_own_header_first(tree):
    """A header that is included first shows that it needs nothing before it."""
    for path in tree.some(".c", ".cu"):
        names = re.findall(r'^#include ["<]([^">]+)[">]', tree.text(path), re.M)
        own = path.rsplit(".", 1)[0] + ".h"
        mine = [n for n in names if own in (n, "src/" + n, os.path.dirname(path) + "/" + n)]
        if mine and names[0] != mine[0]:
            yield path, 1, f'its own header "{mine[0]}" is not the first include'


def include_edges(tree):
    """(file, line, file that it includes), for headers of this tree."""
    known = set(tree.paths) | {p[:-len(".in")] for p in tree.paths if p.endswith(".h.in")}
    for path in tree.some(*C_ENDINGS):
        here = os.path.dirname(path)
        for number, line in tree.lines(path):
            match = re.match(r'#include "([^"]+)"', line)
            for root in (here,) + INCLUDE_ROOTS if match else ():
                target = os.path.normpath(os.path.join(root, match[1]))
                if target in known:
                    yield path, number, target
                    break


def find_circle(arrows):
    """Some path a, b ... a along arrows {a: {b: where}}, or None."""
    done = set()

    def walk(node, trail):
        if node in trail:
            return trail[trail.index(node):] + [node]
        if node not in done:
            for target in sorted(arrows.get(node, {})):
                circle = walk(target, trail + [node])
                if circle:
                    return circle
            done.add(node)
        return None

    return next(filter(None, (walk(node, []) for node in sorted(arrows))), None)


def circles(edges, kind):
    """One finding for each circle; its last arrow is taken out to find the next."""
    arrows = {}
    for source, target, where in edges:
        if source != target:
            arrows.setdefault(source, {}).setdefault(target, where)
    while circle := find_circle(arrows):
        path, number = arrows[circle[-2]].pop(circle[-1])
        ways = " -> ".join(circle)
        yield path, number, f"{kind} include each other in a circle: {ways}"


def rule_circles(tree):
    """A room can be understood, tested and thrown away only if arrows lead one way."""
    found = list(include_edges(tree))
    yield from circles([(a, b, (a, n)) for a, n, b in found if ".h" in a or ".cuh" in a], "headers")
    folders = [(os.path.dirname(a), os.path.dirname(b), (a, n)) for a, n, b in found]
    yield from circles(folders, "folders")


def drawn_folders(tree):
    """{folder: line} of the README's drawing: two blanks of indent a level, "name/   what"."""
    drawn, trail, here = {}, [], False
    for number, line in tree.lines("README.md"):
        if line.startswith("## "):
            here = line == "## Where things are"
        match = re.match(r"( *)(\S+)/  +\S", line) or re.match(r"( *)(\S+)/$", line)
        if here and match:
            trail[len(match[1]) // 2:] = [match[2]]
            drawn["/".join(trail)] = number
    return drawn


def rule_folder_list(tree):
    """Whoever looks for a thing starts at the drawing: every folder with code, each golden kind."""
    code = {os.path.dirname(p) for p in tree.some(*C_ENDINGS, ".py", "meson.build")} - {""}
    golden = {"/".join(p.split("/")[:2]) for p in tree.paths if re.match("golden/[^/]+/", p)}
    drawn = drawn_folders(tree)
    for folder in sorted((code | golden) - set(drawn)):
        yield "README.md", 1, f'{folder}/ is not in the drawing of "Where things are"'
    for folder, number in drawn.items():
        if not os.path.isdir(os.path.join(tree.root, folder)):
            yield "README.md", number, f"{folder}/ does not exist"


def rule_links(tree):
    """A page that leads nowhere is worse than none."""
    for path in tree.some(".md"):
        for number, line in prose(tree, path):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                file = os.path.join(tree.root, os.path.dirname(path), target)
                if not re.match(r"\w+:", target) and not os.path.exists(file):
                    yield path, number, f"link to {target}, which does not exist"


def rule_machine_paths(tree):
    """Folders of one machine mean nothing on another."""
    for path in tree.some(*CODE_ENDINGS, ".md", ".json", ".txt"):
        for number, line in tree.lines(path):
            match = re.search(r"(?<![\w.])/(?:tmp|work|home|root)/", line)
            if match and path != "tests/style/style.py":
                yield path, number, f"{match[0]} is a folder of one machine"


def rule_build_entered(tree):
    """A folder's meson.build that no other enters builds nothing and tests nothing."""
    text = {os.path.dirname(p): tree.text(p) for p in tree.some("meson.build")}
    for folder in sorted(f for f in text if f and "project(" not in text[f]):
        above = [a for a in text if a != folder and (not a or folder.startswith(a + "/"))]
        if not any(f"'{os.path.relpath(folder, a or '.')}'" in text[a] for a in above):
            yield folder + "/meson.build", 1, "is entered by no other meson.build"


def rule_cuda_headers(tree):
    """What nvcc compiled is compiled again when one of its headers changes."""
    folder = "backends/cuda"
    arrows = {}
    for path, _, target in include_edges(tree):
        arrows.setdefault(path, []).append(target)
    reached, ways = set(), tree.some(".cu", under=folder)
    while ways:
        new = set(arrows.get(ways.pop(), ())) - reached
        reached |= new
        ways += new
    listed = {os.path.normpath(os.path.join(folder, name))
              for name in re.findall(r"'([\w./]+\.c?u?h)'", tree.text(folder + "/meson.build"))}
    for path in sorted(reached ^ listed):
        yield folder + "/meson.build", 1, (f"does not list {path}, which a .cu file includes"
                                           if path in reached else f"lists {path} for nothing")


def rule_umbrella(tree):
    """moeref.h is all that a program may call; plugin.h is for authors of backends."""
    folder, umbrella = "src/include/moeref/", "src/include/moeref.h"
    there = {os.path.basename(p) for p in tree.some(".h", under=folder)} - {"plugin.h"}
    named = set(re.findall(r'#include "moeref/(\w+\.h)"', tree.text(umbrella)))
    for name in sorted(there ^ named):
        yield umbrella, 1, f"moeref/{name} is {'not included' if name in there else 'no header'}"


def rule_exports(tree, library):
    """What the shared library shows is a promise: the public functions and nothing else."""
    public = public_functions(tree)
    table = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                           capture_output=True, text=True).stdout
    for name in [line.split()[-1] for line in table.splitlines()]:
        if name not in public:
            yield library, 1, f"exports {name}, which no public header declares"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=os.path.join(os.path.dirname(__file__), "..", ".."),
                        help="the tree to read (default: the one that this file is in)")
    parser.add_argument("--library", help="also check what this libmoeref.so exports")
    options = parser.parse_args()
    tree = Tree(os.path.abspath(options.root))
    found = []
    for name, rule in sorted(globals().items()):
        if name.startswith("rule_") and rule is not rule_exports:
            found += rule(tree)
    if options.library:
        found += rule_exports(tree, options.library)
    for path, number, sentence in found:
        print(f"{path}:{number}: {sentence}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
