"""The experts of a Mixture-of-Experts layer as a torch operator with autograd.

On CUDA the backend `cuda` runs on torch's current stream and in memory of torch's allocator, on the
CPU `openblas` does, in float32. Any number of tokens may come. Between calls nothing is kept but
weights that had to be converted (weights_changed, converted_bytes).

Plain tensors go straight to the kernels. Where torch looks on (torch.compile, torch.export,
FakeTensorMode and other dispatch modes) the same runs as torch.ops.moeref.experts. Transforms of
torch.func do not take operators like it.
"""
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from . import _experts
from . import _library as lib
from ._experts import CASE_DTYPES, DTYPES, Experts, converted_bytes, weights_changed

__all__ = ["experts", "converted_bytes", "weights_changed"]
_BACKENDS = {"cpu": "openblas", "cuda": "cuda"}


def _open(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, bias: bool,
          config: str, turned: bool, trains: bool, gradient_dtype: Optional[torch.dtype] = None,
          adds: bool = False) -> Experts:
    backend, words = config.split("|")
    # int(): a layer's sizes are constants of a compiled graph, T alone may be a symbol.
    d, E, columns = int(x.shape[1]), int(w1.shape[0]), int(index.shape[1])
    n = int(w2.shape[1] if turned else w2.shape[2])
    line = (f"T=1 d={d} n={n} E={E} K={min(columns, E)} {words} bias={int(bias)} "
            f"dtype={CASE_DTYPES[x.dtype]} route=uniform")
    form = (("dtype", DTYPES[x.dtype]), ("trains", int(trains)), ("columns", columns),
            ("index_dtype", DTYPES[index.dtype]), ("weight_dtype", DTYPES[weights.dtype]),
            ("gradient_dtype", DTYPES[gradient_dtype or x.dtype]), ("turned", int(turned)),
            ("adds", int(adds)))
    return _experts.experts_of(backend, line, x.get_device() if x.is_cuda else 0, form)


# ---- the operator, for whoever records, traces or transforms ----

@torch.library.custom_op("moeref::experts", mutates_args=())
def _operator(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor,
              b1: Optional[Tensor], b2: Optional[Tensor], config: str, turned: bool,
              keep: bool) -> Tuple[Tensor, Tensor]:
    op = _open(x, index, weights, w1, w2, b1 is not None, config, turned, keep)
    room = op.most_cached(x.shape[0]) if keep else 1
    return _experts.forward(op, room, x, index, weights, w1, w2, b1, b2)


@_operator.register_fake
def _(x, index, weights, w1, w2, b1, b2, config, turned, keep):
    cached = 1
    if keep:
        op = _open(x, index, weights, w1, w2, b1 is not None, config, turned, True)
        cached = op.most_cached(x.shape[0])
    return (torch.empty_like(x, memory_format=torch.contiguous_format),
            x.new_empty([cached], dtype=torch.uint8))


@torch.library.custom_op("moeref::experts_backward", mutates_args=())
def _operator_backward(d_out: Tensor, x: Tensor, index: Tensor, weights: Tensor, w1: Tensor,
                       w2: Tensor, b1: Optional[Tensor], b2: Optional[Tensor], cached: Tensor,
                       config: str, turned: bool) -> List[Tensor]:
    grads = _experts.gradients_like(x, weights, w1, w2, b1, b2)
    if x.shape[0] == 0:
        return [g.zero_() for g in grads]
    op = _open(x, index, weights, w1, w2, b1 is not None, config, turned, True)
    into = grads if b1 is not None else [*grads, None, None]
    _experts.backward(op, into, d_out, x, index, weights, w1, w2, b1, b2, cached)
    return grads


@_operator_backward.register_fake
def _(d_out, x, index, weights, w1, w2, b1, b2, cached, config, turned):
    return _experts.gradients_like(x, weights, w1, w2, b1, b2)


def _setup(ctx, inputs, output):
    x, index, weights, w1, w2, b1, b2, config, turned, keep = inputs
    if not keep:
        raise lib.UnsupportedError("moeref::experts was called without `keep`: it has kept nothing "
                                   "for a backward pass")
    ctx.save_for_backward(x, index, weights, w1, w2, b1, b2, output[1])
    ctx.config, ctx.turned = config, turned


