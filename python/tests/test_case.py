"""Cases, verdicts and predictions, without torch."""
import copy
import ctypes
import functools
import json
import os
import pickle
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import moeref
from moeref.testing import assert_close_moe

LINE = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 renorm=1 seed=7"
PLAN = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 route=uniform drop=5 seed=7"


def numpy_case(line, **how):
    """torch may have been imported by another test."""
    return moeref.case(line, framework="numpy", **how)


def silu(z):
    return z / (1 + np.exp(-z))


def layer(X, W_r, W1, W2):
    """A layer with a router, plainly, in the dtype of its inputs."""
    logits = X @ W_r.T
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    chosen = np.argsort(-scores, -1, kind="stable")[:, :2]
    out = np.zeros_like(X)
    for t in range(len(X)):
        total = scores[t, chosen[t]].sum()
        for e in chosen[t]:
            gate, up = np.split(W1[e] @ X[t], 2)
            out[t] += scores[t, e] / total * (W2[e] @ (silu(gate) * up))
    return out


def given(X, top_k_index, top_k_weights, W1, W2):
    out = np.zeros_like(X)
    for t in range(len(X)):
        for e, w in zip(top_k_index[t], top_k_weights[t]):
            if e >= 0:
                gate, up = np.split(W1[e] @ X[t], 2)
                out[t] += w * (W2[e] @ (silu(gate) * up))
    return out


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


def test_outputs_inputs_and_truth():
    case = numpy_case(LINE)
    assert case.T == 48 and case.E == 6 and case.backward and not case.plan_given
    assert case.inputs["W1"].shape == (6, 32, 24) and case.inputs["X"].dtype == np.float32
    right = {name: np.asarray(case.expected[name]).astype(np.float32)
             for name in ("O", "dX", "dW1", "dW2", "dW_r", "topk_weight")}
    right["topk_index"] = case.expected["topk_index"]
    report = moeref.check(right, case=case)
    assert report.passed and report.tensors["dW_r"]["verdict"] == "pass"
    right["dW2"] = right["dW2"].copy()
    right["dW2"][3, 5] = 0
    assert moeref.check(right, case=case).first_wrong_stage == "dW2"


def test_a_misspelt_result_is_a_warning_where_it_was_given():
    case = numpy_case(LINE)
    given = {"O": case.expected["O"], "dw1": case.expected["dW1"]}
    with pytest.warns(UserWarning, match='no layer has a "dw1": it is not judged') as caught:
        report = moeref.check(given, case=case)
    assert [w.filename for w in caught] == [__file__]
    assert report.passed and "[not judged: dS, dX, dW_r, dW1, dW2]" in str(report)


def test_a_given_plan_comes_in_slots():
    case = numpy_case(PLAN)
    index, weight = case.inputs["topk_index"], case.inputs["topk_weight"]
    assert case.plan_given and index.shape == weight.shape == (48, 2)
    assert (index == -1).sum() == 5 and (weight[index == -1] == 0).all()
    assert (case.expected["topk_index"] == index).all()
    report = moeref.check({"O": case.expected["O"], "dS": case.expected["dS"]}, case=case)
    assert report.passed and report.tensors["dS"]["verdict"] == "pass"


def test_slots_of_own_ids_are_theirs():
    drawn = numpy_case(PLAN)
    turned = {n: drawn.inputs[n][:, ::-1] for n in ("topk_index", "topk_weight")}
    case = numpy_case(PLAN, inputs={**drawn.inputs, **turned})
    assert (case.inputs["topk_index"] == turned["topk_index"]).all()
    dS = drawn.expected["dS"]
    assert (case.expected["dS"] == dS[:, ::-1]).all()
    assert moeref.check({"dS": dS[:, ::-1]}, case=case).passed
    assert not moeref.check({"dS": dS}, case=case).passed


def test_own_inputs():
    rng = np.random.default_rng(1)
    own = {"X": rng.standard_normal((48, 24)), "dO": rng.standard_normal((48, 24)),
           "W_r": rng.standard_normal((6, 24)), "W1": rng.standard_normal((6, 24, 32)),
           "W2": rng.standard_normal((6, 16, 24))}
    case = numpy_case(LINE.replace("fp32", "fp64"), inputs=own)
    assert (case.inputs["X"] == own["X"]).all()
    assert (case.inputs["W1"] == own["W1"].swapaxes(1, 2)).all()
    assert moeref.check(layer, case=case).passed
    with pytest.raises(moeref.InvalidError, match="W2 has shape"):
        moeref.case(LINE, inputs={"W2": np.zeros((6, 16, 23))})
    with pytest.warns(UserWarning, match="b1 is not used: the layer of the case has none") as told:
        numpy_case(LINE, inputs={**own, "b1": np.zeros((6, 32)), "b2": np.zeros((6, 24))})
    assert len(told) == 2


