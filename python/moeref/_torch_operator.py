"""The experts as an operator of torch.library, for whoever records, traces or transforms."""
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from . import _experts
from . import _library as lib
from ._experts import CASE_DTYPES, DTYPES, Experts
from ._torch_checks import GATED, check


# x, index, weights, w1, w2, b1, b2.
_Operands = Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Optional[Tensor], Optional[Tensor]]


def _parts(config: str) -> Tuple[str, str]:
    """The backend and a layer's words, of "openblas|act=swiglu on=output glu=concat"."""
    backend, bar, words = config.partition("|")
    if not bar:
        raise lib.InvalidError(f"config is 'BACKEND|WORDS', not {config!r}")
    return backend, words


def _dense(config: str, turned: bool, x: Tensor, index: Tensor, weights: Tensor, w1: Tensor,
           w2: Tensor, b1: Optional[Tensor], b2: Optional[Tensor]) -> _Operands:
    """The operator's tensors as the kernels want them: it may be called by itself."""
    gated = any(f"act={act}" in _parts(config)[1].split() for act in GATED)
    check(x, index, weights, w1, w2, b1, b2, gated, turned)
    return (x.contiguous(), index.contiguous(), weights.contiguous(), w1.contiguous(),
            w2.contiguous(), None if b1 is None else b1.contiguous(),
            None if b2 is None else b2.contiguous())


def open_experts(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, bias: bool,
                 config: str, turned: bool, trains: bool,
                 gradient_dtype: Optional[torch.dtype] = None, adds: bool = False) -> Experts:
    backend, words = _parts(config)
    # int(): a layer's sizes are constants of a compiled graph, T alone may be a symbol.
    d, E, columns = int(x.shape[1]), int(w1.shape[0]), int(index.shape[1])
    n = int(w2.shape[1] if turned else w2.shape[2])
    line = (f"T=1 d={d} n={n} E={E} K={min(columns, E)} {words} bias={int(bias)} "
            f"dtype={CASE_DTYPES[x.dtype]} route=uniform")
    form = (("dtype", DTYPES[x.dtype]), ("trains", int(trains)), ("columns", columns),
            ("index_dtype", DTYPES[index.dtype]), ("weight_dtype", DTYPES[weights.dtype]),
            ("gradient_dtype", DTYPES[gradient_dtype or x.dtype]), ("turned", int(turned)),
            ("adds", int(adds)))
    op: Experts = _experts.operators.of(backend, line, x.get_device() if x.is_cuda else 0, form)
    return op


@torch.library.custom_op("moeref::experts", mutates_args=())
def _operator(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor,
              b1: Optional[Tensor], b2: Optional[Tensor], config: str, turned: bool,
              keep: bool) -> Tuple[Tensor, Tensor]:
    tensors = _dense(config, turned, x, index, weights, w1, w2, b1, b2)
    op = open_experts(x, index, weights, w1, w2, b1 is not None, config, turned, keep)
    room = op.most_cached(x.shape[0]) if keep else 1
    out, cached = _experts.forward(op, room, *tensors)
    assert cached is not None  # of `room` bytes
    return out, cached


@_operator.register_fake
def _(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, b1: Optional[Tensor],
      b2: Optional[Tensor], config: str, turned: bool, keep: bool) -> Tuple[Tensor, Tensor]:
    cached = 1
    if keep:
        op = open_experts(x, index, weights, w1, w2, b1 is not None, config, turned, True)
        cached = op.most_cached(x.shape[0])
    return (torch.empty_like(x, memory_format=torch.contiguous_format),
            x.new_empty([cached], dtype=torch.uint8))


@torch.library.custom_op("moeref::experts_backward", mutates_args=())
def _operator_backward(d_out: Tensor, x: Tensor, index: Tensor, weights: Tensor, w1: Tensor,
                       w2: Tensor, b1: Optional[Tensor], b2: Optional[Tensor], cached: Tensor,
                       config: str, turned: bool) -> List[Tensor]:
    tensors = _dense(config, turned, x, index, weights, w1, w2, b1, b2)
    if d_out.shape != x.shape or d_out.dtype != x.dtype or d_out.device != x.device:
        raise lib.InvalidError(f"d_out is {list(d_out.shape)} {d_out.dtype} on {d_out.device}, x "
                               f"is {list(x.shape)} {x.dtype} on {x.device}")
    if cached.dtype != torch.uint8 or cached.device != x.device or not cached.is_contiguous():
        raise lib.InvalidError("cached is what moeref::experts returned beside O")
    grads = _experts.gradients_like(x, weights, w1, w2, b1, b2)
    if x.shape[0] == 0:
        return [g.zero_() for g in grads]
    op = open_experts(x, index, weights, w1, w2, b1 is not None, config, turned, True)
    into: List[Optional[Tensor]] = [*grads] if b1 is not None else [*grads, None, None]
    _experts.backward(op, into, d_out, *tensors, cached)
    return grads


@_operator_backward.register_fake
def _(d_out: Tensor, x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor,
      b1: Optional[Tensor], b2: Optional[Tensor], cached: Tensor, config: str, turned: bool
      ) -> List[Tensor]:
    return _experts.gradients_like(x, weights, w1, w2, b1, b2)


def _setup(ctx: Any, inputs: Tuple[Any, ...], output: Tuple[Tensor, Tensor]) -> None:
    x, index, weights, w1, w2, b1, b2, config, turned, keep = inputs
    if not keep:
        raise lib.UnsupportedError("moeref::experts was called without `keep`: it has kept nothing "
                                   "for a backward pass")
    ctx.save_for_backward(x, index, weights, w1, w2, b1, b2, output[1])
    ctx.config, ctx.turned = config, turned


def backward(ctx: Any, d_out: Tensor, _d_cached: Optional[Tensor]) -> Tuple[Any, ...]:
    """Gradients of the operator's ten arguments."""
    x, index, weights, w1, w2, b1, b2, cached = ctx.saved_tensors
    if cached is None:  # of a backend that keeps nothing
        cached = x.new_empty(0, dtype=torch.uint8)
    grads = torch.ops.moeref.experts_backward(d_out, x, index, weights, w1, w2, b1, b2, cached,
                                              ctx.config, ctx.turned)
    dx, ds, dw1, dw2 = grads[:4]
    db1, db2 = grads[4:] if b1 is not None else (None, None)
    return dx, None, ds.to(weights.dtype), dw1, dw2, db1, db2, None, None, None


def _no_double_backward(_ctx: Any, *_grads: Any) -> None:
    raise lib.UnsupportedError("moeref.torch.experts has no second derivative: its backward pass "
                               "cannot be differentiated")


_operator.register_autograd(backward, setup_context=_setup)
_operator_backward.register_autograd(_no_double_backward, setup_context=lambda ctx, inputs,
                                     output: None)
