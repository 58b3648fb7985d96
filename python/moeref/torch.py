"""The experts of a Mixture-of-Experts layer as a torch operator with autograd.

On CUDA the backend `cuda` runs on torch's current stream and in memory of torch's allocator, on the
CPU `openblas` does, in float32. Any number of tokens may come. Between calls nothing is kept but
weights that had to be converted (weights_changed, converted_bytes), and, open, the operators of the
256 shapes that were used last; others are closed when no graph of autograd and no CUDA graph that
was captured of them needs them.

Plain tensors go straight to the kernels. Where torch looks on (torch.compile, torch.export,
torch.jit.trace, FakeTensorMode and other dispatch modes) the same runs as torch.ops.moeref.experts.
Of torch.func's transforms vmap takes it, one after the other; those that differentiate do not.
torch.autocast casts nothing here: x, weights and biases have one dtype.
"""
import operator
from typing import (Any, Callable, Collection, Dict, List, Literal, NamedTuple, Optional, Sequence,
                    Tuple)

try:
    import torch
except ImportError as missing:
    raise ImportError("moeref.torch needs torch, which is not there: pip install "
                      "torch") from missing
from torch import Tensor
from torch.autograd import forward_ad

from . import _experts
from . import _library as lib
from ._experts import Experts, converted_bytes, weights_changed
from ._opened import tick
from ._torch_checks import ACTIVATIONS, GATED, check, check_add_to, config, lazy, number, plain
from ._torch_operator import backward, open_experts

__all__ = ["ACTIVATIONS", "experts", "converted_bytes", "weights_changed"]


# ---- plain tensors: the same without the dispatcher, which takes longer than the launches ----

_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_functorch: Any = getattr(torch._C, "_functorch", None)
_transforms = getattr(_functorch, "peek_interpreter_stack", lambda: 1)
_batched = getattr(_functorch, "is_legacy_batchedtensor", lambda _: False)  # is_grads_batched
_trace = getattr(torch._C, "_get_tracing_state", lambda: 1)  # of torch.jit.trace


_NO_ADD_TO = ("add_to is for eager mode and first derivatives: torch.compile and other tracers do "
              "not see what it writes")
_NO_TANGENT = ("moeref.torch.experts has no forward-mode derivative: torch.func.jvp, jacfwd and "
               "dual tensors cannot take it")


def _nobody_looks_on() -> bool:
    return (not torch.compiler.is_compiling() and not _modes() and _transforms() is None and
            _trace() is None and forward_ad._current_level < 0)


def _refuse_transforms(tensors: Sequence[Any]) -> None:
    """Operators like it get tangents of zero, and nobody says so; torch.func.grad fails in words
    about another class."""
    tangent: Callable[[Tensor], Any] = getattr(forward_ad, "unpack_dual")
    if forward_ad._current_level >= 0 and any(
            t is not None and tangent(t).tangent is not None for t in tensors):
        raise lib.UnsupportedError(_NO_TANGENT)
    kinds: Any = getattr(_functorch, "TransformType", None)
    transform = _transforms()
    kind = transform.key() if kinds and hasattr(transform, "key") else None
    if kind is not None and kind == kinds.Jvp:
        raise lib.UnsupportedError(_NO_TANGENT)
    if kind is not None and kind == kinds.Grad:
        raise lib.UnsupportedError("torch.func.grad, vjp and jacrev cannot take "
                                   "moeref.torch.experts; torch.autograd can")


# Hooks of saved tensors (offload, compression, checkpoints) may hand back others than were saved.
_hooks = getattr(getattr(torch._C, "_autograd", None), "_top_saved_tensors_default_hooks",
                 lambda _: True)


def _kind(t: Optional[Tensor]) -> Any:
    return None if t is None else (list(t.shape), t.dtype, t.device, t.layout)


