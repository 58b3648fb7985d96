#!/usr/bin/env python3
"""The program on a terminal of 80 columns: colours where they are wanted, progress on one line."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

CASE = ("T=40 d=24 n=16 E=4 K=2 dtype=fp32 act=swiglu_clamp limit=3 score=sigmoid renorm=1 "
        "shared=24 shared_gate=1 seed=3")
ESCAPES = re.compile(r"\x1b\[[\d;]*[A-Za-z]")


def on_terminal(program, *words, **environment):
    """Exit code and everything that reaches a terminal."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", **environment}
    env = {key: value for key, value in env.items() if value is not None}
    with subprocess.Popen([program, *words], stdout=theirs, stderr=theirs, env=env) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                some = os.read(mine, 4096)
            except OSError:  # the other end is closed
                break
            if not some:
                break
            shown += some
    os.close(mine)
    return child.returncode, shown.decode()


def without_terminal(program):
    """What is wrong with the lines that a long check leaves where there is no terminal."""
    line = re.compile(r"moeref: \d+ s: case 1 of 1(, \w+( \d+ %)?)?: reference, T=150 ")
    long = (program, "check", "--backend", "reference", "--exhaustive", "--case",
            "T=150 d=256 n=256 E=8 K=4 dtype=fp32 seed=3")
    for seconds in ("0.01", "0", None):
        env = {**os.environ, "MOEREF_PROGRESS_SECONDS": seconds}
        env = {key: value for key, value in env.items() if value is not None}
        piped = subprocess.run(long, capture_output=True, text=True, check=True, env=env)
        lines = piped.stderr.splitlines()
        if bool(lines) != (seconds == "0.01") or not all(map(line.match, lines)):
            yield f"lines every {seconds} s: {lines}"


def of_many_short_ones(program):
    """What is wrong with the lines of a selftest none of whose faults takes long."""
    line = re.compile(r"moeref: \d+ s: fault (\d+) of (\d+), fp32\.\w+ on T=8 ")
    env = {**os.environ, "MOEREF_PROGRESS_SECONDS": "0.25"}
    run = subprocess.run([program, "selftest", "--dtype", "fp32", "--case",
                          "T=8 d=8 n=8 E=2 K=1 dtype=fp32 seed=3"],
                         capture_output=True, text=True, check=False, env=env)
    told = [tuple(map(int, found.groups())) for found in map(line.match, run.stderr.splitlines())
            if found]
    if len(told) < 3 or told != sorted(told) or any(i > n for i, n in told):
        yield f"selftest shows {told}: {run.stderr}"
    elif len({n for _, n in told}) != 1:
        yield f"the number of faults changes: {told}"


def main():
    program = sys.argv[1]
    check = ("check", "--backend", "reference", "--case", CASE)
    failures = []

    def need(condition, sentence):
        if not condition:
            failures.append(sentence)

    code, shown = on_terminal(program, *check, NO_COLOR=None)
    need(code == 0 and "\x1b[32mpass" in shown, f"no green pass: {shown!r}")
    progress = [ESCAPES.sub("", line) for line in re.split(r"[\r\n]", shown)
                if "case 1 of 1" in line]
    need(progress and all(len(line) < 80 for line in progress), f"progress wraps: {progress}")
    for word in ("run", "oracle", "comparison"):
        need(any(re.search(rf", {word} \d+ %:", line) for line in progress),
             f"no share of {word}: {progress}")
    need(any(", backward: reference" in line for line in progress), f"no slot: {progress}")
    need(shown.count("\n") == 2, f"progress takes lines of its own: {shown!r}")
    _, shown = on_terminal(program, *check, "--output", "json")
    need("case 1 of 1" not in shown and "\x1b[K" not in shown, "progress in JSON mode")
    wrong = ("check", "--backend", sys.argv[2] + ":bf16.silu_as_gelu", "--case", CASE)
    code, shown = on_terminal(program, *wrong)
    need(code == 1 and ", explanation " in shown, f"nothing of the explanation: {shown!r}")
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb", "NO_COLOR": None}):
        code, shown = on_terminal(program, *check, **plain)
        need(code == 0 and "pass" in shown and "\x1b[32m" not in shown, f"{plain}: coloured")
    piped = subprocess.run([program, *check], capture_output=True, text=True, check=True)
    need("\x1b" not in piped.stdout + piped.stderr, "a pipe gets escapes")
    failures.extend(without_terminal(program))
    failures.extend(of_many_short_ones(program))
    for failure in failures:
        print("FAIL", failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
