"""Every relative link of a Markdown file leads somewhere. Usage: markdown_links.py SOURCE_ROOT"""
import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
CODE = re.compile(r"^```.*?^```", re.S | re.M)


def is_ours(parts):
    return not any(part.startswith((".", "build")) for part in parts)


def markdown(root):
    return [path for path in root.rglob("*.md") if is_ours(path.relative_to(root).parts)]


def broken(path):
    links = LINK.findall(CODE.sub("", path.read_text()))
    return [x for x in links if "://" not in x and not (path.parent / x).exists()]


def main(root):
    wrong = [f"{path}: {link}" for path in markdown(root) for link in broken(path)]
    sys.exit("\n".join(wrong) or 0)


main(Path(sys.argv[1]))
