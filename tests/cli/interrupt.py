#!/usr/bin/env python3
"""A large layer's failure: the verdict is told before its cause is looked for, and Ctrl-C during
that ends the search, not the report."""
import array
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile

T, D = 8192, 512  # above the FLOPs of which a sample is judged
CASE = f"T={T} d={D} n=1024 E=4 K=4 pass=fwd dtype=fp32 seed=3"
TOLD = "moeref: fail, "


def write_noise(path):
    """An O that nothing explains: every hypothesis is tried."""
    draw = random.Random(1)
    row = array.array("f", [draw.gauss(0, 1) for _ in range(1 << 16)])
    data = row.tobytes() * (T * D // len(row))
    head = json.dumps({"O": {"dtype": "F32", "shape": [T, D], "data_offsets": [0, len(data)]}})
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head.encode() + data)


def interrupted(program, path, number, *more):
    """Exit code, report and what stderr had, of a check that gets a signal once it has told."""
    words = [program, "check", "--outputs", path, "--case", CASE, *more]
    env = {**os.environ, "MOEREF_PROGRESS_SECONDS": "0"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=env) as child:
        told = []
        for line in child.stderr:
            told.append(line)
            if line.startswith("moeref: the cause is looked for"):
                child.send_signal(number)
                break
        report, rest = child.communicate()
    return child.returncode, report, "".join(told) + rest


def wrong(program, path):
    for number in signal.SIGINT, signal.SIGTERM:
        code, report, told = interrupted(program, path, number)
        if code != 1:
            yield f"{number.name}: exit code {code}"
        if not told.startswith(TOLD) or " O: NMSE " not in told.splitlines()[0]:
            yield f"{number.name}: no verdict beforehand: {told}"
        if not report.startswith("fail ") or "the search was ended after " not in report:
            yield f"{number.name}: no report: {report}"
    words = [program, "check", "--outputs", path, "--case", CASE, "--output", "json"]
    piped = subprocess.run(words, capture_output=True, text=True, check=False)
    if piped.returncode != 1 or piped.stderr or json.loads(
            piped.stdout)["cases"][0]["explanation"]["ended"]:
        yield f"JSON: code {piped.returncode}, stderr {piped.stderr}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "noise.safetensors")
        write_noise(path)
        failures = list(wrong(sys.argv[1], path))
    for failure in failures:
        print(failure)
    return bool(failures)


sys.exit(main())
