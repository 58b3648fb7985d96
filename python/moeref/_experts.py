"""A layer's experts on tensors of torch: what the operator and the eager path share.

The kernels run on torch's current stream and in memory of torch's allocator.
"""
import ctypes as c
import struct
import weakref
from typing import Any, Dict, List, MutableMapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from . import _library as lib
from ._opened import Operator, Operators

DTYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3,
          torch.int64: 4, torch.int32: 5}  # moe_dtype
CASE_DTYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16",
               torch.bfloat16: "bf16"}
# Tokens at which sizes are sampled: they grow by whole alignments with T, and never faster.
_SAMPLES = (1, 2, 3, 17, 129, 1024, 4097, 65536, 1 << 20)
_MOST_SIZES = 4096  # numbers of tokens whose sizes are remembered
_ALIGNED = 256
# Up to so many bytes what a forward keeps and its workspace are allocated together, and live until
# backward: with few tokens the host is what takes time, and an allocation costs it 2 us.
_ONE_PIECE = 1 << 20
_RUN = lib.LIB.moe_py_experts_run
_PACK = struct.Struct(f"{len(lib.STEP_FIELDS)}q").pack  # a moe_py_step; ctypes' own takes longer
_FORWARD, _BACKWARD, _CONVERT = b"fbc"
_DENSE = torch.contiguous_format


# What torch's own compiled code calls takes a tenth of the time of the documented way.
_raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream",
                      lambda index: torch.cuda.current_stream(index).cuda_stream)


def _stream(x: Tensor) -> int:
    return _raw_stream(x.get_device()) if x.is_cuda else 0


def _address(t: Optional[Tensor]) -> int:
    return 0 if t is None else t.data_ptr()


def _bytes(size: int, like: Tensor) -> Tensor:
    return like.new_empty(size, dtype=torch.uint8)


