"""The C library: where it is, how it is called, how its errors become exceptions.

ctypes and a small C file beside the library (``binding.so``) stand between Python and C. No
compiler and no headers of Python are needed, one wheel serves every Python 3, and the GIL is free
while C runs.
"""
import ctypes as c
import os
import shutil
import sys
import threading
import time
import warnings
from typing import Any, Callable, Dict, List, Optional, Tuple

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is
HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(HERE, "lib", "moeref", "python", "binding.so")


class Error(Exception):
    """Something that the library refuses or cannot do; the message is its own sentence."""


class InvalidError(Error, ValueError):
    """An argument, a case or tensors contradict themselves or each other."""


class NotFoundError(Error, LookupError):
    """A name (GPU, method, backend, recipe, tensor) does not exist."""


class UnsupportedError(Error, NotImplementedError):
    """Well-formed, but this build, backend or model cannot do it."""


class OutOfMemoryError(Error, MemoryError):
    """There is not enough memory."""


class FileError(Error, OSError):
    """A file cannot be read or written, or is not what its format says."""


for _error in (Error, InvalidError, NotFoundError, UnsupportedError, OutOfMemoryError, FileError):
    _error.__module__ = "moeref"  # where users find them, and tracebacks say so
_ERRORS = {-1: InvalidError, -2: OutOfMemoryError, -3: FileError, -4: FileError,
           -5: UnsupportedError, -6: NotFoundError}

MAX_DIMS = 4


class Tensor(c.Structure):
    """moe_tensor of tensor.h."""
    _fields_ = [("data", c.c_void_p), ("dtype", c.c_int32), ("ndim", c.c_int32),
                ("shape", c.c_int64 * MAX_DIMS)]


class NamedTensor(c.Structure):
    """moe_named_tensor of safetensors.h."""
    _fields_ = [("name", c.c_char_p), ("tensor", Tensor)]


class Stage(c.Structure):
    """moe_py_stage of the binding: what a check is at. C writes it while Python looks."""
    _fields_ = [("phase", c.c_char_p), ("percent", c.c_int64), ("failed", c.c_char * 800),
                ("is_failed", c.c_int32), ("enough", c.c_int32)]


class How(c.Structure):
    """moe_py_how of the binding."""
    _fields_ = [("recipe", c.c_char_p), ("arithmetic", c.c_char_p), ("reproduce", c.c_char_p),
                ("dump_dir", c.c_char_p), ("scout", c.c_char_p), ("threads", c.c_int32),
                ("repeats", c.c_int32),
                ("no_explanation", c.c_int32), ("exhaustive", c.c_int32), ("map_tile", c.c_int32),
                ("timeout_s", c.c_int32), ("changed", c.c_char_p), ("stage", c.POINTER(Stage))]


class Form(c.Structure):
    """moe_py_form of the binding."""
    _fields_ = [(name, c.c_int64) for name in (
        "dtype", "trains", "threads", "device_index", "columns", "index_dtype", "weight_dtype",
        "gradient_dtype", "turned", "adds")]


# moe_py_step of the binding, all int64.
STEP_FIELDS = ("tokens stream cached_bytes workspace_bytes converted_bytes cached workspace "
               "converted x index weights w1 w2 b1 b2 o d_o dx ds dw1 dw2 db1 db2").split()

_SAID = 8192
_P, _S, _I, _L = c.c_void_p, c.c_char_p, c.c_int32, c.c_int64
_PP = c.POINTER(c.c_void_p)
# name: (result, arguments). "said" stands for the buffer that messages go to.
_FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "layout": (None, [c.POINTER(c.c_int64)]),
    "free": (None, [_P]),
    "version": (_S, []),
    "problem_open": (_I, [c.c_int, _S, _L, c.POINTER(NamedTensor), _L, "said", _PP]),
    "problem_close": (None, [_P]),
    "problem_name": (_S, [_P]),
    "problem_facts": (_P, [_P]),
    "problem_solve": (_I, [_P, _I, "said"]),
    "problem_lend": (_P, [_P, _P, c.c_int, c.POINTER(_L), c.c_int, c.c_int]),
    "problem_tensor": (c.c_int, [_P, c.c_int, _L, c.POINTER(NamedTensor)]),
    "check": (_I, [_P, _S, c.POINTER(NamedTensor), _L, c.POINTER(How), "said", _PP]),
    "check_backend": (_I, [_P, _S, c.POINTER(How), "said", _PP]),
    "verdict_close": (None, [_P]),
    "verdict_text": (_P, [_P, c.c_int]),
    "verdict_json": (_P, [_P]),
    "verdict_html": (_I, [_P, _S, "said"]),
    "predict": (_I, [_S, _S, _S, _S, _S, _S, c.c_int, "said", _PP, _PP]),
    "list": (_P, [c.c_int]),
    "experts_open": (_I, [_S, _S, c.POINTER(Form), "said", _PP]),
    "experts_close": (None, [_P]),
    "experts_sizes": (_I, [_P, _L, "said", c.POINTER(_L)]),
    "experts_run": (_I, [_P, c.c_int, _S, "said", c.POINTER(_L)]),
}


