"""The experts of a Mixture-of-Experts layer as a torch operator with autograd.

On CUDA the backend `cuda` runs on torch's current stream and in memory of torch's allocator, on the
CPU `openblas` does, in float32. Nothing is kept between calls; any number of tokens may come.
"""
import ctypes as c
import functools
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from . import _library as lib

_DTYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3,
           torch.int64: 4, torch.int32: 5}
_CASE_DTYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16",
                torch.bfloat16: "bf16"}
_ID = {name: i for i, name in enumerate(lib.TENSOR_IDS)}
_BACKENDS = {"cpu": "openblas", "cuda": "cuda"}
# Tokens at which sizes are sampled: they grow by whole alignments with T, and never faster.
_SAMPLES = (1, 2, 3, 17, 129, 1024, 4097, 65536, 1 << 20)


def _view(ret: Any, t: Tensor, swapped: bool = False) -> None:
    """Fills a moe_view; `swapped`: the last two dimensions change places."""
    shape, stride = list(t.shape), list(t.stride())
    if swapped:
        shape[-2:] = shape[:-3:-1]
        stride[-2:] = stride[:-3:-1]
    ret.data = t.data_ptr()
    ret.dtype, ret.ndim = _DTYPES[t.dtype], t.dim()
    ret.place = 1 if t.is_cuda else 0
    ret.device_index = t.get_device() if t.is_cuda else 0
    for axis in range(t.dim()):
        ret.shape[axis], ret.stride[axis] = shape[axis], stride[axis]


