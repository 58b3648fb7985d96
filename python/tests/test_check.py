"""Verdicts on functions and results in NumPy, and on backends."""
import ctypes
import functools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import moeref
from moeref.testing import assert_close_moe
from plain_layers import LINE, PLAN, given, layer, numpy_case, silu


def test_a_right_layer_passes():
    report = moeref.check(layer, case=numpy_case(LINE))
    assert report.passed and report.verdict == "pass" and report.explanation is None
    assert str(report).startswith("pass       layer T=48")
    assert report.tensors["O"]["verdict"] == "pass"
    assert report.tensors["dX"]["verdict"] == "skip"
    assert moeref.check(given, case=numpy_case(PLAN)).passed


def test_a_wrong_layer_fails_with_its_cause():
    def twice(X, W_r, W1, W2):
        return 2 * layer(X, W_r, W1, W2)

    report = moeref.check(twice, case=numpy_case(LINE))
    assert not report.passed and not report and report.first_wrong_stage == "O"
    assert "2" in report.explanation
    assert "reproduce: moeref.check(" in str(report)
    assert report.json["cases"][0]["verdict"] == "fail"
    with pytest.raises(AssertionError, match="explanation: ") as caught:
        assert_close_moe(twice, numpy_case(LINE))
    first = str(caught.value).splitlines()[0]
    assert first == f"{report.why}; {report.explanation}"


@pytest.mark.parametrize("factors, said", [((0.5, 0.5), "a factor of 0.5; 2 of 24 columns, from 5"),
                                           ((0.5, 0.75), "a factor from 0.5 to 0.75; 2 of 24")])
def test_a_range_of_factors_is_one_where_it_is(factors, said):
    case = numpy_case(LINE)
    wrong = np.array(case.expected["O"], np.float32)
    wrong[:, 5:7] *= np.array(factors, np.float32)
    assert said in moeref.check({"O": wrong}, case=case).explanation


def test_a_pass_says_what_it_says_nothing_about():
    line = "T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp dtype=fp32"
    case = numpy_case(line)
    for subject in ("reference", {"O": np.asarray(case.expected["O"]).astype(np.float32)}):
        report = moeref.check(subject, case=case)
        assert report.passed and "clamp_gate_above" in report.mistrusted_for
        assert str(report).startswith("pass, MISTRUSTED for clamp_gate_above, ")
    assert moeref.check("reference", case=LINE).mistrusted_for == []


def test_a_misspelt_result_is_a_warning_where_it_was_given():
    case = numpy_case(LINE)
    given = {"O": case.expected["O"], "dw1": case.expected["dW1"]}
    with pytest.warns(UserWarning, match='no layer has a "dw1": it is not judged') as caught:
        report = moeref.check(given, case=case)
    assert [w.filename for w in caught] == [__file__]
    assert report.passed and "[not judged: dS, dX, dW_r, dW1, dW2]" in str(report)


def test_a_nan_is_a_nan_whatever_its_bits():
    """torch's in bf16 has all bits set, as memory has in which a backend has written nothing."""
    line = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 route=uniform inject=nan@3"
    case = numpy_case(line)
    results = {name: np.array(case.expected[name], np.float32) for name in ("O", "dX", "dW1")}
    for result in results.values():
        result.view(np.uint32)[np.isnan(result)] = 0xffffffff
    assert moeref.check(results, case=case).passed
    results["O"].view(np.uint32)[0, 0] = 0xffffffff
    report = moeref.check(results, case=case, explain=False)
    assert report.why == "O: 1 elements are not finite where the oracle is"
    x = np.array(case.inputs["X"])
    x.view(np.uint32)[3, 12] = 0xffffffff
    for backend in moeref.backends():
        report = moeref.check(backend, case=moeref.case(line.replace(" inject=nan@3", ""),
                                                        inputs={"X": x, "dO": case.inputs["dO"]}))
        assert report.passed, report


def test_bf16_without_a_dtype_of_numpy():
    case = numpy_case(LINE.replace("fp32", "bf16"))
    assert case.inputs["X"].dtype == np.float32 and case.inputs.raw("X").dtype == "bf16"
    assert not case.inputs["X"].view(np.uint32).__and__(0xffff).any()
    assert moeref.check({"O": case.expected["O"]}, case=case, arithmetic="bf16").passed