def _backward(ctx, d_out, _d_cached):
    x, index, weights, w1, w2, b1, b2, cached = ctx.saved_tensors
    grads = torch.ops.moeref.experts_backward(d_out, x, index, weights, w1, w2, b1, b2, cached,
                                              ctx.config, ctx.turned)
    dx, ds, dw1, dw2 = grads[:4]
    db1, db2 = grads[4:] if b1 is not None else (None, None)
    return dx, None, ds.to(weights.dtype), dw1, dw2, db1, db2, None, None, None


def _no_double_backward(ctx, *_grads):
    raise lib.UnsupportedError("moeref.torch.experts has no second derivative: its backward pass "
                               "cannot be differentiated")


_operator.register_autograd(_backward, setup_context=_setup)
_operator_backward.register_autograd(_no_double_backward, setup_context=lambda ctx, inputs,
                                     output: None)


# ---- plain tensors: the same without the dispatcher, which takes longer than the launches ----

_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_transforms = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: 1)


def _nobody_looks_on() -> bool:
    return not torch.compiler.is_compiling() and not _modes() and _transforms() is None


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, how, *tensors):
        out, cached = _experts.forward(how[0], None, *tensors)
        ctx.save_for_backward(*tensors, cached)
        ctx.how = how  # one attribute and few arguments: each costs the host time
        return out

    @staticmethod
    def backward(ctx, d_out):
        op, ctx.config, ctx.turned, add_to = ctx.how
        saved = ctx.saved_tensors
        x, weights, parameters = saved[0], saved[2], saved[3:7]
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # somebody wants to differentiate this: the operator says no
            return (None,) + _backward(ctx, d_out, None)[:7]
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) if needed[0] else None,
                 torch.empty_like(weights, dtype=torch.float32) if needed[2] else None]
        made: List[Optional[Tensor]] = [torch.empty_like(t) if wanted and t is not None else None
                                        for t, wanted in zip(parameters, needed[3:])]
        into = made
        if add_to:
            made, into = [None] * 4, [*add_to, None, None][:4]
        if x.shape[0] == 0:
            for g in grads + made:
                if g is not None:
                    g.zero_()
        else:
            _experts.backward(op, grads + into, d_out, *saved)
        ds = grads[1]
        if ds is not None and weights.dtype != torch.float32:
            ds = ds.to(weights.dtype)
        return (None, grads[0], None, ds, *made)


def _shaped(t: Tensor, what: str, shape: Tuple[int, ...]) -> None:
    if tuple(t.shape) != shape:
        raise lib.InvalidError(f"{what} has shape {list(t.shape)}, not {list(shape)}")


def _check(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, b1: Optional[Tensor],
           b2: Optional[Tensor], gated: bool, turned: bool) -> None:
    given = {"x": x, "top_k_index": index, "top_k_weights": weights, "w1": w1, "w2": w2}
    if (b1 is None) != (b2 is None):
        raise lib.InvalidError("b1 and b2 go together")
    if b1 is not None and b2 is not None:
        given.update(b1=b1, b2=b2)
    for name, t in given.items():
        if t.device != x.device:
            raise lib.InvalidError(f"{name} is on {t.device}, x on {x.device}")
        if name not in ("top_k_index", "top_k_weights") and t.dtype != x.dtype:
            raise lib.InvalidError(f"{name} is {t.dtype}, x is {x.dtype}")
    if x.dtype not in CASE_DTYPES:
        raise lib.InvalidError(f"x is {x.dtype}; float32, bfloat16 and float16 can be computed")
    if index.dtype not in (torch.int32, torch.int64):
        raise lib.InvalidError(f"top_k_index is {index.dtype}, not int32 or int64")
    if weights.dtype not in (x.dtype, torch.float32):
        raise lib.InvalidError(f"top_k_weights is {weights.dtype}, not float32 or {x.dtype}")
    if x.dim() != 2 or index.dim() != 2 or w1.dim() != 3 or w2.dim() != 3:
        raise lib.InvalidError("x is [T, d], top_k_index [T, K], w1 and w2 have three dimensions")
    T, d = x.shape
    E, n = w1.shape[0], w2.shape[1] if turned else w2.shape[2]
    h = 2 * n if gated else n
    _shaped(index, "top_k_index", (T, index.shape[1]))
    _shaped(weights, "top_k_weights", tuple(index.shape))
    _shaped(w1, "w1", (E, d, h) if turned else (E, h, d))
    _shaped(w2, "w2", (E, n, d) if turned else (E, d, n))
    if b1 is not None and b2 is not None:
        _shaped(b1, "b1", (E, h))
        _shaped(b2, "b2", (E, d))


