"""Hostile arguments of moeref.torch.experts end in a tensor or in an exception of moeref's own."""
import math

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402

st = hypothesis.strategies
HOSTILE = ["size", "short", "long", "meta", "sparse", "none", "list"]
ODD = ["strides", "expanded", "narrow", "negated", "zeros", "inference"]  # which must work
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NO_DTYPES = [torch.int64, torch.int32, torch.bool, torch.complex64]
reached = []


def mostly(usual, rare):
    """One of the usual values, and seldom one that is wrong: several at once tell little."""
    return st.sampled_from([*usual] * (1 + 24 * len(rare) // len(usual)) + [*rare])


def drawn_tensor(draw, shape, dtype):
    """Of that shape and dtype, or not quite; of any strides, or of no memory at all."""
    kind = draw(mostly(["", "", *ODD], HOSTILE))
    shape = list(shape)
    if kind == "size":
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 9))
    shape = shape[:-1] if kind == "short" else shape + [2] if kind == "long" else shape
    t = torch.ones(shape, dtype=dtype) if dtype in (torch.bool, torch.complex64) else (
        torch.arange(math.prod(shape)).remainder(7).reshape(shape) - 3).to(dtype)
    if kind == "strides" and t.dim() > 1:
        t = t.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == "expanded" and shape[0]:
        t = t[:1].expand(shape)
    if kind == "narrow" and t.dim() > 1:
        t = torch.cat([t, t], -1)[..., :shape[-1]]
    if kind in ("negated", "zeros") and dtype.is_floating_point:
        t = torch._neg_view(t) if kind == "negated" else torch._efficientzerotensor(
            *shape, dtype=dtype)
    if kind == "inference":
        with torch.inference_mode():
            t = t.clone()
    if kind in ("meta", "sparse"):
        t = t.to("meta") if kind == "meta" else t.to_sparse()
    return {"none": None, "list": [1.0]}.get(kind, t)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_experts(data):
    draw = data.draw
    T, d, n, E = (draw(mostly(range(1, 7), [0])) for _ in range(4))
    K = draw(mostly(range(1, max(E, 1) + 1), [0, E + 1]))
    dtype = draw(mostly(DTYPES, NO_DTYPES))
    act = draw(mostly(moeref.torch.ACTIVATIONS, ["x", None]))
    turned, h = draw(st.booleans()), 2 * n if act in moeref.torch.GATED else n
    index = torch.stack([torch.randperm(E)[:K] for _ in range(T)]) if T and K <= E else None
    if index is None or draw(mostly([False], [True])):
        index = drawn_tensor(draw, (T, K), draw(st.sampled_from([torch.int64, torch.int32, dtype])))
    arguments = [drawn_tensor(draw, (T, d), dtype), index,
                 drawn_tensor(draw, (T, K), draw(st.sampled_from([torch.float32, dtype]))),
                 drawn_tensor(draw, (E, d, h) if turned else (E, h, d), dtype),
                 drawn_tensor(draw, (E, n, d) if turned else (E, d, n), dtype)]
    for a in arguments:
        if isinstance(a, torch.Tensor) and a.is_floating_point() and draw(st.booleans()) and not (
                a.is_inference() or a._is_zerotensor()):
            a.requires_grad_()
    how = {"act": act, "transposed": turned,
           "backend": draw(mostly([*moeref.backends(), None], ["nonesuch", "", "a|b", 3])),
           "limit": draw(mostly([7, 0.5], [0, -1, math.nan, math.inf, "wide", [], torch.ones(2)])),
           "layout": draw(mostly(["concat", "interleaved"], ["nonesuch", []])),
           "weight_on": draw(mostly(["output", "input"], ["nonesuch", {}]))}
    try:
        out = moeref.torch.experts(*arguments, **how)
    except moeref.Error:
        return
    except RuntimeError as error:
        assert "Inference tensors cannot be saved for backward" in str(error)
        return
    reached.append(out.shape == (T, d))
    dense = [torch.empty(t.shape, dtype=t.dtype).copy_(t) for t in arguments]
    assert torch.equal(out, moeref.torch.experts(*dense, **how))
    if out.requires_grad:
        out.float().sum().backward()


def test_experts_ran():
    assert len(reached) > 30 and all(reached)
