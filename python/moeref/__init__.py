"""moeref: a reference Mixture-of-Experts layer, a judge for every other one, and a cost model.

    import moeref
    report = moeref.check(my_layer, case="T=512 d=768 n=256 E=64 K=4 dtype=bf16 renorm=1 seed=7")
    moeref.predict("T=32768 d=4096 n=1024 E=128 K=8", gpu="h100-sxm", method="sonicmoe").kernels
    case = moeref.case("T=64 d=32 n=16 E=8 K=2"); case.inputs; case.expected

moeref.torch (an operator with autograd) and moeref.transformers need torch and Transformers; the
rest needs neither, nor, but for arrays, NumPy.
"""
from typing import List

from . import _library
from ._case import Case, case
from ._check import Report, check
from ._library import (Error, FileError, InvalidError, NotFoundError, OutOfMemoryError,
                       UnsupportedError)
from ._predict import Prediction, predict

__version__: str = _library.LIB.moe_py_version().decode("ascii")
__all__ = ["Case", "Error", "FileError", "InvalidError", "NotFoundError", "OutOfMemoryError",
           "Prediction", "Report", "UnsupportedError", "backends", "case", "case_help", "check",
           "gpus", "methods", "predict", "recipes", "suite"]


def gpus() -> List[str]:
    """Names of the GPUs that predict() knows."""
    return _library.names("g")


def methods() -> List[str]:
    """Names of the methods, whose kernels predict() knows."""
    return _library.names("m")


def recipes() -> List[str]:
    """Names of the recipes: where kernels of 16 bits round."""
    return _library.names("r")


def backends() -> List[str]:
    """Names of the backends that can be used here, for check() and moeref.torch."""
    return _library.names("b")


def suite() -> List[str]:
    """The case lines that `moeref check` runs by default."""
    return _library.names("c")


def case_help() -> str:
    """The keys of a case line, with their defaults."""
    return "\n".join(_library.names("k"))
