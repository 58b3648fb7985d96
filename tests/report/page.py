#!/usr/bin/env python3
"""The HTML report as a file: it needs nothing else, escapes everything, and is whole or absent."""
import html.parser
import os
import subprocess
import sys
import tempfile

CASE = "T=40 d=24 n=16 E=4 K=2 renorm=1 seed=3"
# What a file's name may hold: markup, quotes, an escape sequence, a byte that is not UTF-8.
HOSTILE = b"<img src=x onerror=console.error(1)>'\"&\x1b[31m\xff.safetensors"
VOID = {"meta", "link", "img", "br", "path", "line", "rect", "input"}


class Page(html.parser.HTMLParser):
    """Tags that are opened and closed in turn, attributes that are looked at one by one."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.tags, self.text = [], [], {}, []
        self.ids, self.links = set(), set()
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"left open: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "srcset", "action"):
                self.faults.append(f"<{tag} {name}>")
            if name == "href":
                self.links.add(value)
            if name == "id":
                self.ids.add(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text.append(data)


failures = []


def expect(condition, sentence):
    if not condition:
        failures.append(sentence)
        print("FAIL", sentence)


def moeref(*arguments):
    return subprocess.run([sys.argv[1], *arguments], capture_output=True, check=False)


def written(path, code, *arguments):
    """The page that a command writes, and its text."""
    run = moeref(*arguments, "--html", path)
    expect(run.returncode == code, f"{arguments}: exit {run.returncode}: {run.stderr}")
    with open(path, encoding="utf-8") as file:  # also: the page is UTF-8
        text = file.read()
    page = Page(text)
    for fault in page.faults:
        expect(False, f"{arguments}: {fault}")
    expect(page.links <= {"#" + x for x in page.ids}, f"links lead away: {page.links}")
    for word in ("@import", "url(", "http-equiv=\"refresh", "<link", "<iframe"):
        expect(word not in text, f"{arguments}: {word} in the page")
    expect(page.tags.get("script") == 1 and page.tags.get("style") == 1, "one style, one script")
    return text, "".join(page.text)


def failing(folder):
    path = os.path.join(folder, "failing.html")
    _, text = written(path, 1, "check", "--backend", sys.argv[2] + ":tail", "--case", CASE)
    for word in ("1 of 1 case failed", "first wrong stage", "of expert 1", "experts down",
                 "Reproduce", "--case"):
        expect(word in text, f"no '{word}' in a failing case's page")


def passing(folder):
    path = os.path.join(folder, "passing.html")
    html_text, text = written(path, 0, "check", "--backend", "reference", "--case", CASE)
    expect("none failed" in text and "experts down" not in text, "a page without a failure")
    expect("<details class=\"passed\"" in html_text, "passing cases are folded")
    path = os.path.join(folder, "bench.html")
    _, text = written(path, 0, "bench", "--backend", "reference", "--repeat", "2", "--case", CASE)
    for word in ("1 timed", "measured us", "forward", "backward"):
        expect(word in text, f"no '{word}' in the page of a timing")


def mistrusted_for_a_feature(folder):
    """A pass all the same, and folded; the page says what it shows nothing about."""
    path = os.path.join(folder, "idle.html")
    html_text, text = written(path, 0, "check", "--backend", "reference", "--case",
                              CASE + " act=swiglu_clamp")
    expect("MISTRUSTED for clamp_gate_above" in text, "no word of the limit that nothing reaches")
    expect("none failed" in text and "<details class=\"passed\"" in html_text, "it is no pass")


def hostile(folder):
    outputs = os.path.join(os.fsencode(folder), HOSTILE)
    moeref("golden", "--case", CASE.replace("seed=3", "seed=4"), "--export", outputs)
    path = os.path.join(folder, "hostile.html")
    html_text, text = written(path, 1, "check", "--outputs", outputs, "--case", CASE)
    expect("<img src=x onerror=console.error(1)>'\"&" in text, "the name is not shown")
    expect("\x1b" not in html_text and "<img" not in html_text, "the name is not escaped")


def errors(folder):
    """Told before the work begins, and nothing stays behind."""
    before = sorted(os.listdir(folder))
    for path in (os.path.join(folder, "no", "report.html"), folder, "/dev/full"):
        run = moeref("check", "--backend", "reference", "--case", CASE, "--html", path)
        expect(run.returncode == 3, f"{path}: exit {run.returncode}")
        expect(os.fsencode(path) in run.stderr, f"{path}: not named: {run.stderr}")
        expect(path == "/dev/full" or not run.stdout, f"{path}: found after the work")
    expect(sorted(os.listdir(folder)) == before, f"left behind: {os.listdir(folder)}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        failing(folder)
        passing(folder)
        mistrusted_for_a_feature(folder)
        hostile(folder)
        errors(folder)
    print("page: whole, closed, escaped" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
