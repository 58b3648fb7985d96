"""Hostile arguments end in exceptions of moeref's own, or Python's for types, never in a crash."""
import collections.abc
import ctypes

import numpy as np
import pytest

import moeref
from moeref import _tensors

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
CASE = moeref.case("T=6 d=4 n=3 E=3 K=2 dtype=fp32 route=uniform seed=1", framework="numpy")
MOST = hypothesis.settings(max_examples=60, deadline=None)

words = st.text(max_size=40) | st.sampled_from(
    ["T=8 d=8 n=8 E=4 K=2", "T=-1 d=8 n=8 E=4 K=2", "T=99999999999999 d=8 n=8 E=4 K=2",
     "T=8 d=8 n=8 E=4 K=2 act=banana", "gemm m=0 n=1 k=1", "T=8 d=8 n=8 E=4 K=2 seed=-1"])
dtypes = st.sampled_from(["f4", "f8", "f2", "i4", "i8", "u1", "?", "c8", ">f4", "S3", "O", "M8[s]"])
shapes = st.lists(st.integers(0, 7), max_size=6).map(tuple) | st.sampled_from(
    [(6, 4), (6, 2), (3, 6, 4), (3, 4, 3)])


@st.composite
def arrays(draw):
    shape, dtype = draw(shapes), draw(dtypes)
    array = np.zeros(shape, dtype)
    if array.dtype.kind in "fi" and array.size and array.size < 4000:
        array = (np.random.default_rng(draw(st.integers(0, 9))).standard_normal(shape) * draw(
            st.sampled_from([1, 100, 1e30, np.nan, np.inf]))).astype(dtype, casting="unsafe") \
            if array.dtype.kind == "f" else array + draw(st.integers(-100, 100))
    return array.T if draw(st.booleans()) else array[::-1] if shape else array


names = st.sampled_from(["O", "dX", "dS", "dW1", "dW2", "topk_index", "topk_weight", "X", "W1", "H",
                         "Y", "é", ""]) | st.text(max_size=5)
values = arrays() | st.none() | st.integers() | st.lists(st.integers(), max_size=3)


@MOST
@hypothesis.given(st.dictionaries(names, values, max_size=5), words, words)
@pytest.mark.filterwarnings("ignore")
def test_outputs(results, arithmetic, recipe):
    for how in ({}, {"arithmetic": arithmetic}, {"recipe": recipe}):
        try:
            moeref.check(results, case=CASE, explain=False, **how)
        except moeref.Error:
            pass


@MOST
@hypothesis.given(words, st.dictionaries(names, values, max_size=4))
@pytest.mark.filterwarnings("ignore")
def test_inputs(line, inputs):
    for text in (line, "T=6 d=4 n=3 E=3 K=2 dtype=fp32 route=uniform"):
        try:
            moeref.case(text, inputs=inputs)
        except moeref.Error:
            pass


@MOST
@hypothesis.given(words, words, words, st.lists(words, max_size=2), words, words)
def test_predictions(line, gpu, method, what_if, clock, data):
    for more in ({}, {"gpu": gpu}, {"method": method}, {"what_if": what_if}, {"clock": clock},
                 {"data": data}):
        try:
            moeref.predict(line, **more)
        except moeref.Error:
            pass


class Liar:
    """Has the names of DLPack and nothing behind them."""

    def __init__(self, answer):
        self.answer = answer

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return self.answer


@pytest.mark.parametrize("answer", [None, 3, b"x", object()])
def test_capsules_that_are_none(answer):
    with pytest.raises((moeref.Error, TypeError)):
        moeref.check({"O": Liar(answer)}, case=CASE)


class Lender:
    """Lends memory of NumPy's through DLPack, with one word about it that is wrong."""

    def __init__(self, where=(1, 0), **wrong):
        self.where, self.held = where, np.zeros((6, 4), "f4")
        told = {"data": self.held.ctypes.data, "device_type": 1, "ndim": 2, "code": 2, "bits": 32,
                "lanes": 1, "shape": (6, 4), "strides": None, **wrong}
        for field in ("shape", "strides"):
            if told[field] is not None:
                told[field] = (ctypes.c_int64 * len(told[field]))(*told[field])
        self.managed = _tensors._DLManaged(_tensors._DLTensor(**told))

    def __dlpack_device__(self):
        return self.where

    def __dlpack__(self, **_):
        return _tensors._CAPSULE_NEW(ctypes.addressof(self.managed), b"dltensor", None)


@pytest.mark.parametrize("wrong, sentence", [
    ({"data": None}, "no memory"), ({"ndim": 1 << 30}, "dimensions"), ({"ndim": -1}, "dimensions"),
    ({"shape": None}, "no shape"), ({"shape": (-6, 4)}, "the shape"),
    ({"shape": (1 << 40, 1 << 40)}, "the shape"), ({"lanes": 4}, "element type"),
    ({"bits": 7}, "element type"),
    ({"where": None}, "__dlpack__ fails")])
def test_dlpack_that_lies(wrong, sentence):
    with pytest.raises(moeref.InvalidError, match=sentence):
        moeref.check({"O": Lender(**wrong)}, case=CASE)


def test_dlpack_that_is_not_dense_is_copied():
    turned = Lender(strides=(1, 6))
    turned.held[:] = np.ascontiguousarray(CASE.expected["O"]).astype("f4").T.reshape(6, 4)
    assert moeref.check({"O": turned}, case=CASE).passed


class Boasting(np.ndarray):
    @property
    def shape(self):
        return (600, 400)


def test_arrays_and_mappings_that_lie():
    boast = np.zeros((6, 4), "f4").view(Boasting)
    assert "NMSE 1.00e+00" in moeref.check({"O": boast}, case=CASE, explain=False).why

    class Many(collections.abc.Mapping):
        def __len__(self):
            return 1

        def __iter__(self):
            return iter(["O", "dX", "dS", "H"])

        def __getitem__(self, name):
            return np.zeros((6, 4), "f4")

    assert not moeref.check(Many(), case=CASE, explain=False).passed


@pytest.mark.parametrize("how", [{"threads": -1}, {"threads": 1 << 40}, {"repeats": 1.5},
                                 {"timeout": "x"}, {"map_tile": -3}, {"recipe": 3}])
def test_bad_options(how):
    with pytest.raises(moeref.InvalidError):
        moeref.check({"O": np.zeros((6, 4), "f4")}, case=CASE, **how)


@pytest.mark.parametrize("line", [None, 3, b"T=8 d=8 n=8 E=4 K=2", ["T=8"], np.zeros(3)])
def test_predictions_of_what_is_no_line(line):
    with pytest.raises(moeref.InvalidError, match="case is a str, not"):
        moeref.predict(line)
