#!/usr/bin/env python3
"""What every verb prints as JSON, against moeref.schema.json.

The shipped schema lets members be added; here nothing may be printed that it does not name, and a
report that was tampered with must not pass.
"""
import copy
import json
import os
import shlex
import subprocess
import sys
import tempfile

import jsonschema

CASE = "T=40 d=24 n=16 E=4 K=2 renorm=1 seed=3"
LAYER = "T=4096 d=2048 n=1024 E=64 dtype=bf16"
LARGE = LAYER + " K=8 seed=1"


def closed(schema):
    """Without a member that the schema does not name."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


class Tester:
    def __init__(self, program, schema_path):
        with open(schema_path, encoding="utf-8") as file:
            schema = json.load(file)
        jsonschema.Draft202012Validator.check_schema(schema)
        self.program = program
        self.defs = closed(schema)["$defs"]
        self.whole = jsonschema.Draft202012Validator(schema)
        self.failures = 0

    def fail(self, sentence):
        print("FAIL", sentence)
        self.failures += 1

    def errors(self, kind, report):
        """What is wrong with a report of that kind."""
        schema = {"$defs": self.defs, "$ref": "#/$defs/" + kind}
        return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}"
                for e in jsonschema.Draft202012Validator(schema).iter_errors(report)]

    def reports(self, kind, code, arguments, lines=False):
        """Runs the program; every report that it prints must be of that kind, or, of a tuple, each
        of its own."""
        run = subprocess.run([self.program, *shlex.split(arguments), "--output", "json"],
                             capture_output=True, text=True, check=False)
        if run.returncode != code:
            self.fail(f"{arguments}: exit {run.returncode}, not {code}: {run.stderr}")
        texts = run.stdout.splitlines() if lines else [run.stdout]
        found = [json.loads(text) for text in texts]
        if not found:
            self.fail(f"{arguments}: no report")
        kinds = kind if isinstance(kind, tuple) else (kind,) * len(found)
        if len(kinds) != len(found):
            self.fail(f"{arguments}: {len(found)} reports, not {len(kinds)}")
        for kind, report in zip(kinds, found):
            for error in self.errors(kind, report):
                self.fail(f"{arguments}: {error}")
            if not self.whole.is_valid(report):
                self.fail(f"{arguments}: not of the shipped schema")
        return found

    def refuses(self, kind, report, what, change):
        spoilt = copy.deepcopy(report)
        change(spoilt)
        if not self.errors(kind, spoilt):
            self.fail(f"accepted: {what}")


def tampered(t, passing, failing):
    def first(report):
        return report["cases"][0]["tensors"][0]
    t.refuses("verdicts", passing, "another version", lambda r: r.update(moeref=1))
    t.refuses("verdicts", passing, "an unknown member", lambda r: r["cases"][0].update(new=1))
    t.refuses("verdicts", passing, "no gate", lambda r: first(r).pop("gate"))
    t.refuses("verdicts", passing, "a verdict that is none", lambda r: first(r).update(verdict="?"))
    t.refuses("verdicts", failing, "the place as explanation",
              lambda r: r["cases"][0].update(explanation="O: tokens 1..2"))
    wrong = next(x for x in failing["cases"][0]["tensors"] if x["verdict"] == "fail")
    if not wrong["maps"] or not wrong["where"] or not failing["cases"][0]["where"]:
        t.fail("a failing tensor has no map or no place")
        return
    shape = [[len(line) for line in wrong["maps"][0][x]] for x in ("over", "nmse")]
    if shape[0] != shape[1] or len(shape[0]) != len(wrong["maps"][0]["row"]):
        t.fail(f"a map's cells are not a grid: {shape}")
    if not any(x not in (None, "inf") and x > 1 for line in wrong["maps"][0]["over"] for x in line):
        t.fail("no cell of a failing tensor's map is over its gate")


def main():
    program, schema, broken, openblas = sys.argv[1:5]
    t = Tester(program, schema)
    passing, = t.reports("verdicts", 0, f"check --backend reference --case '{CASE}'")
    t.reports("verdicts", 0, f"check --backend reference --invariant --case '{CASE}'")
    counted, = t.reports("verdicts", 0, f"check --backend reference --coverage --case '{CASE}'")
    renorm = [row for row in counted["coverage"] if row["feature"] == "renorm"]
    if counted["cases"][0]["decides"].get("renorm") != 40:
        t.fail(f"one case decides {counted['cases'][0]['decides']}")
    if len(renorm) != 1 or renorm[0]["bf16"] != 40 or renorm[0]["cases"] != 1:
        t.fail(f"coverage of renorm: {renorm}")
    failing, = t.reports("verdicts", 1, f"check --backend {broken}:tail --case '{CASE}'")
    for fault in ("nan", "zero", "unwritten", "routing", "expert_sign"):
        t.reports("verdicts", 1, f"check --backend {broken}:{fault} --case '{CASE}'")
    t.reports("list", 0, "list")
    t.reports("kills", 0, "selftest --fault renorm_missing --dtype fp32")
    t.reports("prediction", 0, f"predict --method all --case '{LARGE} pass=fwd'", lines=True)
    t.reports("spread", 0, f"predict --ep 4 --method all --case '{LARGE} pass=fwd'", lines=True)
    config = os.path.join(os.environ["MOEREF_GOLDEN"], "hf", "mixtral", "config.json")
    t.reports(("prediction", "model", "whole"), 0, f"predict --config {config} --layers all",
              lines=True)
    for spread in ("--tp 2", "--ep 2", "--ep 2 --attention-tp 2"):
        t.reports("whole", 0, f"predict --config {config} --layers all {spread}", lines=True)
    t.reports("memory", 0, f"memory --config {config} --layers all", lines=True)
    t.reports("point", 0, f"sweep --vary seed=1,2 --vary K=4,8 --case '{LAYER}'", lines=True)
    # One that passes times a layer for half a minute; its timing is of bench's kind.
    t.reports("verdicts", 1, f"validate --backend {broken}:tail --case '{CASE}'")
    timed = [("--ep 2 --node h100-x8", "reference"), ("", "reference"),
             ("--gpu h100-sxm", "reference")]
    if openblas == "yes":
        timed += [("", "openblas"), ("--gpu h100-sxm", "openblas")]
    with tempfile.TemporaryDirectory() as folder:
        for options, backend in timed:
            report, = t.reports("bench", 0, f"bench --backend {backend} --repeat 2 "
                                f"--case '{CASE} dtype=bf16' {options}")
        path = os.path.join(folder, "batch.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("T=1\n" + LARGE + "\n")
        t.reports("failure", 1, f"predict --method cutlass_moe --batch {path}", lines=True)
        path = os.path.join(folder, "bench.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file)
        t.reports("comparison", 0, f"predict --against {path}", lines=True)
        t.reports("verdicts", 1, f"check --backend {broken}:tail --case '{CASE}' "
                  f"--dump-on-fail {folder}")
        t.reports("verdicts", 1, f"diagnose {folder}")
        outputs = os.fsdecode(os.path.join(os.fsencode(folder), b"\xff<\x1b.safetensors"))
        subprocess.run([program, "golden", "--case", CASE, "--export", outputs], check=True,
                       capture_output=True)
        named, = t.reports("verdicts", 0, f"check --case '{CASE}' --outputs '{outputs}'")
        if not named["cases"]:
            t.fail("a name that is not UTF-8 empties the report")
    tampered(t, passing, failing)
    print("schema: every report as described" if not t.failures else f"{t.failures} failures")
    return 1 if t.failures else 0


if __name__ == "__main__":
    sys.exit(main())