def _load() -> c.CDLL:
    try:
        library = c.CDLL(LIBRARY)
    except OSError as error:
        raise ImportError(f"moeref's library cannot be loaded: {error}") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, "moe_py_" + name)
        function.restype = result
        function.argtypes = [c.c_char_p if a == "said" else a for a in arguments]
    told = (c.c_int64 * 4)()
    library.moe_py_layout(told)
    mine = [c.sizeof(NamedTensor), c.sizeof(How), c.sizeof(Form), 8 * len(STEP_FIELDS)]
    if list(told) != mine:
        raise ImportError(f"{LIBRARY} is of another version of moeref than the Python files")
    return library


LIB = _load()


def text(value: Any, what: str) -> bytes:
    """A str for C. InvalidError: not a str, or with a null character in it."""
    if not isinstance(value, str):
        raise InvalidError(f"{what} is a str, not {type(value).__name__}")
    if "\0" in value:
        raise InvalidError(f"{what} has a null character in it")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidError(f"{what} cannot be written as UTF-8") from error


def path(value: Any, what: str) -> bytes:
    """A str or os.PathLike for C, as text() has it."""
    try:
        value = os.fspath(value)
    except TypeError as error:
        raise InvalidError(f"{what} is a path, not {type(value).__name__}") from error
    return text(os.fsdecode(value), what)


def number(value: Any, what: str, least: int = 0, greatest: int = 2**31 - 1) -> int:
    """An int in a range, or InvalidError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidError(f"{what} is a whole number, not {type(value).__name__}")
    whole: int = value.__index__()
    if not least <= whole <= greatest:
        raise InvalidError(f"{what} lies in {least} .. {greatest}, it is {whole}")
    return whole


def take_text(pointer: Optional[int]) -> str:
    """A text that C handed over."""
    if not pointer:
        raise OutOfMemoryError("no memory for a text")
    try:
        return c.string_at(pointer).decode("utf-8", "replace")
    finally:
        LIB.moe_py_free(pointer)


class _Said(threading.local):
    """A thread's buffer for what C says."""

    def __init__(self) -> None:
        self.buffer = c.create_string_buffer(_SAID)


SAID = _Said()


def warn(message: Any) -> None:
    """A warning at the line outside this package that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith(HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def listen(name: str, status: int, said: Any) -> None:
    """Raises the errors that C said as exceptions, hands its warnings on, and as warnings what went
    wrong beside a result."""
    errors: List[str] = []
    for line in said.value.decode("utf-8", "replace").splitlines():
        kind, _, sentence = line.partition(": ")
        if kind == "error":
            errors.append(sentence)
        elif kind == "warning":
            warn(sentence)
    if status:
        raise _ERRORS.get(status, Error)("; ".join(errors) or f"{name}: status {status}")
    for sentence in errors:
        warn(sentence)


def call(name: str, *arguments: Any) -> None:
    """Calls a function that returns a status; arguments stand without `said`.

    Errors are raised with C's sentence, warnings go to the warnings module.
    """
    function = getattr(LIB, "moe_py_" + name)
    said = SAID.buffer
    given = list(arguments)
    given.insert(_FUNCTIONS[name][1].index("said"), said)
    listen(name, function(*given), said)


def names(kind: str) -> List[str]:
    """A list of names: 'g' GPUs, 'm' methods, 'r' recipes, 'c' cases, 'b' backends."""
    return take_text(LIB.moe_py_list(ord(kind))).splitlines()


class Progress:
    """What is being done and for how long, on a terminal's stderr; nothing elsewhere."""

    patience = 1.0  # seconds

    def __init__(self, what: str, show: Optional[bool], stage: Optional[Stage] = None):
        stderr = sys.stderr
        self.on = bool(stderr and stderr.isatty()) if show is None else bool(show)
        self.what, self.stage = what, stage
        self.begin, self.shown, self.told = time.monotonic(), False, False

    def tick(self) -> None:
        seconds = time.monotonic() - self.begin
        if self.on and seconds > self.patience:
            stage, at = self.stage, ""
            phase = stage.phase if stage else None
            if stage and phase:
                share = f" {stage.percent} %" if stage.percent >= 0 else ""
                at = f"{phase.decode('ascii')}{share}, "
            line = f"moeref: {seconds:.0f} s, {at}{self.what}"
            sys.stderr.write("\r\033[K" + line[:shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()
            self.shown = True

    def tell_failure(self) -> None:
        """The verdict, once, while its cause is looked for."""
        stage = self.stage
        if self.on and stage and stage.is_failed and not self.told:
            self.end()
            failed = stage.failed.decode("ascii", "replace")
            sys.stderr.write(f"moeref: fail, {self.what}: {failed}; the cause is looked for\n")
            sys.stderr.flush()
            self.told = True

    def end(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        self.shown = False


def at_length(what: str, work: Callable[[], Any], show: Optional[bool] = None,
              stage: Optional[Stage] = None) -> Any:
    """Runs `work`, which may take long in C, so that Ctrl-C ends the wait. `stage`: how far it is.

    On the main thread the work runs in a thread of its own. After Ctrl-C KeyboardInterrupt is
    raised at once; what C had begun runs to its end in the background, without looking for the
    cause of a failure any longer; its result is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: Dict[str, Any] = {}
    caught: List[warnings.WarningMessage] = []

    def body() -> None:
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                outcome["result"] = work()
            caught.extend(seen)
        except BaseException as error:  # handed to the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=body, daemon=True, name="moeref")
    progress = Progress(what, show, stage)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            progress.tell_failure()
            progress.tick()
    finally:
        if stage and thread.is_alive():
            stage.enough = 1
        progress.end()
    for warning in caught:
        warn(warning.message)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
