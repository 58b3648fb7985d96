"""Hostile arguments of moeref.torch.experts end in a tensor or in an exception of moeref's own."""
import math

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402

st = hypothesis.strategies
BACKENDS = [*moeref.backends(), "nonesuch", "", "a|b", 3, None]
DTYPES = [torch.float32] * 4 + [torch.bfloat16, torch.float16, torch.float64, torch.int64,
                                torch.int32, torch.bool, torch.complex64]


def drawn_tensor(draw, shape, dtype):
    """Of that shape and dtype, or not quite; of any strides, or of no memory at all."""
    kind = draw(st.integers(0, 40))
    shape = list(shape)
    if kind < 3:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 9))
    shape = shape[:-1] if kind == 3 else shape + [2] if kind == 4 else shape
    t = torch.ones(shape, dtype=dtype) if dtype in (torch.bool, torch.complex64) else (
        torch.arange(math.prod(shape)).remainder(7).reshape(shape) - 3).to(dtype)
    if kind == 5 and t.dim() > 1:
        t = t.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == 6 and shape[0]:
        t = t[:1].expand(shape)
    return {7: t.to("meta"), 8: t.to_sparse(), 9: None, 10: [1.0]}.get(kind, t)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_experts(data):
    draw = data.draw
    T, d, n, E = (draw(st.integers(0, 9)) for _ in range(4))
    K = draw(st.integers(0, max(E, 1)))
    dtype, act = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(
        [*moeref.torch.ACTIVATIONS, "nonesuch", None]))
    turned, h = draw(st.booleans()), 2 * n if act in moeref.torch.GATED else n
    index = torch.stack([torch.randperm(E)[:K] for _ in range(T)]) if T and K <= E else \
        drawn_tensor(draw, (T, K), draw(st.sampled_from([torch.int64, torch.int32, dtype])))
    arguments = [drawn_tensor(draw, (T, d), dtype), index,
                 drawn_tensor(draw, (T, K), draw(st.sampled_from([torch.float32, dtype]))),
                 drawn_tensor(draw, (E, d, h) if turned else (E, h, d), dtype),
                 drawn_tensor(draw, (E, n, d) if turned else (E, d, n), dtype)]
    for a in arguments:
        if isinstance(a, torch.Tensor) and a.is_floating_point() and draw(st.booleans()):
            a.requires_grad_()
    how = {"act": act, "transposed": turned, "backend": draw(st.sampled_from(BACKENDS)),
           "limit": draw(st.sampled_from([7, 0, -1, math.nan, math.inf, "wide"])),
           "layout": draw(st.sampled_from(["concat", "interleaved", "nonesuch"])),
           "weight_on": draw(st.sampled_from(["output", "input", "nonesuch"]))}
    try:
        out = moeref.torch.experts(*arguments, **how)
    except moeref.Error:
        return
    assert out.shape == (T, d)
    if out.requires_grad:
        out.float().sum().backward()