def _as_saved(t: Optional[Tensor], kind: Any) -> Optional[Tensor]:
    if _kind(t) != kind:
        raise lib.InvalidError(f"a hook of saved tensors returned {_kind(t)} for {kind}")
    return t if t is None else t.contiguous()


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, how: Tuple[Any, ...], *tensors: Any) -> Tensor:
        out, cached = _experts.forward(how[0], None, *tensors)
        ctx.save_for_backward(*tensors, cached)
        ctx.how = how  # one attribute and few arguments: each costs the host time
        ctx.saved = None if _hooks(True) is None else [_kind(t) for t in (*tensors, cached)]
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Tuple[Any, ...]:
        op, ctx.config, ctx.turned, add_to = ctx.how
        # Whoever looks on gets the operator; whoever wants to differentiate this, its refusal.
        if torch.is_grad_enabled() or not _nobody_looks_on() or _batched(d_out):
            if add_to:
                raise lib.UnsupportedError(_NO_ADD_TO)
            return (None,) + backward(ctx, d_out, None)[:7]
        saved = ctx.saved_tensors
        if ctx.saved:
            saved = [_as_saved(*pair) for pair in zip(saved, ctx.saved)]
        x, weights, parameters = saved[0], saved[2], saved[3:7]
        if type(d_out) is not Tensor or lazy(d_out):
            d_out = torch.empty_like(x).copy_(d_out)
        needed = ctx.needs_input_grad[1:]
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


# Function.apply without its wrapper in Python, which takes as long as two launches: it looks for
# transforms of torch.func, and _nobody_looks_on has.
_record: Callable[..., Tensor] = getattr(super(torch.autograd.Function, _Direct), "apply",
                                         _Direct.apply)


def _trains(tensors: Sequence[Any]) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


# ---- calls whose like has been checked before ----

# What torch.compile checks its own calls with; without it every call is checked in full.
_dynamo_guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
_Guards: Any = getattr(_dynamo_guards, "TensorGuards", None)
_MOST_CALLS = 64  # of one `how`
_MOST_KEYS = 1024  # numbers that an activation does not read tell calls apart, too


class _Call(NamedTuple):
    """An operator, open for tensors that `fits` tells: of the same classes, devices, dtypes,
    strides and sizes, but for T, and of the same requires_grad."""

    fits: Callable[..., bool]
    op: Experts
    config: str  # of a layer, as the operator takes it
    trains: bool


_calls: Dict[Any, List[_Call]] = {}


def _forget_calls(stay: Collection[Experts]) -> None:
    """Calls of operators that are closed as soon as nobody holds them."""
    held = set(map(id, stay))
    for key, calls in list(_calls.items()):
        left = [call for call in calls if id(call.op) in held]
        if left:
            _calls[key] = left
        else:
            _calls.pop(key, None)


_experts.operators.when_one_goes(_forget_calls)


def _fits(given: Sequence[Tensor]) -> Callable[..., bool]:
    sizes = [[None if i < 3 and dim == 0 else int(size) for dim, size in enumerate(t.shape)]
             for i, t in enumerate(given)]
    strides = [[None if i < 3 and dim == 0 else step for dim, step in enumerate(t.stride())]
               for i, t in enumerate(given)]
    checked: Callable[..., bool] = _Guards(*given, dynamic_dims_sizes=sizes,
                                           dynamic_dims_strides=strides).check
    return checked


_nested = operator.attrgetter("is_nested")  # of such tensors the guards end the process


def _recalled(key: Any, given: Sequence[Tensor]) -> Optional[_Call]:
    for call in _calls.get(key, ()):
        if call.fits(*given):
            x, index, weights = given[:3]
            fits = index.shape == weights.shape and index.shape[0] == x.shape[0]
            # One token is dense with any stride between tokens: with more the same one may not be.
            return call if fits and x.is_contiguous() and index.is_contiguous() and \
                weights.is_contiguous() else None
    return None


def _opened(key: Any, how: Any, trains: bool, tensors: Sequence[Any], add_to: Sequence[Tensor]
            ) -> _Call:
    """The operator of a call that is like none before, after all checks."""
    x, index, weights, w1, w2, b1, b2 = tensors
    act, layout, transposed, alpha, limit, weight_on, backend = how
    words = config(x, act, layout, alpha, limit, weight_on, backend)
    check(x, index, weights, w1, w2, b1, b2, act in GATED, transposed)
    given = [t for t in tensors if t is not None]
    if add_to:
        check_add_to(add_to, given[3:])
    op = open_experts(x, index, weights, w1, w2, b1 is not None, words, transposed, trains,
                      add_to[0].dtype if add_to else None, bool(add_to))
    if _Guards is None or not all(t.is_contiguous() for t in given):
        return _Call(bool, op, words, trains)
    call = _Call(_fits(given), op, words, trains)
    if len(_calls) >= _MOST_KEYS:
        _calls.clear()
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
    try:
        call = None if any(map(_nested, given)) else _recalled(key, given)
    except (TypeError, AttributeError):  # no tensors; what cannot be hashed is no name either
        call = None
    if call is None:
        if not plain(tensors) or any(t is not None and lazy(t) for t in given):
            return None
        call = _opened(key, how, grad and _trains(tensors), tensors, add_to)
        tensors = [t if t is None else t.contiguous() for t in tensors]
    else:
        call.op.used = tick()
        if add_to:
            check_add_to(add_to, given[3:])
    if not call.trains:
        return _experts.forward(call.op, None, *tensors)[0]
    return _record((call.op, call.config, how[2], add_to), *tensors)


