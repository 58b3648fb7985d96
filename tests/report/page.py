#!/usr/bin/env python3
"""The HTML report as a file: it needs nothing else, escapes everything, and is whole or absent."""
import html.parser
import json
import os
import re
import struct
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

TENSOR_LINE = re.compile(r"    (\w+) +(pass|ambiguous|skip|mistrusted|fail) +(.*)")
FIGURES = re.compile(r"(nmse|worst group|\|d\||z) \d[^ ]*")


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


def said_in(line):
    """What a page must show of a line of the text report; figures stand there in other digits."""
    tensor = TENSOR_LINE.match(line)
    if tensor:
        return [tensor[1], tensor[2], FIGURES.sub("", tensor[3]).strip(" ()")]
    for label, parts in (("  explanation: none of ", r"(\d+ hypotheses)"),
                         ("  explanation: ", r"(.*) \((.*): NMSE "),
                         ("  next: ", "(.*)"), ("  reproduce: ", "(.*)"),
                         ("  first wrong stage: ", "(.*)"), ("      where: ", "(.*)"),
                         ("      worst: ", "(.*)"), ("  likely cause: ", "(.*)")):
        if line.startswith(label):
            return list(re.match(parts, line[len(label):]).groups())
    return [line.strip()]


def is_of_the_page_in_another_form(line):
    """Maps are drawn, counts stand in a table, gates beside their figures."""
    return re.match(r"      (map: | +\S*.*\|$| +\.\.\.$|  expert |gates: )|\d+ passed, ", line)


def keep_one(path, to, name):
    """A safetensors file with one tensor of another."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        one, data = json.loads(file.read(size))[name], file.read()
    begin, end = one["data_offsets"]
    header = json.dumps({name: {**one, "data_offsets": [0, end - begin]}}).encode()
    with open(to, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data[begin:end])


def all_of_the_text(folder):
    """Whatever the text report says of failures the page says too."""
    case = "T=40 d=24 n=16 E=4 K=2 renorm=1 dtype=fp32 seed="
    stages, alone = (os.path.join(folder, x + ".safetensors") for x in ("stages", "alone"))
    moeref("golden", "--case", case + "3", "--export", stages)
    keep_one(stages, alone, "O")
    faulty = sys.argv[3]
    of_bf16 = CASE.replace("renorm=1", "renorm=1 dtype=bf16")
    runs = (["--outputs", stages, "--case", case + "4"], ["--outputs", alone, "--case", case + "4"],
            ["--outputs", alone, "--case", case + "3 scale=2"],
            ["--backend", faulty + ":bf16.renorm_missing", "--full", "--case", of_bf16],
            ["--backend", faulty + ":fp32.renorm_missing", "--backend", faulty + ":fp32.O_scaled",
             "--case", CASE, "--case", CASE.replace("seed=3", "seed=5")],
            ["--backend", sys.argv[2] + ":tail", "--invariant", "--coverage", "--case", CASE],
            ["--backend", faulty + ":bf16.renorm_missing", "--bits", "sm_90", "--case", of_bf16],
            ["--backend", "reference", "--ep", "2 combine=ranks", "--ep-fault", "dx_not_summed",
             "--case", case + "3"])
    for run in runs:
        text = moeref("check", *run).stdout.decode()
        _, page = written(os.path.join(folder, "all.html"), 1, "check", *run)
        page = " ".join(page.split())
        for line in text.splitlines():
            if is_of_the_page_in_another_form(line):
                continue
            for part in said_in(line):
                expect(" ".join(part.split()) in page, f"{run}: not in the page: {part}")


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
        all_of_the_text(folder)
        passing(folder)
        mistrusted_for_a_feature(folder)
        hostile(folder)
        errors(folder)
    print("page: whole, closed, escaped" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