_NAMES = ("x", "top_k_index", "top_k_weights", "w1", "w2", "b1", "b2")
_PLAIN = (Tensor, torch.nn.Parameter)
ACTIVATIONS = ("swiglu", "geglu", "reglu", "swiglu_clamp", "relu2", "relu", "gelu", "silu")


def _plain(tensors: Sequence[Any]) -> bool:
    """Whether the kernels may have them as they are; a subclass of Tensor may mean more."""
    for name, t in zip(_NAMES, tensors):
        if not isinstance(t, Tensor) and not (t is None and name in ("b1", "b2")):
            raise lib.InvalidError(f"{name} is a torch.Tensor, not {type(t).__name__}")
    return all(t is None or type(t) in _PLAIN for t in tensors)


def _trains(tensors: Sequence[Any]) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def _config(x: Tensor, act: str, layout: str, alpha: float, limit: float, weight_on: str,
            backend: Optional[str]) -> str:
    if act not in ACTIVATIONS:
        raise lib.InvalidError(f"act is one of {', '.join(ACTIVATIONS)}, not {act!r}")
    if layout not in ("concat", "interleaved"):
        raise lib.InvalidError(f"layout is 'concat' or 'interleaved', not {layout!r}")
    if weight_on not in ("output", "input"):
        raise lib.InvalidError(f"weight_on is 'output' or 'input', not {weight_on!r}")
    if backend is None:
        backend = _BACKENDS.get(x.device.type)
        if backend is None:
            raise lib.UnsupportedError(f"there is no backend for tensors on {x.device}")
    words = f"act={act} on={weight_on}"
    if act in ACTIVATIONS[:4]:
        words += f" glu={layout}"
    if act == "swiglu_clamp":
        words += f" alpha={float(alpha)!r} limit={float(limit)!r}"
    return f"{backend}|{words}"


