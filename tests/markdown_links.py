"""Every relative link of a Markdown file leads somewhere, and what a diff in it adds is in the file
that it names. Usage: markdown_links.py SOURCE_ROOT"""
import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
DIFF = re.compile(r"^ *```diff\n(.*?)^ *```", re.S | re.M)
CODE = re.compile(r"^```.*?^```", re.S | re.M)


def is_ours(parts):
    return not any(part.startswith((".", "build")) for part in parts)


def markdown(root):
    return [path for path in root.rglob("*.md") if is_ours(path.relative_to(root).parts)]


def broken(path):
    links = LINK.findall(CODE.sub("", path.read_text()))
    return [x for x in links if "://" not in x and not (path.parent / x).exists()]


def untrue(root, path):
    """Lines of diffs that their files do not have; a line of a list may go on there."""
    for block in DIFF.findall(path.read_text()):
        text = ""
        for line in block.splitlines():
            words = line.strip()
            if words.startswith("--- a/"):
                text = (root / words[6:]).read_text()
            elif words.startswith("+") and words[1:].strip() not in text:
                yield words


def main(root):
    wrong = [f"{path}: {link}" for path in markdown(root) for link in broken(path)]
    wrong += [f"{path}: no such line: {x}" for path in markdown(root) for x in untrue(root, path)]
    sys.exit("\n".join(wrong) or 0)


main(Path(sys.argv[1]))