class _Operator:
    """An open moe_operator, and bounds of what it needs."""

    def __init__(self, backend: str, line: str, dtype: int, both: bool, columns: int):
        self.pointer, self.columns = c.c_void_p(), columns
        lib.call("operator_open", lib.text(backend, "backend"), line.encode(), dtype,
                 3 if both else 1, torch.get_num_threads(), c.byref(self.pointer))
        sizes = []
        for tokens in _SAMPLES:
            try:
                sizes.append((tokens, self.sizes(tokens).cached))
            except lib.Error:  # more than it can count
                break
        first = sizes[0][1] if sizes else 0
        self.slope = max([-(-max(0, s - first) // (t - 1)) for t, s in sizes[1:]], default=0)
        self.base = first + 4096

    def sizes(self, tokens: int) -> Any:
        sizes = lib.Sizes()
        lib.call("operator_sizes", self.pointer, tokens, self.columns, c.byref(sizes))
        return sizes

    def cached_bytes(self, tokens: Any) -> Any:
        """At least what forward keeps, as a line in T, so that a symbolic T will do."""
        return self.base + self.slope * tokens

    def run(self, what: str, call: Any) -> None:
        lib.call("operator_run", self.pointer, ord(what), c.byref(call))


@functools.lru_cache(maxsize=None)
def _operator(backend: str, line: str, dtype: int, both: bool, columns: int) -> _Operator:
    return _Operator(backend, line, dtype, both, columns)


def _open(x: Tensor, index: Tensor, w1: Tensor, w2: Tensor, bias: bool, config: str, both: bool,
          turned: bool) -> _Operator:
    backend, words = config.split("|")
    # int(): a layer's sizes are constants of a compiled graph, T alone may be a symbol.
    d, E, columns = int(x.shape[1]), int(w1.shape[0]), int(index.shape[1])
    n = int(w2.shape[1] if turned else w2.shape[2])
    line = (f"T=1 d={d} n={n} E={E} K={min(columns, E)} {words} bias={int(bias)} "
            f"dtype={_CASE_DTYPES[x.dtype]} route=uniform")
    return _operator(backend, line, _DTYPES[x.dtype], both, columns)


def _call(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor, b1: Optional[Tensor],
          b2: Optional[Tensor], turned: bool) -> Any:
    call = lib.Call()
    call.tokens, call.columns = index.shape
    _view(call.t[_ID["X"]], x)
    _view(call.index, index)
    _view(call.t[_ID["topk_weight"]], weights)
    _view(call.t[_ID["W1"]], w1, turned)
    _view(call.t[_ID["W2"]], w2, turned)
    if b1 is not None and b2 is not None:
        _view(call.t[_ID["b1"]], b1)
        _view(call.t[_ID["b2"]], b2)
    if x.is_cuda:
        call.stream = torch.cuda.current_stream(x.device).cuda_stream
    return call


def _bytes(size: int, like: Tensor) -> Tensor:
    return torch.empty(max(1, size), dtype=torch.uint8, device=like.device)


def _converted(op: _Operator, call: Any, x: Tensor) -> Optional[Tensor]:
    """Weights in the order of the kernels, where theirs is another."""
    size = c.c_int64()
    lib.call("operator_converted", op.pointer, c.byref(call), c.byref(size))
    if not size.value:
        return None
    memory = _bytes(size.value, x)
    call.converted, call.converted_bytes = memory.data_ptr(), size.value
    op.run("c", call)
    return memory


@torch.library.custom_op("moeref::experts", mutates_args=())
def _experts(x: Tensor, index: Tensor, weights: Tensor, w1: Tensor, w2: Tensor,
             b1: Optional[Tensor], b2: Optional[Tensor], config: str, turned: bool,
             keep: bool) -> Tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    op = _open(x, index, w1, w2, b1 is not None, config, keep, turned)
    tokens = x.shape[0]
    cached = _bytes(op.cached_bytes(tokens) if keep else 0, x)
    if not x.is_cuda:
        cached.zero_()  # gaps between its parts: equal calls have equal results
    if tokens == 0:
        return out, cached
    sizes = op.sizes(tokens)
    if keep and sizes.cached > cached.numel():
        raise lib.Error(f"{sizes.cached} bytes are kept of {tokens} tokens, {cached.numel()} were "
                        "foreseen")
    workspace = _bytes(sizes.forward, x)
    call = _call(x, index, weights, w1, w2, b1, b2, turned)
    _view(call.t[_ID["O"]], out)
    call.cached, call.cached_bytes = cached.data_ptr(), cached.numel()
    call.workspace, call.workspace_bytes = workspace.data_ptr(), workspace.numel()
    converted = _converted(op, call, x)
    op.run("f", call)
    del converted
    return out, cached


@_experts.register_fake
def _(x, index, weights, w1, w2, b1, b2, config, turned, keep):
    cached = 1
    if keep:
        op = _open(x, index, w1, w2, b1 is not None, config, True, turned)
        cached = op.cached_bytes(x.shape[0])
    return (torch.empty_like(x, memory_format=torch.contiguous_format),
            x.new_empty([cached], dtype=torch.uint8))


@torch.library.custom_op("moeref::experts_backward", mutates_args=())
def _experts_backward(d_out: Tensor, x: Tensor, index: Tensor, weights: Tensor, w1: Tensor,
                      w2: Tensor, b1: Optional[Tensor], b2: Optional[Tensor], cached: Tensor,
                      config: str, turned: bool) -> List[Tensor]:
    op = _open(x, index, w1, w2, b1 is not None, config, True, turned)
    grads = _gradients_like(x, weights, w1, w2, b1, b2)
    if x.shape[0] == 0:
        return [g.zero_() for g in grads]
    workspace = _bytes(op.sizes(x.shape[0]).backward, x)
    call = _call(x, index, weights, w1, w2, b1, b2, turned)
    d_out = d_out.contiguous()
    _view(call.t[_ID["dO"]], d_out)
    for name, grad in zip(("dX", "dS", "dW1", "dW2", "db1", "db2"), grads):
        _view(call.t[_ID[name]], grad, turned and name in ("dW1", "dW2"))
    call.cached, call.cached_bytes = cached.data_ptr(), cached.numel()
    call.workspace, call.workspace_bytes = workspace.data_ptr(), workspace.numel()
    converted = _converted(op, call, x)
    op.run("b", call)
    del converted
    return grads


def _gradients_like(x, weights, w1, w2, b1, b2):
    dense = torch.contiguous_format
    made = [torch.empty_like(x, memory_format=dense),
            torch.empty_like(weights, dtype=torch.float32, memory_format=dense)]
    return made + [torch.empty_like(t, memory_format=dense)
                   for t in (w1, w2, b1, b2) if t is not None]


@_experts_backward.register_fake
def _(d_out, x, index, weights, w1, w2, b1, b2, cached, config, turned):
    return _gradients_like(x, weights, w1, w2, b1, b2)


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


_experts.register_autograd(_backward, setup_context=_setup)
_experts_backward.register_autograd(_no_double_backward, setup_context=lambda ctx, inputs,
                                    output: None)


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
        if not isinstance(t, Tensor):
            raise lib.InvalidError(f"{name} is a torch.Tensor, not {type(t).__name__}")
        if t.device != x.device:
            raise lib.InvalidError(f"{name} is on {t.device}, x on {x.device}")
        if name not in ("top_k_index", "top_k_weights") and t.dtype != x.dtype:
            raise lib.InvalidError(f"{name} is {t.dtype}, x is {x.dtype}")
    if x.dtype not in _CASE_DTYPES:
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


ACTIVATIONS = ("swiglu", "geglu", "reglu", "swiglu_clamp", "relu2", "relu", "gelu", "silu")


def experts(x: Tensor, top_k_index: Tensor, top_k_weights: Tensor, w1: Tensor, w2: Tensor,
            b1: Optional[Tensor] = None, b2: Optional[Tensor] = None, *, act: str = "swiglu",
            layout: str = "concat", transposed: bool = False, alpha: float = 1.702,
            limit: float = 7.0, weight_on: str = "output",
            backend: Optional[str] = None) -> Tensor:
    """O [T, d]: the sum of each token's experts, weighted. Differentiable in x, top_k_weights,
    weights and biases, once.

    x              [T, d] float32, bfloat16 or float16 (openblas computes in float32).
    top_k_index    [T, K] int32 or int64; -1, E or any other value outside 0 .. E-1: no expert. An
                   expert at most once a token.
    top_k_weights  [T, K] float32 or x's dtype.
    w1             [E, 2n, d], or [E, n, d] where `act` has no gate; `transposed`: [E, d, 2n].
    w2             [E, d, n]; `transposed`: [E, n, d]. Weights are used where they lie if the
                   backend can multiply them so, and are converted in each call if not.
    b1, b2         [E, 2n or n], [E, d]; both or none.
    act            swiglu, geglu, reglu, swiglu_clamp (gpt-oss, with alpha and limit), relu2, relu,
                   gelu, silu.
    layout         rows of w1: "concat" (gates, then ups) or "interleaved".
    weight_on      "output", or "input" (Llama 4).
    backend        a name of moeref.backends(); None: cuda or openblas, by x's device.

    Raises InvalidError for shapes, dtypes, devices; UnsupportedError for what the backend cannot
    do; NotFoundError for a backend that is not there.
    """
    if act not in ACTIVATIONS:
        raise lib.InvalidError(f"act is one of {', '.join(ACTIVATIONS)}, not {act!r}")
    if layout not in ("concat", "interleaved"):
        raise lib.InvalidError(f"layout is 'concat' or 'interleaved', not {layout!r}")
    if weight_on not in ("output", "input"):
        raise lib.InvalidError(f"weight_on is 'output' or 'input', not {weight_on!r}")
    _check(x, top_k_index, top_k_weights, w1, w2, b1, b2, act in ACTIVATIONS[:4], transposed)
    if backend is None:
        backend = _BACKENDS.get(x.device.type)
        if backend is None:
            raise lib.UnsupportedError(f"there is no backend for tensors on {x.device}")
    words = f"act={act} on={weight_on}"
    if act in ACTIVATIONS[:4]:
        words += f" glu={layout}"
    if act == "swiglu_clamp":
        words += f" alpha={float(alpha)!r} limit={float(limit)!r}"
    keep = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, top_k_weights, w1, w2, b1, b2))
    out, _ = torch.ops.moeref.experts(
        x.contiguous(), top_k_index.contiguous(), top_k_weights.contiguous(), w1.contiguous(),
        w2.contiguous(), None if b1 is None else b1.contiguous(),
        None if b2 is None else b2.contiguous(), f"{backend}|{words}", bool(transposed), keep)
    return out