class Experts(Operator):
    """An open operator for layers of one shape, dtype and order of weights."""

    def __init__(self, backend: str, line: str, form: Dict[str, int]):
        super().__init__(c.c_void_p())
        self.form = lib.Form(**form)
        self.order = backend, line, form["turned"]  # on which it depends how weights are converted
        self._sizes: Dict[int, Tuple[int, int, int]] = {}
        self.converts: Optional[int] = None  # bytes, once known
        self._line: Optional[Tuple[int, int]] = None
        lib.call("experts_open", lib.text(backend, "backend"), line.encode(), c.byref(self.form),
                 c.byref(self.pointer))

    def sizes(self, tokens: int) -> Tuple[int, int, int]:
        """Bytes: kept for backward, workspace of a forward, workspace of a backward."""
        sizes = self._sizes.get(tokens)
        if sizes is None:
            three = (c.c_int64 * 3)()
            lib.call("experts_sizes", self.pointer, tokens, three)
            if len(self._sizes) >= _MOST_SIZES:
                self._sizes.clear()
            sizes = self._sizes[tokens] = tuple(three)
        return sizes

    def most_cached(self, tokens: Any) -> Any:
        """At least what forward keeps, as a line in T, so that a symbolic T will do."""
        if self._line is None:
            known = []
            for sample in _SAMPLES:
                try:
                    known.append((sample, self.sizes(sample)[0]))
                except lib.Error:  # more than it can count
                    break
            first = known[0][1] if known else 0
            slope = max([-(-max(0, s - first) // (t - 1)) for t, s in known[1:]], default=0)
            self._line = (first + 4096, slope)
        return self._line[0] + self._line[1] * tokens

    def run(self, what: int, step: Sequence[int]) -> None:
        self.note_stream(step[1])
        said = lib.SAID.buffer
        status = _RUN(self.pointer, what, _PACK(*step), said, None)
        if status or said.value:
            lib.listen("experts_run", status, said)

    def converted_bytes(self, step: Sequence[int]) -> int:
        """Of weights in the order of the kernels; 0: they are used as they lie."""
        if self.converts is None:
            size = c.c_int64()
            lib.call("experts_run", self.pointer, ord("s"), _PACK(*step), c.byref(size))
            self.converts = size.value
        return self.converts


def _open(backend: str, line: str, device_index: int, form: Tuple[Tuple[str, int], ...]
          ) -> Experts:
    return Experts(backend, line, {**dict(form), "device_index": device_index,
                                   "threads": torch.get_num_threads()})


operators = Operators(_open, 256)


# ---- weights that the kernels cannot use as they lie ----

class _Conversion(NamedTuple):
    """Converted weights, and which state of which weights they are."""

    state: Any
    owners: List["weakref.ref[Tensor]"]  # of the memory that `state` tells the addresses of
    memory: Tensor

    def holds(self, state: Any, weights: Sequence[Tensor]) -> bool:
        """Also of the same tensors: others may come to lie where freed ones lay."""
        return self.state == state and len(self.owners) == len(weights) and all(
            owner() is _owner(t) for owner, t in zip(self.owners, weights))


def _owner(t: Tensor) -> Tensor:
    return t if t._base is None else t._base


_conversions: MutableMapping[Tensor, _Conversion] = WeakIdKeyDictionary()  # by w1


def weights_changed(*w1: Tensor) -> None:
    """Forgets converted weights: of these w1, or all. Needed only where weights were written
    without torch's notice (`.data`, another library, a replayed CUDA graph); what an optimizer or
    any operation in place does is noticed."""
    if not w1:
        _conversions.clear()
    for t in w1:
        if not isinstance(t, Tensor):
            raise lib.InvalidError(f"w1 is a torch.Tensor, not {type(t).__name__}")
        _conversions.pop(t, None)


def converted_bytes() -> int:
    """Bytes of device and host memory that converted weights take now."""
    return sum(kept.memory.numel() for kept in list(_conversions.values()))


def _state(order: Any, weights: Sequence[Tensor], stream: int) -> Any:
    """Equal as long as the weights and their order are; None: torch does not tell."""
    try:
        return (order, stream, [(t.data_ptr(), t._version) for t in weights])
    except RuntimeError:  # tensors of inference mode have no version
        return None


def _convert(op: Experts, step: List[int], w1: Tensor, *others: Optional[Tensor]
             ) -> Optional[Tensor]:
    """The weights in the kernels' order, in memory that step[4] and step[7] then say."""
    size = op.converted_bytes(step)
    if not size:
        return None
    # A captured graph has to convert in each replay: weights may change between them.
    captured = w1.is_cuda and torch.cuda.is_current_stream_capturing()
    weights = [w1, *(t for t in others if t is not None)]
    state = None if captured else _state((op.order, size), weights, step[1])
    kept = _conversions.get(w1)
    if state is not None and kept is not None and kept.holds(state, weights):
        memory = kept.memory
        step[4], step[7] = size, memory.data_ptr()
        return memory
    memory = _bytes(size, w1)
    step[4], step[7] = size, memory.data_ptr()
    op.run(_CONVERT, step)
    if state is not None:
        owners = [weakref.ref(_owner(t)) for t in weights]
        _conversions[w1] = _Conversion(state, owners, memory)
    return memory


# ---- passes ----

def forward(op: Experts, room: Optional[int], x: Tensor, index: Tensor, weights: Tensor, w1: Tensor,
            w2: Tensor, b1: Optional[Tensor], b2: Optional[Tensor]
            ) -> Tuple[Tensor, Optional[Tensor]]:
    """O, and what a backward needs, in `room` bytes, or as many as it takes."""
    tokens = x.shape[0]
    out = torch.empty_like(x, memory_format=_DENSE)
    if tokens == 0:
        return out, _bytes(room or 0, x)
    kept, size, _ = op.sizes(tokens)
    if room is not None:
        if kept > room:
            raise lib.Error(f"{kept} bytes are kept of {tokens} tokens, {room} were foreseen")
        kept = room
    cached: Optional[Tensor]
    apart = -(-kept // _ALIGNED) * _ALIGNED  # from what is kept to the workspace, in one piece
    if room is None and kept and apart + size <= _ONE_PIECE:
        cached = workspace = _bytes(apart + size, x)
        work = cached.data_ptr() + apart
    else:
        cached, workspace = _bytes(kept, x) if kept else None, _bytes(size, x)
        work = workspace.data_ptr()
    if cached is not None and room is not None and not x.is_cuda:
        cached.zero_()  # gaps between its parts: equal calls have equal results
    step = [tokens, _stream(x), kept, size, 0, _address(cached), work, 0,
            x.data_ptr(), index.data_ptr(), weights.data_ptr(), w1.data_ptr(), w2.data_ptr(),
            _address(b1), _address(b2), out.data_ptr(), 0, 0, 0, 0, 0, 0, 0]
    converted = None if op.converts == 0 else _convert(op, step, w1, w2, b1, b2)
    op.run(_FORWARD, step)
    del converted
    return out, cached


def backward(op: Experts, grads: Sequence[Optional[Tensor]], d_out: Tensor, x: Tensor,
             index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, b1: Optional[Tensor],
             b2: Optional[Tensor], cached: Optional[Tensor]) -> None:
    """Fills grads: dX, dS (fp32), dW1, dW2, db1, db2; None: not asked for."""
    tokens = x.shape[0]
    size = op.sizes(tokens)[2]
    workspace, d_out = _bytes(size, x), d_out.contiguous()
    kept = cached.numel() if cached is not None else 0  # a backend may keep nothing
    step = [tokens, _stream(x), kept, size, 0, _address(cached), workspace.data_ptr(), 0,
            x.data_ptr(), index.data_ptr(), weights.data_ptr(), w1.data_ptr(), w2.data_ptr(),
            _address(b1), _address(b2), 0, d_out.data_ptr(), *map(_address, grads)]
    converted = None if op.converts == 0 else _convert(op, step, w1, w2, b1, b2)
    op.run(_BACKWARD, step)
    del converted


def gradients_like(x: Tensor, weights: Tensor, *parameters: Optional[Tensor]) -> List[Tensor]:
    """Memory for dX, dS and the gradients of the parameters that are there."""
    made = [torch.empty_like(x, memory_format=_DENSE),
            torch.empty_like(weights, dtype=torch.float32, memory_format=_DENSE)]
    return made + [torch.empty_like(t, memory_format=_DENSE) for t in parameters if t is not None]