def test_backends():
    assert "reference" in moeref.backends()
    assert moeref.check("reference", case=LINE).passed
    with pytest.raises(moeref.NotFoundError, match="nonesuch"):
        moeref.check("nonesuch", case=LINE)


@pytest.mark.skipif("openblas" not in moeref.backends(), reason="no OpenBLAS on this machine")
def test_openblas():
    assert moeref.check("openblas", case=LINE).passed


def test_what_is_kept_of_a_failure(tmp_path):
    wrong = {"O": np.zeros((48, 24), np.float32)}
    moeref.check(wrong, case=LINE, explain=False, dump=str(tmp_path / "kept"))
    told = subprocess.run([sys.executable, "-m", "moeref", "diagnose", tmp_path / "kept"],
                          capture_output=True, text=True)
    assert told.returncode == 1 and "arithmetic fp32: what was kept says so" in told.stdout
    with pytest.warns(UserWarning, match="/proc/nope: no folder can be made there"):
        assert not moeref.check(wrong, case=LINE, explain=False, dump="/proc/nope").passed


def test_a_page(tmp_path):
    report = moeref.check({"O": np.zeros((48, 24), np.float32)}, case=LINE, explain=False)
    report.html(tmp_path / "r.html")
    assert "<html" in (tmp_path / "r.html").read_text()
    with pytest.raises(moeref.FileError):
        report.html(tmp_path / "none" / "r.html")
    assert json.dumps(report.json)


PROGRESS = """
import moeref, os, sys, threading, time
sys.stderr.isatty = lambda: sys.argv[1] == "terminal"
moeref._library.Progress.patience = 0
moeref.check("reference", case="T=1024 d=256 n=256 E=8 K=4 dtype=fp32", exhaustive=True)
"""


@pytest.mark.parametrize("where", ["terminal", "file"])
def test_progress(where):
    ended = subprocess.run([sys.executable, "-c", PROGRESS, where], capture_output=True, text=True,
                           env={**os.environ, "COLUMNS": "60"})
    assert ended.returncode == 0, ended.stderr
    lines = [line.strip() for line in ended.stderr.split("\x1b[K")]
    if where == "file":
        assert ended.stderr == ""
    else:
        assert any(re.match(r"moeref: \d+ s, oracle \d+ %, reference on T=", x) for x in lines)
        assert any(re.match(r"moeref: \d+ s, backward, reference on T=", x) for x in lines)
        assert max(map(len, lines)) < 60 and lines[-1] == ""


@pytest.mark.skipif("openblas" not in moeref.backends(), reason="no OpenBLAS on this machine")
def test_a_wrong_token_beside_the_sample():
    """A sample of 32 tokens misses one of 16384; a fast run finds it."""
    case = moeref.case("T=16384 d=512 n=512 E=4 K=2 route=balanced dtype=fp32 pass=fwd seed=3",
                       framework="numpy")
    given = case.inputs
    X, W1, W2 = given["X"], given["W1"], given["W2"]
    index, weight = given["topk_index"], given["topk_weight"]
    O = np.zeros_like(X)
    for e in range(len(W1)):
        tokens, slots = np.nonzero(index == e)
        gate, up = np.split(X[tokens] @ W1[e].T, 2, axis=1)
        O[tokens] += weight[tokens, slots, None] * ((silu(gate) * up) @ W2[e].T)
    right = moeref.check({"O": O}, case)
    assert right.passed, right
    assert right.json["cases"][0]["scouted"] == "openblas:fp32: O"
    O[4321] *= 1.01
    assert moeref.check({"O": O}, case, scout="none").passed
    wrong = moeref.check({"O": O}, case)
    assert not wrong.passed
    assert "4321" in str(wrong)


