"""Judging: is a callable, a backend or a dict of outputs right, and if not, where and why?"""
import ctypes as c
import json
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from . import _library as lib
from . import _tensors
from ._case import Case, CaseLike, _Handle, as_case
from ._run import run, title

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is

# A backend, a dict of results, a function or module.
Subject = Union[str, Mapping[str, Any], Callable[..., Any]]
_ROUTING = {"topk_index", "topk_weight"}


class Report:
    """A verdict. Prints as `moeref check` does; true where it passed.

    Attributes: passed; verdict ("pass", "ambiguous", "skip", "mistrusted", "fail", "error");
    why (one sentence, "" when passed); mistrusted_for (features of the layer that decide nothing in
    the case, so that a pass says nothing of them: ["clamp_gate_above"]); explanation (the cause, a
    sentence, or None: none was found, or nothing failed); first_wrong_stage (a tensor's name or
    None); tensors (a dict of each tensor's figures by name); json (all of it, as
    `moeref check --output json` has it).
    """

    def __init__(self, handle: _Handle):
        self._handle = handle
        verdict = lib.LIB.moe_py_verdict_json(handle.pointer)
        self.json: Dict[str, Any] = json.loads(lib.take_text(verdict))
        record = self.json["cases"][0]
        self.verdict: str = record["verdict"]
        self.passed: bool = self.verdict in ("pass", "ambiguous")
        self.why: str = record["why"]
        self.mistrusted_for: List[str] = record["mistrusted_for"]
        cause = record["explanation"]
        self.explanation: Optional[str] = cause["text"] if cause and cause["kind"] else None
        self.first_wrong_stage: Optional[str] = record["first_wrong_stage"]
        self.tensors: Dict[str, Dict[str, Any]] = {t["name"]: t for t in record["tensors"]}

    def __bool__(self) -> bool:
        return self.passed  # or `assert moeref.check(...)` would hold whatever it says

    def text(self, full: bool = False) -> str:
        """The printed report; `full`: every tensor with its gates, also of a pass."""
        return lib.take_text(lib.LIB.moe_py_verdict_text(self._handle.pointer, int(bool(full))))

    def html(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes a page to look at: one file, no network. FileError: it cannot be written."""
        lib.call("verdict_html", self._handle.pointer, lib.path(path, "path"))

    def __str__(self) -> str:
        return self.text().rstrip("\n")

    __repr__ = __str__


def check(subject: Subject, case: CaseLike, *, arithmetic: str = "", recipe: str = "",
          params: Optional[Mapping[str, str]] = None, device: Optional[str] = None,
          batched: bool = False, threads: int = 0, repeats: int = 0, explain: bool = True,
          exhaustive: bool = False, map_tile: int = 0,
          dump: Union[str, "os.PathLike[str]"] = "", timeout: int = 0, scout: str = "",
          progress: Optional[bool] = None) -> Report:
    """Judges `subject` against float64 on `case`, and raises nothing when it fails.

    subject   a callable: its parameters are named as the case's inputs (X, W_r, W1, W2, topk_index,
              topk_weight ...; x, hidden_states, w1, gate_up_proj, top_k_weights ... mean the same);
              one parameter of another name gets a dict of them all. It returns O [T, d], a tuple
              that begins with O, or a dict of results. In torch, O's gradients are autograd's: of X
              and of every parameter that it takes.
              A torch.nn.Module, compiled or not: X (and a given routing) goes to its forward, the
              case's parameters are put into the module's own, which get their values back.
              A dict of results: any of O, dX, dS, dW1, dW2, dW_r ..., topk_index, topk_weight.
              A str: a backend's name, "openblas", or the path of its shared object.
    case      a line or moeref.case(...), whose `framework` says what a function gets: torch's
              tensors where torch is imported, else NumPy's arrays.
    arithmetic  "fp32", "bf16" ...: whose gates judge; "": that of O's dtype. bf16 in NumPy is
              float32, and so needs it.
    recipe    where a kernel of 16 bits rounds, a name of moeref.recipes(); "": any.
    params    a module's parameters by the case's names, {"router.weight": "W_r", ...}, where their
              own names do not tell.
    device    "cuda": where inputs and module go.
    batched   X is handed over as [1, T, d].
    threads, repeats, exhaustive, map_tile, timeout   as the program's options.
    scout     where the truth is a sample: a backend that runs the layer too, so that the results
              are also judged where they lie farthest from its; "": openblas:fp32, where that takes
              a minute at most; "none".
    explain   look for the cause of a failure. dump: keep failures in this folder.
    progress  show it (None: where stderr is a terminal).

    Raises InvalidError for arguments or tensors that cannot be judged, NotFoundError for a name;
    what `subject` raises goes through.
    """
    own_case, stage = isinstance(case, Case), lib.Stage()
    problem = as_case(case)
    name = title(subject)
    how = lib.How(
        recipe=lib.text(recipe, "recipe"), arithmetic=lib.text(arithmetic, "arithmetic"),
        dump_dir=lib.path(dump, "dump"), scout=lib.text(scout, "scout"),
        threads=lib.number(threads, "threads", 0, 4096),
        repeats=lib.number(repeats, "repeats", 0, 1000), no_explanation=int(not explain),
        exhaustive=int(bool(exhaustive)), map_tile=lib.number(map_tile, "map_tile"),
        timeout_s=lib.number(timeout, "timeout", 0, 1000000), reproduce=b"", changed=b"",
        stage=c.pointer(stage))
    pointer, ran = c.c_void_p(), None
    if isinstance(subject, str):
        spec = lib.text(subject, "a backend's name")
        if problem._own:  # of which the program's line knows nothing
            told = f"moeref.check({subject!r}, case={problem!r})"
            how.reproduce = lib.text(told, "a name")

        def work() -> None:
            lib.call("check_backend", problem._handle.pointer, spec, c.byref(how),
                     c.byref(pointer))
    else:
        if isinstance(subject, Mapping):
            results = dict(subject)
        else:
            ran = run(subject, problem, params, device, batched)
            results, how.changed = ran.results, ran.changed.encode("ascii")
        array, count, kept = _tensors.named(results)
        encoded = lib.text(name, "a name")
        told = repr(problem) if own_case else repr(problem.line)
        how.reproduce = lib.text(f"moeref.check({name}, case={told})", "a name")

        def work() -> None:
            lib.call("check", problem._handle.pointer, encoded, array, count, c.byref(how),
                     c.byref(pointer))
            del kept[:]

        kept = [kept]
    lib.at_length(f"{name} on {problem.name}", work, progress, stage)
    report = Report(_Handle(pointer, lib.LIB.moe_py_verdict_close))
    if ran and problem.plan_given and not report.passed and not set(ran.taken) & _ROUTING:
        lib.warn(f"the case gives the routing, and {name} takes neither topk_index nor topk_weight")
    return report
