#!/usr/bin/env python3
"""./dev for a user who cannot install packages: it says which are missing, and goes on.

Runs a copy of ./dev with stand-ins for dpkg-query, sudo, meson and ninja before all others on PATH.
"""
import os
import shutil
import subprocess
import sys
import tempfile

STAND_INS = {
    "apt-get": "echo apt-get \"$@\" >>log",
    "id": "echo 1000",
    "sudo": "exit 1",
    "meson": "echo meson \"$@\" >>log; mkdir -p \"$2\"; : >\"$2/build.ninja\"",
    "ninja": "echo ninja \"$@\" >>log",
}


def run(dev, dpkg_query, *words):
    """What ./dev WORDS says, and what it called."""
    with tempfile.TemporaryDirectory() as folder:
        tools = os.path.join(folder, "tools")
        os.mkdir(tools)
        for name, text in {**STAND_INS, "dpkg-query": dpkg_query}.items():
            path = os.path.join(tools, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{text}\n")
            os.chmod(path, 0o755)
        shutil.copy(dev, folder)
        done = subprocess.run([os.path.join(folder, "dev"), *words], text=True, check=False,
                              capture_output=True,
                              env={**os.environ, "PATH": tools + ":" + os.environ["PATH"]})
        with open(os.path.join(folder, "log"), encoding="utf-8") as file:
            return done, file.read()


def main():
    failures = []
    done, called = run(sys.argv[1], "echo ok installed", "build")
    if done.returncode or done.stderr or called != "meson setup build\nninja -C build\n":
        failures.append(f"all is there: {done.returncode} {done.stderr} {called}")
    done, called = run(sys.argv[1], "exit 1", "build")
    if "apt-get install gcc g++" not in done.stderr or "libjansson-dev" not in done.stderr:
        failures.append(f"does not say what to install: {done.stderr}")
    if done.returncode or "ninja -C build" not in called or "apt-get" in called:
        failures.append(f"does not go on: {done.returncode} {called}")
    for failure in failures:
        print("FAIL", failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