def experts(x: Tensor, top_k_index: Tensor, top_k_weights: Tensor, w1: Tensor, w2: Tensor,
            b1: Optional[Tensor] = None, b2: Optional[Tensor] = None, *, act: str = "swiglu",
            layout: Literal["concat", "interleaved"] = "concat", transposed: bool = False,
            alpha: float = 1.702, limit: float = 7.0,
            weight_on: Literal["output", "input"] = "output", backend: Optional[str] = None,
            add_to: Sequence[Tensor] = ()) -> Tensor:
    """O [T, d]: the sum of each token's experts, weighted. Differentiable in x, top_k_weights,
    weights and biases, once; what needs no gradient costs none.

    x              [T, d] float32, bfloat16, float16 or float64 (openblas computes in float32, in
                   float64 the backend "reference" alone).
    top_k_index    [T, K] int32 or int64; -1, E or any other value outside 0 .. E-1: no expert. An
                   expert at most once a token.
    top_k_weights  [T, K] float32 or x's dtype.
    w1             [E, 2n, d], or [E, n, d] where `act` has no gate; `transposed`: [E, d, 2n].
    w2             [E, d, n]; `transposed`: [E, n, d]. Weights are used where they lie if the
                   backend can multiply them so; if not, one converted copy of them is kept until
                   they change (converted_bytes, weights_changed).
    b1, b2         [E, 2n or n], [E, d]; both or none.
    act            swiglu, geglu, reglu, swiglu_clamp (gpt-oss, with alpha and limit), relu2, relu,
                   gelu, silu; on the CPU also geglu_tanh (Gemma), swiglu_limit (DeepSeek-V4) and
                   swiglu_limit_after (Step-3.7) with limit, swiglu_softcap (Inkling 2) with both.
    layout         rows of w1: "concat" (gates, then ups) or "interleaved".
    weight_on      "output", or "input" (Llama 4).
    backend        a name of moeref.backends(); None: cuda or openblas, by x's device.
    add_to         buffers like w1, w2 (b1, b2), float32 or of their dtype, to which backward adds
                   their gradients (Megatron's main_grad); w1.grad and the others stay as they are.

    Raises InvalidError for shapes, dtypes, devices; UnsupportedError for what the backend cannot
    do; NotFoundError for a backend that is not there.
    """
    tensors = (x, top_k_index, top_k_weights, w1, w2, b1, b2)
    if not isinstance(add_to, (list, tuple)):
        raise lib.InvalidError(f"add_to is a list of tensors, not {type(add_to).__name__}")
    if _nobody_looks_on():
        if type(alpha) is not float or type(limit) is not float:
            alpha, limit = number(alpha, "alpha"), number(limit, "limit")
        how = (act, layout, bool(transposed), alpha, limit, weight_on, backend)
        out = _directly(how, tensors, add_to)
        if out is not None:
            return out
    else:
        plain(tensors)
        _refuse_transforms(tensors)
    if add_to:
        raise lib.UnsupportedError(_NO_ADD_TO)
    words = config(x, act, layout, alpha, limit, weight_on, backend)
    check(x, top_k_index, top_k_weights, w1, w2, b1, b2, act in GATED, transposed)
    keep = torch.is_grad_enabled() and _trains(tensors)
    pair: Tuple[Tensor, Tensor] = torch.ops.moeref.experts(
        x.contiguous(), top_k_index.contiguous(), top_k_weights.contiguous(), w1.contiguous(),
        w2.contiguous(), None if b1 is None else b1.contiguous(),
        None if b2 is None else b2.contiguous(), words, bool(transposed), keep)
    return pair[0]