def test_own_routing_keeps_its_slots():
    rng = np.random.default_rng(2)
    index = np.argsort(rng.random((48, 6)), -1)[:, :2].astype(np.int32)  # in no order
    index[5, 0] = index[7] = -1
    weight = rng.random((48, 2)).astype(np.float32)
    case = numpy_case(PLAN.replace(" drop=5", ""), inputs={
        "topk_index": index, "topk_weight": weight, "X": rng.standard_normal((48, 24))})
    assert (case.inputs["topk_index"] == index).all()
    used = index >= 0
    assert (case.inputs["topk_weight"][used] == weight[used]).all()
    assert (case.expected["topk_index"] == index).all()
    assert (case.expected["dS"][~used] == 0).all() and (case.expected["dS"][used] != 0).all()
    results = {"O": given(case.inputs["X"], index, weight, case.inputs["W1"], case.inputs["W2"]),
               "dS": case.expected["dS"]}
    report = moeref.check(results, case=case, arithmetic="fp32")
    assert report.passed and report.tensors["dS"]["verdict"] == "pass", report
    assert moeref.check(given, case=case).passed
    wrong = moeref.check("reference", case=case, recipe="")
    assert wrong.json["cases"][0]["reproduce"].startswith("moeref.check('reference', case=moeref.")
    for bad, sentence in ((index.astype(np.float32), "must be integers of shape .48, K., not fp32"),
                          (index + 9, "expert"), (np.zeros_like(index), "twice")):
        with pytest.raises(moeref.InvalidError, match=sentence):
            moeref.case(PLAN, inputs={"topk_index": bad, "topk_weight": weight})


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


def test_memory_is_shared_and_outlives_the_case():
    case = numpy_case(LINE)
    memory = case.inputs.raw("X")
    first, second = memory.numpy(), np.from_dlpack(memory)
    assert first.ctypes.data == second.ctypes.data and not first.flags.writeable
    kept = first.copy()
    del case, memory, second
    assert (first == kept).all()


def test_copies_share_and_pickles_say_what_to_take():
    case = numpy_case(LINE)
    report = moeref.check("reference", case=case)
    copies = copy.deepcopy([case, report]), copy.copy(case)
    text = str(report)
    del case, report
    assert str(copies[0][1]) == text and (copies[0][0].inputs["X"] == copies[1].inputs["X"]).all()
    for kept in copies[0]:
        with pytest.raises(TypeError, match="a case's line and a report's json can"):
            pickle.dumps(kept)


def test_backends():
    assert "reference" in moeref.backends()
    assert moeref.check("reference", case=LINE).passed
    with pytest.raises(moeref.NotFoundError, match="nonesuch"):
        moeref.check("nonesuch", case=LINE)


@pytest.mark.skipif("openblas" not in moeref.backends(), reason="no OpenBLAS on this machine")
def test_openblas():
    assert moeref.check("openblas", case=LINE).passed


def test_predictions():
    p = moeref.predict("T=32768 d=4096 n=1024 E=128 K=8", gpu="h100-sxm", method="sonicmoe")
    assert len(p.kernels) > 4 and p.kernels[0]["us"] > 0
    assert sum(k["us"] for k in p.kernels) <= p.total_us * 1.0001
    assert str(p).startswith("T=32768") and p.kernels[0]["name"] in repr(p.kernels)
    slower = moeref.predict("T=32768 d=4096 n=1024 E=128 K=8", gpu="h100-sxm", method="sonicmoe",
                            what_if=["hbm_bw/2"])
    assert slower.total_us > p.total_us
    same = moeref.predict(moeref.case("T=64 d=64 n=32 E=4 K=2"))
    assert same.total_us == moeref.predict("T=64 d=64 n=32 E=4 K=2").total_us
    with pytest.raises(moeref.InvalidError, match="what_if is a list"):
        moeref.predict("T=8 d=8 n=8 E=2 K=1", what_if=5)
    with pytest.raises(moeref.NotFoundError, match="sonicmoe"):
        moeref.predict("T=8 d=8 n=8 E=2 K=1", method="nonesuch")
    with pytest.raises(moeref.NotFoundError, match="h100-sxm"):
        moeref.predict("T=8 d=8 n=8 E=2 K=1", gpu="nonesuch")


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


@pytest.mark.parametrize("arguments, sentence", [
    (("T=8 d=8 n=8 E=2",), "K"), (("T=8 d=8 n=8 E=2 K=9",), "K"), (("banana",), "banana"),
    (("T=8\0",), "null"), ((7,), "str"), ((None,), "line")])
def test_bad_cases(arguments, sentence):
    with pytest.raises(moeref.InvalidError, match=sentence):
        moeref.case(*arguments)


def test_errors_tell_what_there_is_and_where_they_are_from():
    with pytest.raises(moeref.NotFoundError, match="known: moeref sonicmoe") as caught:
        moeref.check("reference", case=LINE, recipe="nonesuch")
    assert f"{caught.type.__module__}.{caught.type.__name__}" == "moeref.NotFoundError"
    with pytest.raises(moeref.InvalidError, match="layer= goes with hf="):
        moeref.case(LINE, layer=3)


def test_nothing_is_printed_where_nobody_looks():
    """A large case is said to take long on a terminal, and not by C into anybody's stderr."""
    program = ("import moeref\ntry: moeref.case('T=100000000 d=4096 n=1024 E=128 K=8')\n"
               "except MemoryError: print('too large')")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("too large\n", "")


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


def test_a_truth_that_many_ask_for_at_once():
    """It is made once, whoever asks: threads, or somebody again after Ctrl-C."""
    for seed in range(20):
        case = moeref.case(f"T=64 d=48 n=32 E=6 K=2 dtype=fp32 seed={seed}", framework="numpy")
        told = []
        threads = [threading.Thread(target=lambda: told.append(list(case.expected)))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 6 and list(case._listed(1)) == told[0]
        row, count = moeref._library.NamedTensor(), 0
        while moeref._library.LIB.moe_py_problem_tensor(case._handle.pointer, 1, count, row):
            count += 1
        assert count == len(told[0])