FAILURE = """
import moeref, numpy, sys
sys.stderr.isatty = lambda: sys.argv[1] == "terminal"
noise = numpy.random.default_rng(1).normal(size=(8192, 512)).astype(numpy.float32)
report = moeref.check({"O": noise}, case="T=8192 d=512 n=1024 E=4 K=4 pass=fwd dtype=fp32")
print(report.verdict, report.json["cases"][0]["explanation"]["ended"])
"""


@pytest.mark.parametrize("where", ["terminal", "file"])
def test_a_failure_is_told_before_its_cause(where):
    ended = subprocess.run([sys.executable, "-c", FAILURE, where], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "fail False\n"), ended.stderr
    if where == "file":
        assert ended.stderr == ""
    else:
        told = [line for line in ended.stderr.splitlines() if "moeref: fail, " in line]
        assert len(told) == 1 and " O: NMSE " in told[0], ended.stderr


def test_bad_outputs():
    for results, kind in (({}, moeref.NotFoundError), ({"banana": np.zeros(3)}, moeref.Error),
                          ({"O": [1, 2]}, moeref.InvalidError), ({3: np.zeros(2)}, moeref.Error),
                          ({"O": np.zeros((48, 24), complex)}, moeref.InvalidError)):
        with pytest.raises(kind):
            moeref.check(results, case=LINE)
    with pytest.raises(moeref.InvalidError, match="nothing"):
        moeref.check(lambda: None, case=LINE)
    with pytest.raises(moeref.InvalidError):
        moeref.check(3, case=LINE)


def test_a_result_of_another_shape_or_of_integers_fails():
    for wrong, why in ((np.zeros((3, 3)), "O: has shape [3, 3], the case needs [48, 24]"),
                       (np.zeros((48, 24), int), "O: is of integers (i64)")):
        report = moeref.check({"O": wrong}, case=LINE)
        assert not report.passed and why in str(report)


def test_what_the_callable_raises_goes_through():
    def broken(X):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        moeref.check(broken, case=numpy_case(LINE))
    if sys.version_info >= (3, 11):
        assert "X [48, 24], dO [48, 24]" in caught.value.__notes__[0]
        assert "batched=True" in caught.value.__notes__[0]


def test_a_callable_that_writes_into_an_input_fails():
    def spoils(X, W_r, W1, W2):
        out = layer(X, W_r, W1, W2)
        ctypes.memset(X.ctypes.data, 0, 8)  # as a kernel would; NumPy's own writes are refused
        return out

    report = moeref.check(spoils, case=numpy_case(LINE))
    assert report.verdict == "fail" and report.why == "X: the callable wrote into this input"
    assert report.tensors["X"]["verdict"] == "fail" and str(report).count("wrote into") == 2
    with pytest.raises(ValueError, match="read-only"):
        moeref.check(lambda X: X.__setitem__(0, 0), case=numpy_case(LINE))


def test_what_a_callable_takes_is_told_in_a_sentence():
    for wrong, line, sentence in (
            (lambda a, b: a, LINE, "<lambda> takes a, b, the case has X, dO, W_r, W1, W2"),
            (lambda X, topk_ids: X, LINE, "a case with route=uniform in its line hands out"),
            (lambda X, W_r: X, PLAN, "a case without route= that has a router"),
            (lambda *every: every[0], LINE, "tells no names of what it takes")):
        with pytest.raises(moeref.InvalidError, match=sentence):
            moeref.check(wrong, case=numpy_case(line))
    with pytest.warns(UserWarning, match="<lambda> takes neither topk_index nor topk_weight"):
        moeref.check(lambda X, W1, W2: X, case=numpy_case(PLAN), explain=False)


def test_a_report_can_be_pasted():
    def mine(X):
        return X

    for subject in (mine, functools.partial(mine)):
        case = moeref.case(LINE, framework="numpy")
        report = moeref.check(subject, case=case, explain=False)
        assert str(report).startswith("fail       mine T=48")
        assert f"moeref.check(mine, case=moeref.case({LINE!r}, framework='numpy'))" in str(report)
    with pytest.warns(UserWarning, match="inputs has no W1: drawn as the case says"):
        own = moeref.case(LINE, inputs={"X": np.zeros((48, 24))})
    assert repr(own) == f"moeref.case({LINE!r}, inputs=...)" and own.line == LINE
