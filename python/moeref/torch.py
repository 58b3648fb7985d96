"""The experts of a Mixture-of-Experts layer as a torch operator with autograd.

On CUDA the backend `cuda` runs on torch's current stream and in memory of torch's allocator, on the
CPU `openblas` does, in float32. Any number of tokens may come. Between calls nothing is kept but
weights that had to be converted (weights_changed, converted_bytes).

Plain tensors go straight to the kernels. Where torch looks on (torch.compile, torch.export,
FakeTensorMode and other dispatch modes) the same runs as torch.ops.moeref.experts. Transforms of
torch.func do not take operators like it.
"""
from typing import Any, List, Optional, Sequence, Tuple

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

_PLAIN = (Tensor, torch.nn.Parameter)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_transforms = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: 1)


def _nobody_looks_on() -> bool:
    return not torch.compiler.is_compiling() and not _modes() and _transforms() is None


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, config, turned, add_to, x, index, weights, w1, w2, b1, b2):
        out, cached = _experts.forward(op, None, x, index, weights, w1, w2, b1, b2)
        ctx.save_for_backward(x, index, weights, w1, w2, b1, b2, cached)
        ctx.op, ctx.config, ctx.turned, ctx.add_to = op, config, turned, add_to
        return out

    @staticmethod
    def backward(ctx, d_out):
        saved = ctx.saved_tensors
        x, weights, parameters = saved[0], saved[2], saved[3:7]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():  # somebody wants to differentiate this: the operator says no
            return (None,) * 4 + _backward(ctx, d_out, None)[:7]
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) if needed[0] else None,
                 torch.empty_like(weights, dtype=torch.float32) if needed[2] else None]
        made: List[Optional[Tensor]] = [torch.empty_like(t) if wanted and t is not None else None
                                        for t, wanted in zip(parameters, needed[3:])]
        into = made
        if ctx.add_to:
            made, into = [None] * 4, [*ctx.add_to, None, None][:4]
        if x.shape[0] == 0:
            for g in grads + made:
                if g is not None:
                    g.zero_()
        else:
            _experts.backward(ctx.op, grads + into, d_out, *saved)
        ds = grads[1]
        if ds is not None and weights.dtype != torch.float32:
            ds = ds.to(weights.dtype)
        return (None, None, None, None, grads[0], None, ds, *made)


_known: dict = {}  # what has been checked and opened, by everything that this depends on
_MOST_KNOWN = 256


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
ACTIVATIONS = ("swiglu", "geglu", "reglu", "swiglu_clamp", "relu2", "relu", "gelu", "silu")


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


def _opened(key: Any, trains: bool, tensors: Sequence[Any], add_to: Sequence[Tensor]) -> Any:
    """The open operator and its config, after all checks, remembered under `key`."""
    x, index, weights, w1, w2, b1, b2 = tensors
    act, layout, transposed, alpha, limit, weight_on, backend = key[0]
    config = _config(x, act, layout, alpha, limit, weight_on, backend)
    _check(x, index, weights, w1, w2, b1, b2, act in ACTIVATIONS[:4], transposed)
    op = _open(x, index, weights, w1, w2, b1 is not None, config, transposed, trains,
               add_to[0].dtype if add_to else None, bool(add_to))
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[key] = op, config
    return _known[key]


def _directly(how: Any, trains: bool, tensors: Sequence[Any], add_to: Sequence[Tensor]) -> Tensor:
    x, index, weights, w1, w2, b1, b2 = tensors
    rows = x.shape[0]
    key = (how, trains, x.shape[1:], index.shape[1:], weights.shape[1:], w1.shape, w2.shape,
           x.dtype, index.dtype, weights.dtype, w1.dtype, w2.dtype, x.get_device(),
           index.get_device(), weights.get_device(), w1.get_device(), w2.get_device(),
           None if b1 is None else (b1.shape, b1.dtype, b1.get_device()),
           None if b2 is None else (b2.shape, b2.dtype, b2.get_device()),
           add_to[0].dtype if add_to else None)
    found = _known.get(key)
    if found is None or index.shape[0] != rows or weights.shape[0] != rows:
        found = _opened(key, trains, tensors, add_to)
    op, config = found
    if not (x.is_contiguous() and index.is_contiguous() and weights.is_contiguous() and
            w1.is_contiguous() and w2.is_contiguous()) or b1 is not None:
        tensors = [t if t is None else t.contiguous() for t in tensors]
    if not trains:
        return _experts.forward(op, None, *tensors)[0]
    return _Direct.apply(op, config, how[2], add_to, *tensors)


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
    plain = True
    for name, t in zip(_NAMES, tensors):
        if type(t) not in _PLAIN and not (t is None and name in ("b1", "b2")):
            plain = False
            if not isinstance(t, Tensor):
                raise lib.InvalidError(f"{name} is a torch.Tensor, not {type(t).__name__}")
    keep = torch.is_grad_enabled() and (
        x.requires_grad or top_k_weights.requires_grad or w1.requires_grad or w2.requires_grad or
        (b1 is not None and b1.requires_grad) or (b2 is not None and b2.requires_grad))
    if plain and _nobody_looks_on():
        if add_to:
            _check_add_to(add_to, [t for t in tensors[3:] if t is not None])
        how = (act, layout, bool(transposed), alpha, limit, weight_on, backend)
        return _directly(how, keep, tensors, add_to)
    if add_to:
        raise lib.UnsupportedError("add_to is for eager mode: torch.compile and other tracers do "
                                   "not see what it writes")
    config = _config(x, act, layout, alpha, limit, weight_on, backend)
    _check(x, top_k_index, top_k_weights, w1, w2, b1, b2, act in ACTIVATIONS[:4], transposed)
    out, _ = torch.ops.moeref.experts(
        x.contiguous(), top_k_index.contiguous(), top_k_weights.contiguous(), w1.contiguous(),
        w2.contiguous(), None if b1 is None else b1.contiguous(),
        None if b2 is None else b2.contiguous(), config, bool(transposed), keep)
    return out
