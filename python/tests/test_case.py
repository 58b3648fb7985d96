"""Cases, own inputs and predictions, without torch."""
import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import moeref
from plain_layers import LINE, PLAN, given, layer, numpy_case


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
