"""Cases: a layer with its inputs and its truth."""
import ctypes as c
import json
import os
import threading
from typing import Any, Literal, Mapping, Optional, Union

from . import _library as lib
from . import _tensors

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is


class _Handle:
    """Something of C's that is closed when nobody holds it."""

    def __init__(self, pointer: c.c_void_p, close: Any):
        self.pointer, self._close = pointer, close
        self.changing = threading.Lock()  # held by the one thread that may add to it

    def __del__(self) -> None:
        self._close(self.pointer)

    def __deepcopy__(self, _memo: Any) -> "_Handle":
        return self  # what is behind it never changes

    def __reduce__(self) -> Any:
        raise TypeError("cases and reports are in memory of C and cannot be pickled; a case's line "
                        "and a report's json can")


class Case:
    """A layer, its inputs and what is right. Made by :func:`case`.

    Attributes: name (what reports call it), line (what it was made of; None: a checkpoint), T, d,
    n, E, K, seed, dtype ("bf16" ...), backward (is there a backward pass?), plan_given (does the
    routing come with the inputs?).
    """

    def __init__(self, handle: _Handle, framework: Optional[str], line: Optional[str], told: str,
                 own: bool):
        self._handle, self._framework, self._told = handle, framework, told
        self.line, self._own = line, own
        self._expected: Optional[_tensors.Tensors] = None
        self.name: str = lib.LIB.moe_py_problem_name(handle.pointer).decode("utf-8", "replace")
        facts = json.loads(lib.take_text(lib.LIB.moe_py_problem_facts(handle.pointer)))
        self.T: int = facts["T"]
        self.d: int = facts["d"]
        self.n: int = facts["n"]
        self.E: int = facts["E"]
        self.K: int = facts["K"]
        self.seed: int = facts["seed"]
        self.dtype: str = facts["dtype"]
        self.backward: bool = bool(facts["pass"] & 2)
        self.plan_given: bool = facts["plan_given"]
        self._inputs = self._listed(0)

    def _listed(self, expected: int) -> _tensors.Tensors:
        row, found = lib.NamedTensor(), {}
        i = 0
        while lib.LIB.moe_py_problem_tensor(self._handle.pointer, expected, i, c.byref(row)):
            name = row.name.decode("ascii")
            found[name] = _tensors.Memory(self._handle, name, row.tensor)
            i += 1
        return _tensors.Tensors(found, _tensors.choose_framework(self._framework))

    def _solve(self) -> None:
        """Also after Ctrl-C, which leaves the thread that began to its work."""
        with self._handle.changing:
            lib.call("problem_solve", self._handle.pointer, 0)

    @property
    def inputs(self) -> _tensors.Tensors:
        """Inputs and parameters by name, in the case's dtype, on the library's memory: X, dO
        [T, d], W_r [E, d], W1 [E, 2n or n, d], W2 [E, d, n], b1, b2 ...; where the routing is given
        topk_index [T, K] int64 (-1: an empty slot) and topk_weight [T, K] float32."""
        return self._inputs

    @property
    def expected(self) -> _tensors.Tensors:
        """What is right, float64 by plain loops: O, dX [T, d], dW1, dW2 ... as the parameters,
        topk_index, topk_weight and dS [T, K], the stages H, A, Y, dH, dXp [pairs, ...] in the order
        of experts. Computed when it is first asked for."""
        if self._expected is None:
            lib.at_length(f"the truth of {self.name}", self._solve)
            self._expected = self._listed(1)
        return self._expected

    def __repr__(self) -> str:
        return self._told


CaseLike = Union[str, Case]


def case(line: Optional[str] = None, *, inputs: Optional[Mapping[str, Any]] = None,
         hf: Union[str, "os.PathLike[str]", None] = None, layer: Optional[int] = None,
         framework: Optional[Literal["numpy", "torch"]] = None) -> Case:
    """A case: a layer with inputs drawn from a seed, your own, or a checkpoint's.

    line       "T=512 d=768 n=256 E=64 K=4 dtype=bf16 renorm=1 seed=7"; moeref.case_help() lists
               the keys.
    inputs     your own tensors by name (X, dO, W_r, W1 [E, 2n, d], W2 [E, d, n] ...; [E, d, 2n] is
               turned round), any floating types, copied; what is missing is drawn, with a warning.
               topk_index [T, K] and topk_weight [T, K] replace the router where `line` has route=
               or there is no W_r.
    hf, layer  instead: the folder of a Hugging Face checkpoint, and which of its layers.
    framework  "numpy" or "torch": what .inputs and .expected hold; torch where it is imported.

    Raises InvalidError for a line or tensors that contradict themselves, FileError for `hf`.
    """
    if (line is None) == (hf is None):
        raise lib.InvalidError("a case is a line or hf=, the folder of a checkpoint")
    if layer is not None and hf is None:
        raise lib.InvalidError("layer= goes with hf=; a line has one layer")
    if hf is not None and inputs is not None:
        raise lib.InvalidError("inputs= goes with a line; a checkpoint has its own")
    if inputs is not None and not isinstance(inputs, Mapping):
        raise lib.InvalidError(f"inputs is a dict of tensors, not {type(inputs).__name__}")
    kind = "h" if hf is not None else "o" if inputs is not None else "c"
    words: Any = line
    if hf is not None:
        try:
            words = os.fspath(hf)
        except TypeError as error:
            raise lib.InvalidError("hf is the path of a folder") from error
        if isinstance(words, bytes):
            words = os.fsdecode(words)
    _tensors.choose_framework(framework)
    encoded = lib.text(words, "hf" if hf is not None else "a case line")
    array, count, kept = _tensors.named(inputs or {})
    which = -1 if layer is None else lib.number(layer, "layer")
    pointer = c.c_void_p()

    def work() -> None:
        try:
            lib.call("problem_open", ord(kind), encoded, which, array, count, c.byref(pointer))
        except lib.FileError as error:
            if inputs is None:
                raise
            raise lib.InvalidError(str(error)) from None  # no file, but tensors

    lib.at_length(f"case {words}", work)
    del kept
    told = f"hf={words!r}" if hf is not None else repr(line)
    told += "" if layer is None else f", layer={which}"
    told += "" if inputs is None else ", inputs=..."
    told += "" if framework is None else f", framework={framework!r}"
    return Case(_Handle(pointer, lib.LIB.moe_py_problem_close), framework, line,
                f"moeref.case({told})", inputs is not None)


def as_case(value: Any) -> Case:
    """A Case as it is, a line made one."""
    if isinstance(value, Case):
        return value
    if isinstance(value, str):
        return case(value)
    raise lib.InvalidError(f"case is a line or a moeref.case(...), not {type(value).__name__}")
