#!/usr/bin/env python3
"""The HTML report in a headless Chromium: it renders, says what failed, and no script complains.

A probe that is added to a copy of the page does what a reader does, and writes what it sees into
the page, which the browser then dumps. Without Chromium the test is skipped (77 to Meson).
"""
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CASE = "T=40 d=24 n=16 E=4 K=2 renorm=1 seed=3"
DARK, LIGHT = 0, 1  # Blink's preferredColorScheme

PROBE = """
<script>
'use strict';
addEventListener('load', async () => {
  const seen = {};
  seen.background = getComputedStyle(document.body).backgroundColor;
  seen.ink = getComputedStyle(document.body).color;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  const map = document.querySelector('svg.cells');
  if (map) {
    const of = map.dataset;
    const over = of.over.split(';').map((line) => line.split(',').map(Number));
    const i = over.findIndex((line) => line.some((x) => x > 1));
    const j = over[i].findIndex((x) => x > 1);
    const box = map.getBoundingClientRect();
    const at = {bubbles: true, clientX: box.left + Number(of.left) + (j + 0.5) * of.cell,
                clientY: box.top + Number(of.top) + (i + 0.5) * of.line};
    map.dispatchEvent(new PointerEvent('pointermove', at));
    const figure = map.closest('figure');
    seen.reading = figure.querySelector('.reading').textContent;
    seen.expert = of.row.split(',')[i];
    const shades = new Set();
    for (const path of map.querySelectorAll('path[class^=k]'))
      shades.add(getComputedStyle(path).fill);
    seen.shades = shades.size;
    map.dispatchEvent(new PointerEvent('pointerleave'));
    seen.after = figure.querySelector('.reading').textContent;
  }
  const button = [...document.querySelectorAll('.copy button')].pop();
  // The browser's own clipboard answers in real time, which this page's clock does not wait for.
  const press = async (writeText) => {
    Object.defineProperty(navigator, 'clipboard', {configurable: true, value: {writeText}});
    button.click();
    await new Promise((done) => setTimeout(done, 200));
    return button.textContent;
  };
  seen.copied = await press(async (text) => { seen.clipboard = text; });
  seen.refused = await press(async () => { throw new Error('not allowed'); });
  seen.line = button.parentElement.querySelector('code').textContent;
  seen.selected = getSelection().toString();
  const folded = document.querySelector('details.passed');
  if (folded) {
    seen.folded = !folded.open;
    location.hash = folded.id;
    await new Promise((done) => setTimeout(done, 200));
    seen.unfolded = folded.open;
  }
  const out = document.createElement('pre');
  out.id = 'seen';
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>
"""

failures = []


def expect(condition, sentence):
    if not condition:
        failures.append(sentence)
        print("FAIL", sentence)


class Browser:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, path, scheme, *arguments):
        """Standard output of the browser, which must not have had anything to complain about."""
        run = subprocess.run(
            [self.program, "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             "--user-data-dir=" + os.path.join(self.folder, "profile"),
             "--window-size=1280,1600", "--enable-logging=stderr", "--v=0",
             f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=5000",
             *arguments, "file://" + path],
            capture_output=True, text=True, errors="replace", check=False, timeout=120)
        complaints = [x for x in run.stderr.splitlines() if "CONSOLE" in x]
        expect(run.returncode == 0, f"{path}: exit {run.returncode}: {run.stderr[-500:]}")
        expect(not complaints, f"{path}: {complaints}")
        return run.stdout

    def look(self, path, scheme):
        """The page as it was rendered, and what the probe saw."""
        probed = path.replace(".html", ".probed.html")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(probed, "w", encoding="utf-8") as file:
            file.write(text.replace("</body>", PROBE + "</body>"))
        dom = self.run(probed, scheme, "--dump-dom")
        found = re.search(r'<pre id="seen">(.*?)</pre>', dom)
        expect(found, f"{path}: the probe did not run")
        return dom, json.loads(html.unescape(found[1])) if found else {}

    def picture(self, path, scheme):
        image = path + f".{scheme}.png"
        self.run(path, scheme, "--screenshot=" + image)
        with open(image, "rb") as file:
            data = file.read()
        expect(data.startswith(b"\x89PNG") and len(data) > 20000, f"{path}: no picture")
        return data


def write_report(path, code, *arguments):
    run = subprocess.run([sys.argv[1], *arguments, "--html", path], capture_output=True,
                         text=True, check=False)
    expect(run.returncode == code, f"{arguments}: exit {run.returncode}: {run.stderr}")


def check_failing(browser, folder):
    path = os.path.join(folder, "failing.html")
    write_report(path, 1, "check", "--backend", sys.argv[2] + ":expert_sign", "--case", CASE,
                 "--case", "T=20 d=24 n=16 E=4 K=2 pass=fwd seed=3")
    dom, seen = browser.look(path, LIGHT)
    expect("<b>dW2</b>" in dom and "1 of 2 cases failed" in dom, "the failing tensor is not there")
    reading = seen.get("reading", "")
    expect(reading.startswith(f"expert {seen.get('expert')}, row") and "NMSE" in reading
           and "times what the gate allows" in reading, f"a cell reads '{reading}'")
    expect(seen.get("expert") == "1" and seen.get("after") == "", f"the map: {seen}")
    expect(seen.get("shades", 0) >= 2, "the map has one shade")
    expect(seen.get("copied") == "Copied" and seen["clipboard"] == seen["line"],
           f"copy says '{seen.get('copied')}'")
    expect(seen.get("refused") == "Selected" and seen["selected"].strip() == seen["line"].strip(),
           f"copy, refused, says '{seen.get('refused')}'")
    expect(seen.get("folded") and seen.get("unfolded"), f"folding: {seen}")
    expect(not seen.get("wide"), "the page is wider than its window")
    _, dark = browser.look(path, DARK)
    for what in ("background", "ink"):
        expect(seen.get(what) != dark.get(what), f"{what} is the same in light and dark")
    expect(browser.picture(path, LIGHT) != browser.picture(path, DARK), "two equal pictures")


def check_timed(browser, folder):
    path = os.path.join(folder, "timed.html")
    write_report(path, 0, "bench", "--backend", "reference", "--repeat", "2", "--case", CASE)
    dom, seen = browser.look(path, LIGHT)
    expect("measured us" in dom and seen.get("copied"), "no times")


def main():
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if not program:
        print("skipped: no Chromium (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(program, folder)
        check_failing(browser, folder)
        check_timed(browser, folder)
    print("browser: rendered in light and dark" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