def _check_add_to(add_to: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
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


# ---- calls whose like has been checked before ----

# What torch.compile checks its own calls with; without it every call is checked in full.
_Guards = getattr(getattr(getattr(torch._C, "_dynamo", None), "guards", None), "TensorGuards", None)
_MOST_CALLS = 64  # of one `how`


class _Call(NamedTuple):
    """An operator, open for tensors that `fits` tells: of the same classes, devices, dtypes,
    strides and sizes, but for T, and of the same requires_grad."""

    fits: Callable[..., bool]
    op: Experts
    config: str
    trains: bool


_calls: Dict[Any, List[_Call]] = {}


def _fits(given: Sequence[Tensor]) -> Callable[..., bool]:
    sizes = [[None if i < 3 and dim == 0 else int(size) for dim, size in enumerate(t.shape)]
             for i, t in enumerate(given)]
    return _Guards(*given, dynamic_dims_sizes=sizes,
                   dynamic_dims_strides=[list(t.stride()) for t in given]).check


def _recalled(key: Any, given: Sequence[Tensor]) -> Optional[_Call]:
    for call in _calls.get(key, ()):
        if call.fits(*given):
            chosen = given[1].shape
            fits = chosen == given[2].shape and chosen[0] == given[0].shape[0]
            return call if fits else None
    return None


def _opened(key: Any, how: Any, trains: bool, tensors: Sequence[Any], add_to: Sequence[Tensor]
            ) -> _Call:
    """The operator of a call that is like none before, after all checks."""
    x, index, weights, w1, w2, b1, b2 = tensors
    act, layout, transposed, alpha, limit, weight_on, backend = how
    config = _config(x, act, layout, alpha, limit, weight_on, backend)
    _check(x, index, weights, w1, w2, b1, b2, act in ACTIVATIONS[:4], transposed)
    given = [t for t in tensors if t is not None]
    if add_to:
        _check_add_to(add_to, given[3:])
    op = _open(x, index, weights, w1, w2, b1 is not None, config, transposed, trains,
               add_to[0].dtype if add_to else None, bool(add_to))
    if _Guards is None or not all(t.is_contiguous() for t in given):
        return _Call(bool, op, config, trains)
    call = _Call(_fits(given), op, config, trains)
    calls = _calls.setdefault(key, [])
    if len(calls) >= _MOST_CALLS:
        calls.clear()
    calls.append(call)
    return call


def _directly(how: Any, tensors: Sequence[Any], add_to: Sequence[Tensor]) -> Optional[Tensor]:
    """O of plain tensors; None: they are not plain."""
    grad = torch.is_grad_enabled()
    given = tensors[:5] if tensors[5] is None and tensors[6] is None else tensors
    key = (how, grad, len(given), getattr(add_to[0], "dtype", None) if add_to else None)
    call = _recalled(key, given)
    if call is None:
        if not _plain(tensors):
            return None
        call = _opened(key, how, grad and _trains(tensors), tensors, add_to)
        tensors = [t if t is None else t.contiguous() for t in tensors]
    elif add_to:
        _check_add_to(add_to, given[3:])
    if not call.trains:
        return _experts.forward(call.op, None, *tensors)[0]
    return _Direct.apply((call.op, call.config, how[2], add_to), *tensors)


def experts(x: Tensor, top_k_index: Tensor, top_k_weights: Tensor, w1: Tensor, w2: Tensor,
            b1: Optional[Tensor] = None, b2: Optional[Tensor] = None, *, act: str = "swiglu",
            layout: str = "concat", transposed: bool = False, alpha: float = 1.702,
            limit: float = 7.0, weight_on: str = "output", backend: Optional[str] = None,
            add_to: Sequence[Tensor] = ()) -> Tensor:
    """O [T, d]: the sum of each token's experts, weighted. Differentiable in x, top_k_weights,
    weights and biases, once; what needs no gradient costs none.

    x              [T, d] float32, bfloat16 or float16 (openblas computes in float32).
    top_k_index    [T, K] int32 or int64; -1, E or any other value outside 0 .. E-1: no expert. An
                   expert at most once a token.
    top_k_weights  [T, K] float32 or x's dtype.
    w1             [E, 2n, d], or [E, n, d] where `act` has no gate; `transposed`: [E, d, 2n].
    w2             [E, d, n]; `transposed`: [E, n, d]. Weights are used where they lie if the
                   backend can multiply them so; if not, one converted copy of them is kept until
                   they change (converted_bytes, weights_changed).
    b1, b2         [E, 2n or n], [E, d]; both or none.
    act            swiglu, geglu, reglu, swiglu_clamp (gpt-oss, with alpha and limit), relu2, relu,
                   gelu, silu.
    layout         rows of w1: "concat" (gates, then ups) or "interleaved".
    weight_on      "output", or "input" (Llama 4).
    backend        a name of moeref.backends(); None: cuda or openblas, by x's device.
    add_to         buffers like w1, w2 (b1, b2), float32 or of their dtype, to which backward adds
                   their gradients (Megatron's main_grad); w1.grad and the others stay as they are.

    Raises InvalidError for shapes, dtypes, devices; UnsupportedError for what the backend cannot
    do; NotFoundError for a backend that is not there.
    """
    tensors = (x, top_k_index, top_k_weights, w1, w2, b1, b2)
    if _nobody_looks_on():
        how = (act, layout, bool(transposed), alpha, limit, weight_on, backend)
        out = _directly(how, tensors, add_to)
        if out is not None:
            return out
    else:
        _plain(tensors)
    if add_to:
        raise lib.UnsupportedError("add_to is for eager mode: torch.compile and other tracers do "
                                   "not see what it writes")
    config = _config(x, act, layout, alpha, limit, weight_on, backend)
    _check(x, top_k_index, top_k_weights, w1, w2, b1, b2, act in ACTIVATIONS[:4], transposed)
    keep = torch.is_grad_enabled() and _trains(tensors)
    out, _ = torch.ops.moeref.experts(
        x.contiguous(), top_k_index.contiguous(), top_k_weights.contiguous(), w1.contiguous(),
        w2.contiguous(), None if b1 is None else b1.contiguous(),
        None if b2 is None else b2.contiguous(), config, bool(transposed), keep)
    return out
