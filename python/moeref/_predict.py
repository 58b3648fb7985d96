"""The GPU cost model."""
import ctypes as c
import json
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Literal, Sequence, Union, overload

from . import _library as lib
from ._case import Case, CaseLike

if TYPE_CHECKING:
    import pandas

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is

_COLUMNS = ("pass", "name", "us", "floor_us", "flops", "hbm_bytes", "l2_bytes", "smem_bytes",
            "tiles", "waves", "bound_by", "tile")


class Kernels(Sequence[Dict[str, Any]]):
    """Kernels in the order in which they run, a dict each. Prints as a table."""

    def __init__(self, rows: List[Dict[str, Any]]):
        self._rows = rows

    @overload
    def __getitem__(self, at: int) -> Dict[str, Any]: ...

    @overload
    def __getitem__(self, at: slice) -> "Kernels": ...

    def __getitem__(self, at: Union[int, slice]) -> Union[Dict[str, Any], "Kernels"]:
        return Kernels(self._rows[at]) if isinstance(at, slice) else self._rows[at]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return iter(self._rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """The same as a pandas.DataFrame; ImportError without pandas."""
        import pandas
        return pandas.DataFrame(self._rows, columns=list(_COLUMNS))

    def __repr__(self) -> str:
        lines = [f"{'pass':4} {'kernel':12} {'us':>11} {'floor us':>11} {'TFLOP/s':>8} "
                 f"{'HBM MB':>9}  bound by"]
        for k in self._rows:
            rate = k["flops"] / k["us"] / 1e6 if k["us"] > 0 else 0.0
            lines.append(f"{k['pass']:4} {k['name']:12} {k['us']:11.1f} {k['floor_us']:11.1f} "
                         f"{rate:8.1f} {k['hbm_bytes'] / 1e6:9.2f}  {k['bound_by']}")
        return "\n".join(lines)


class Prediction:
    """What a layer should cost. Prints as `moeref predict` does.

    Attributes: kernels, and in microseconds total_us, forward_us, backward_us, overhead_us,
    floor_us; flops; padding (share of the tensor cores' work, 0..1); peak_bytes, cached_bytes,
    param_bytes; json (a dict of all).
    """

    def __init__(self, text: str, record: Dict[str, Any]):
        self._text, self.json = text, record
        self.kernels = Kernels(record["kernels"])
        self.total_us: float = record["total_us"]
        self.forward_us: float = record["forward_us"]
        self.backward_us: float = record["backward_us"]
        self.overhead_us: float = record["overhead_us"]
        self.floor_us: float = record["floor_us"]
        self.flops: float = record["flops"]
        self.padding: float = record["padding"]
        self.peak_bytes: float = record["peak_bytes"]
        self.cached_bytes: float = record["cached_bytes"]
        self.param_bytes: float = record["param_bytes"]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._text.rstrip("\n")


def _words(what_if: Any) -> bytes:
    """Changes of a GPU as C takes them: one text of words."""
    if isinstance(what_if, str):
        what_if = [what_if]
    if not isinstance(what_if, (list, tuple)):
        raise lib.InvalidError("what_if is a list of changes such as 'hbm_bw*1.5', not "
                               f"{type(what_if).__name__}")
    words = [lib.text(w, "what_if") for w in what_if]
    if any(b" " in w for w in words):
        raise lib.InvalidError("a what_if is one word such as 'hbm_bw*1.5'")
    return b" ".join(words)


def predict(case: CaseLike, *, gpu: str = "h100-sxm", method: str = "moeref",
            what_if: Sequence[str] = (), clock: Literal["", "burst", "settled"] = "",
            data: Literal["", "random", "constant"] = "", stream: bool = False) -> Prediction:
    """Predicts a layer, "T=32768 d=4096 n=1024 E=128 K=8", or a "gemm m=.. n=.. k=..", on a GPU.
    A moeref.case(...) that was made of a line will do too.

    gpu      a name of moeref.gpus() or the path of a description.
    method   whose kernels: a name of moeref.methods().
    what_if  changes of the GPU: ["hbm_bw*1.5", "sms=144"].
    clock    "burst" or "settled"; data: "random" or "constant"; stream: launched one by one.

    Raises InvalidError, NotFoundError (with the names that exist) or UnsupportedError.
    """
    line: Any = case.line if isinstance(case, Case) else case
    if isinstance(case, Case) and line is None:
        raise lib.InvalidError(f"{case!r} is a checkpoint's; what is predicted is a line")
    text, record = c.c_void_p(), c.c_void_p()
    lib.call("predict", lib.text(line, "case"), lib.text(gpu, "gpu"), lib.text(method, "method"),
             _words(what_if), lib.text(clock, "clock"), lib.text(data, "data"), int(bool(stream)),
             c.byref(text), c.byref(record))
    printed = lib.take_text(text.value)
    return Prediction(printed, json.loads(lib.take_text(record.value)))
