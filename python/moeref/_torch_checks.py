"""What `moeref.torch.experts` can take, and sentences about what it cannot."""
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from . import _library as lib
from ._experts import CASE_DTYPES

_BACKENDS = {"cpu": "openblas", "cuda": "cuda"}
_NAMES = ("x", "top_k_index", "top_k_weights", "w1", "w2", "b1", "b2")
_PLAIN = (Tensor, torch.nn.Parameter)
# The numbers that a gate has; those without one do not look at them.
_NUMBERS = {"swiglu_clamp": ("alpha", "limit"), "swiglu_limit": ("limit",),
            "swiglu_limit_after": ("limit",), "swiglu_softcap": ("alpha", "limit")}
GATED = ("swiglu", "geglu", "reglu", "geglu_tanh", *_NUMBERS)
ACTIVATIONS = (*GATED, "relu2", "relu", "gelu", "silu")


def _shaped(t: Tensor, what: str, shape: Tuple[int, ...]) -> None:
    if tuple(t.shape) != shape:
        raise lib.InvalidError(f"{what} has shape {list(t.shape)}, not {list(shape)}")


def check(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, b1: Optional[Tensor],
          b2: Optional[Tensor], gated: bool, turned: bool) -> None:
    given = {"x": x, "top_k_index": index, "top_k_weights": weights, "w1": w1, "w2": w2}
    if (b1 is None) != (b2 is None):
        raise lib.InvalidError("b1 and b2 go together")
    if b1 is not None and b2 is not None:
        given.update(b1=b1, b2=b2)
    for name, t in given.items():
        if t.is_nested or t.layout != torch.strided:
            kind = "it is nested" if t.is_nested else f"its layout is {t.layout}"
            raise lib.InvalidError(f"{name} is no dense tensor: {kind}")
        if t.device != x.device:
            raise lib.InvalidError(f"{name} is on {t.device}, x on {x.device}")
        if name not in ("top_k_index", "top_k_weights") and t.dtype != x.dtype:
            raise lib.InvalidError(f"{name} is {t.dtype}, x is {x.dtype}")
    if x.dtype not in CASE_DTYPES:
        raise lib.InvalidError(f"x is {x.dtype}, not float32, bfloat16, float16 or float64")
    if index.dtype not in (torch.int32, torch.int64):
        raise lib.InvalidError(f"top_k_index is {index.dtype}, not int32 or int64")
    if weights.dtype not in (x.dtype, torch.float32):
        other = "" if x.dtype == torch.float32 else f" or {x.dtype}"
        raise lib.InvalidError(f"top_k_weights is {weights.dtype}, not torch.float32{other}")
    if x.dim() != 2 or index.dim() != 2 or w1.dim() != 3 or w2.dim() != 3:
        raise lib.InvalidError("x is [T, d], top_k_index [T, K], w1 and w2 have three dimensions")
    T, d = x.shape
    E, n = w1.shape[0], w2.shape[1] if turned else w2.shape[2]
    h = 2 * n if gated else n
    if index.shape[1] > E > 0:
        raise lib.InvalidError(f"top_k_index has {index.shape[1]} columns for {E} experts, each of "
                               "which comes at most once a token")
    _shaped(index, "top_k_index", (T, index.shape[1]))
    _shaped(weights, "top_k_weights", tuple(index.shape))
    _shaped(w1, "w1", (E, d, h) if turned else (E, h, d))
    _shaped(w2, "w2", (E, n, d) if turned else (E, d, n))
    if b1 is not None and b2 is not None:
        _shaped(b1, "b1", (E, h))
        _shaped(b2, "b2", (E, d))


def plain(tensors: Sequence[Any]) -> bool:
    """Whether the kernels may have them as they are; a subclass of Tensor may mean more."""
    for name, t in zip(_NAMES, tensors):
        if not isinstance(t, Tensor) and not (t is None and name in ("b1", "b2")):
            raise lib.InvalidError(f"{name} is a torch.Tensor, not {type(t).__name__}")
    return all(t is None or type(t) in _PLAIN for t in tensors)


def lazy(t: Tensor) -> bool:
    """Whether the dispatcher has yet to negate what its memory holds, or to make it."""
    return t.is_neg() or t._is_zerotensor()


def number(value: Any, what: str) -> float:
    if getattr(value, "requires_grad", False):
        raise lib.InvalidError(f"{what} is a number, not a tensor that waits for a gradient")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise lib.InvalidError(f"{what} is a number, not {value!r}") from None


def config(x: Tensor, act: str, layout: str, alpha: float, limit: float, weight_on: str,
           backend: Optional[str]) -> str:
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise lib.InvalidError(f"act is one of {', '.join(ACTIVATIONS)}, not {act!r}")
    if layout not in ("concat", "interleaved"):
        raise lib.InvalidError(f"layout is 'concat' or 'interleaved', not {layout!r}")
    if weight_on not in ("output", "input"):
        raise lib.InvalidError(f"weight_on is 'output' or 'input', not {weight_on!r}")
    if not (backend is None or isinstance(backend, str)) or "|" in (backend or ""):
        raise lib.InvalidError(f"backend is a name of moeref.backends(), not {backend!r}")
    if backend is None:
        backend = _BACKENDS.get(x.device.type)
        if backend is None:
            raise lib.UnsupportedError(f"there is no backend for tensors on {x.device}")
    words = f"act={act} on={weight_on}"
    if act in GATED:
        words += f" glu={layout}"
    for name in _NUMBERS.get(act, ()):
        words += f" {name}={number(alpha if name == 'alpha' else limit, name)!r}"
    return f"{backend}|{words}"


def check_add_to(add_to: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    if len(add_to) != len(parameters):
        raise lib.InvalidError(f"add_to has {len(add_to)} buffers for {len(parameters)} "
                               "parameters")
    for i, (g, t) in enumerate(zip(add_to, parameters)):
        if not isinstance(g, Tensor) or g.shape != t.shape or g.device != t.device:
            raise lib.InvalidError(f"add_to[{i}] is no tensor of shape {list(t.shape)} on "
                                   f"{t.device}")
        if g.dtype != add_to[0].dtype or g.dtype not in (torch.float32, t.dtype):
            raise lib.InvalidError(f"add_to[{i}] is {g.dtype}; all are float32, or all {t.dtype}")
        if not g.is_contiguous():
            raise lib.InvalidError(f"add_to[{i}] is not contiguous")
