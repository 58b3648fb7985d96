"""Operators that are open: the most recently used, and those that somebody holds.

One that is no longer among the most recent is closed when nobody holds it: no node of autograd, no
thread that runs it, no CUDA graph that was captured of it.
"""
import itertools
import threading
import weakref
from collections import deque
from typing import Any, Callable, Collection, Deque, Dict, List, Tuple

import torch

from . import _library as lib

tick = itertools.count(1).__next__  # when an operator was last used
_initialized: Callable[[], bool] = torch.cuda.is_initialized
_close = lib.LIB.moe_py_experts_close
# What nobody holds: the last reference may go in any thread, in the midst of anything.
_dropped: Deque[Any] = deque()
_captured: List["Operator"] = []  # for good: a graph does not say when it is gone


def _capturing() -> bool:
    """Whether a CUDA graph records what this thread does; where no driver is, nobody may ask."""
    return _initialized() and torch.cuda.is_current_stream_capturing()


def close_dropped() -> None:
    """Closes what nobody holds, but not while a CUDA graph records what this thread does."""
    while _dropped and not _capturing():
        try:
            pointer = _dropped.popleft()
        except IndexError:  # another thread has closed the last of them
            return
        _close(pointer)


class Operator:
    """Something that is open at `pointer` until nobody holds this object."""

    def __init__(self, pointer: Any):
        self.pointer = pointer
        self.used = 0
        self._is_captured = False

    def note_stream(self, stream: int) -> None:
        """Before it runs on a stream; on the default one, 0, nothing is captured."""
        if stream and not self._is_captured and _capturing():
            self._is_captured = True
            _captured.append(self)

    def __del__(self, dropped: Deque[Any] = _dropped) -> None:
        if self.pointer:
            dropped.append(self.pointer)


Key = Tuple[Any, ...]


class Operators:
    """Operators by what `make` opens them for, `most` of them, or as many as are held."""

    def __init__(self, make: Callable[..., Any], most: int):
        self.most, self._make = most, make
        self._lock = threading.RLock()  # one is opened or closed at a time
        self._recent: Dict[Key, Any] = {}
        self._alive: "weakref.WeakValueDictionary[Key, Any]" = weakref.WeakValueDictionary()
        self._forget: List[Callable[[Collection[Any]], None]] = []

    def when_one_goes(self, forget: Callable[[Collection[Any]], None]) -> None:
        """`forget` gets those that stay, and lets go of all others."""
        self._forget.append(forget)

    def of(self, *key: Any) -> Any:
        op = self._recent.get(key)
        if op is None:
            with self._lock:
                op = self._alive.get(key)
                if op is None:
                    close_dropped()
                    self._alive[key] = op = self._make(*key)
                op.used = tick()
                self._recent[key] = op
                self._keep_most()
        op.used = tick()
        return op

    def _keep_most(self) -> None:
        if len(self._recent) <= self.most:
            return
        while len(self._recent) > self.most:
            del self._recent[min(self._recent, key=lambda key: self._recent[key].used)]
        for forget in self._forget:
            forget(list(self._recent.values()))
