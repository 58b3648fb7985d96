#!/usr/bin/env python3
"""Results of kernels in NumPy, wrong and right ones, judged as files: no stage can be asked for,
and often one or two results are all there is.

  numpy_results.py --build build                  all, in all types: some minutes
  numpy_results.py --build build --only NAME -v   one, with what the report says
  numpy_results.py --build build --sample 8 --one what the test suite runs
  numpy_results.py --build build --only NAME --keep DIR   leaves inputs and results there

Exit code: 0 every bug was caught, 85 % of those that ever were are named, and every right way
passed; 1 not so; 2 usage; 77 without NumPy.
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("NumPy is not installed (Debian: python3-numpy)")
    sys.exit(77)  # skipped

import numpy_bugs_backward
import numpy_bugs_forward
import numpy_bugs_wraps
import numpy_kernel
import numpy_right
import numpy_right_tries
import numpy_tries_backward
import numpy_tries_forward
import numpy_tries_later
import unseen
from numpy_layers import LAYERS

NAMED = 0.85


def kernels(module):
    return [k for k in vars(module).values()
            if isinstance(k, type) and k.__module__ == module.__name__]


BUGS = sum(map(kernels, (numpy_bugs_forward, numpy_bugs_backward, numpy_bugs_wraps,
                         numpy_tries_forward, numpy_tries_backward,
                         numpy_tries_later)), [])
RIGHT = sum(map(kernels, (numpy_right, numpy_right_tries)), [])


def moeref(options, *words):
    program = Path(options.build).resolve() / "src" / "cli" / "moeref"
    run = subprocess.run([str(program), *words], text=True, capture_output=True)
    if run.returncode not in (0, 1):
        sys.exit("numpy_results: moeref ended with %d: %s" % (run.returncode, run.stderr))
    return run.stdout


def results(kernel, line, folder):
    """Writes them; returns the file."""
    with np.errstate(over="ignore", invalid="ignore"):
        got = kernel(line, numpy_kernel.load(folder / "case.safetensors")).run()
    gives = kernel.gives.split() if kernel.gives else list(got)
    if "dS" in gives and "topk_index" not in gives:
        gives.append("topk_index")  # by whose slots it comes
    numpy_kernel.save(folder / "mine.safetensors", {k: got[k] for k in gives},
                      line.rpartition("dtype=")[2])
    return folder / "mine.safetensors"


def judged(options, kernel, dtype, folder):
    line = "%s dtype=%s" % (LAYERS[kernel.layer], dtype)
    moeref(options, "golden", "--case", line, "--export", str(folder / "case.safetensors"))
    mine, begun = results(kernel, line, folder), time.time()
    recipe = ["--recipe", kernel.recipe] if kernel.recipe else []
    report = json.loads(moeref(options, "check", "--output", "json", "--case", line, "--outputs",
                               str(mine), *recipe))["cases"][0]
    text = unseen.said(report)
    caught = report["verdict"] == "fail"
    return {"told": kernel.told, "caught": caught,
            "named": caught and bool(re.search(kernel.words, text)),
            "says": text, "place": unseen.located(report), "seconds": time.time() - begun}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--dtype", action="append", choices=unseen.TYPES, help="default: all")
    parser.add_argument("--one", action="store_true", help="each in one type, taking turns")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every Nth")
    parser.add_argument("--keep", metavar="DIR", help="an empty folder for inputs and results")
    parser.add_argument("-v", "--verbose", action="store_true", help="what every report says")
    return parser.parse_args()


def chosen(options):
    """(kernel, type, is it a bug?) of all that is asked for."""
    known = [(k, True) for k in BUGS] + [(k, False) for k in RIGHT]
    if options.only:
        known = [k for k in known if k[0].__name__ in options.only]
    for i, (kernel, bug) in enumerate(known[::options.sample]):
        types = [t for t in options.dtype or unseen.TYPES if t in kernel.types.split()]
        for dtype in types[i % len(types):][:1] if options.one and types else types:
            yield kernel, dtype, bug


def told(kernel, dtype, bug, r, verbose):
    state = "named" if r["named"] else "caught" if r["caught"] else "passed"
    well = state == "named" if bug else state == "passed"
    if not well or verbose:
        print("%-8s %s.%s (%.1f s)  %s\n         at: %s" % (
            state if bug == r["caught"] else "SURVIVED" if bug else "CONDEMNED", dtype,
            kernel.__name__, r["seconds"], r["says"], r["place"]), flush=True)


def main():
    options = arguments()
    tried = {True: [], False: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        for kernel, dtype, bug in chosen(options):
            r = judged(options, kernel, dtype, folder)
            told(kernel, dtype, bug, r, options.verbose)
            tried[bug].append(r)
    caught, named = (sum(r[k] for r in tried[True]) for k in ("caught", "named"))
    condemned = sum(r["caught"] for r in tried[False])
    print("%d bugs tried, %d caught, %d named; %d right ways tried, %d condemned" % (
        len(tried[True]), caught, named, len(tried[False]), condemned))
    bugs, nameable = len(tried[True]), sum(r["told"] for r in tried[True])
    well = caught == bugs and named >= int(NAMED * nameable) and condemned == 0
    return 0 if well and bugs + len(tried[False]) else 1


if __name__ == "__main__":
    sys.exit(main())
