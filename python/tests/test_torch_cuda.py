"""The torch operator on a GPU: streams, captured graphs, memory, weights in other orders."""
import threading

import pytest

torch = pytest.importorskip("torch")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402
from moeref.testing import assert_close_moe  # noqa: E402

if not torch.cuda.is_available() or "cuda" not in moeref.backends():
    pytest.skip("no CUDA device for torch and moeref", allow_module_level=True)

experts = moeref.torch.experts
SHAPES = [(200, 128, 64, 8, 2), (333, 96, 40, 5, 3)]  # the second takes the portable kernels


def draw(T=200, d=128, n=64, E=8, K=2, act="swiglu", transposed=False, bias=False, seed=0,
         dtype=torch.bfloat16, device="cuda"):
    g = torch.Generator(device).manual_seed(seed)
    h = 2 * n if act in moeref.torch.GATED else n

    def some(*shape, scale=1.0):
        made = torch.randn(*shape, generator=g, device=device) * scale
        return made.to(dtype).requires_grad_()

    index = torch.rand(T, E, generator=g, device=device).topk(K, -1).indices
    w1, w2 = some(E, h, d, scale=d ** -0.5), some(E, d, n, scale=n ** -0.5)
    if transposed:
        w1, w2 = (t.detach().mT.contiguous().requires_grad_() for t in (w1, w2))
    weights = torch.rand(T, K, generator=g, device=device).requires_grad_()
    more = [some(E, h, scale=0.1), some(E, d, scale=0.1)] if bias else []
    return [some(T, d), index, weights, w1, w2] + more


def step(arguments, **how):
    """O and every gradient, for a dO that depends on the shape alone."""
    leaves = [a for a in arguments if a.requires_grad]
    out = experts(*arguments, **how)
    d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, d_out)]


def same_bits(some, others):
    assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("words", ["", "act=geglu", "act=relu2", "act=swiglu_clamp bias=1",
                                   "bias=1", "on=input"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_judge(shape, words, dtype):
    T, d, n, E, K = shape
    how = dict(word.split("=") for word in words.split())
    act, on = how.get("act", "swiglu"), how.get("on", "output")

    def mine(X, topk_index, topk_weight, W1, W2, b1=None, b2=None):
        there = [t if t is None else t.cuda()
                 for t in (X, topk_index, topk_weight, W1, W2, b1, b2)]
        return experts(*there, act=act, weight_on=on).cpu()

    line = f"T={T} d={d} n={n} E={E} K={K} {words} dtype={dtype} route=zipf:1 drop=9 seed=5"
    report = assert_close_moe(mine, line)
    for name in ("O", "dX", "dS", "dW1", "dW2"):
        assert report.tensors[name]["verdict"] == "pass"


@pytest.mark.parametrize("layout", ["concat", "interleaved"])
@pytest.mark.parametrize("transposed", [False, True])
def test_orders_of_weights_have_the_same_bits(layout, transposed):
    plain = draw(bias=True)
    x, index, weights, w1, w2, b1, b2 = plain
    E, h, d = w1.shape
    turned = [x, index, weights, w1, w2, b1, b2]
    if layout == "interleaved":
        turned[3] = w1.detach().view(E, 2, h // 2, d).transpose(1, 2).reshape(E, h, d)
        turned[5] = b1.detach().view(E, 2, h // 2).transpose(1, 2).reshape(E, h)
    if transposed:
        turned[3], turned[4] = turned[3].detach().mT.contiguous(), w2.detach().mT.contiguous()
    turned = [t.requires_grad_() if t.is_floating_point() else t for t in turned]
    want, got = step(plain), step(turned, layout=layout, transposed=transposed)
    dw1, dw2, db1 = got[3], got[4], got[5]
    if transposed:
        dw1, dw2 = dw1.mT, dw2.mT
    if layout == "interleaved":
        dw1 = dw1.reshape(E, h // 2, 2, d).transpose(1, 2).reshape(E, h, d)
        db1 = db1.view(E, h // 2, 2).transpose(1, 2).reshape(E, h)
    same_bits(want, [*got[:3], dw1, dw2, db1, got[6]])


def test_converted_weights_are_kept_until_they_change():
    moeref.torch.weights_changed()
    arguments = draw(transposed=True)
    w1 = arguments[3]
    first = step(arguments, transposed=True)
    held = moeref.torch.converted_bytes()
    assert held >= 2 * (w1.numel() + arguments[4].numel())
    same_bits(first, step(arguments, transposed=True))
    assert moeref.torch.converted_bytes() == held
    with torch.no_grad():
        w1.mul_(2)
    changed = step(arguments, transposed=True)
    assert not torch.equal(first[0], changed[0]) and moeref.torch.converted_bytes() == held
    moeref.torch.weights_changed()
    same_bits(changed, step(arguments, transposed=True))
    del arguments, w1
    assert moeref.torch.converted_bytes() == 0


@pytest.mark.parametrize("transposed", [False, True])
def test_a_captured_graph_on_other_values(transposed):
    static, other = draw(transposed=transposed), draw(transposed=transposed, seed=1)
    want = step(other, transposed=transposed)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step(static, transposed=transposed)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    d_out = torch.randn(static[0].shape, generator=torch.Generator().manual_seed(9))
    d_out = d_out.to(static[0])
    with torch.cuda.graph(graph):
        out = experts(*static, transposed=transposed)
        grads = torch.autograd.grad(out, [a for a in static if a.requires_grad], d_out)
    with torch.no_grad():
        for a, b in zip(static, other):
            a.copy_(b)
    for _ in range(2):
        graph.replay()
    torch.cuda.synchronize()
    same_bits(want, [out, *grads])


def test_streams_and_threads():
    arguments = [draw(seed=i) for i in range(4)]
    want = [step(a) for a in arguments]
    torch.cuda.synchronize()
    got, streams = [None] * 4, [torch.cuda.Stream() for _ in range(4)]

    def work(i):
        with torch.cuda.stream(streams[i]):
            for _ in range(20):
                got[i] = step(arguments[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    torch.cuda.synchronize()
    for a, b in zip(want, got):
        same_bits(a, b)


def test_no_visit_to_the_host():
    arguments = draw()
    leaves = [a for a in arguments if a.requires_grad]
    d_out = torch.randn_like(arguments[0])
    step(arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(experts(*arguments), leaves, d_out)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gradients_added_in_fp32():
    arguments = draw(d=64)
    w1, w2 = arguments[3:5]
    sums = [torch.zeros(t.shape, device="cuda") for t in (w1, w2)]
    exact = [torch.zeros(t.shape, device="cuda", dtype=torch.float64) for t in (w1, w2)]
    for batch in range(8):
        mine = draw(d=64, T=30 + batch, seed=20 + batch)[:3] + [w1, w2]
        once = [torch.zeros(t.shape, device="cuda") for t in (w1, w2)]
        for into in (once, sums):
            experts(*mine, add_to=into).float().square().sum().backward()
        for total, one in zip(exact, once):
            total += one.double()
    assert w1.grad is None and w2.grad is None
    for total, mine in zip(exact, sums):
        assert ((mine - total).norm() / total.norm()) < 1e-6


def test_what_needs_no_gradient_costs_none():
    arguments = draw(T=4000, d=256, n=256)
    for t in arguments[3:]:
        t.requires_grad_(False)

    def most():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(arguments)
        return torch.cuda.max_memory_allocated() - before

    frozen = most()
    arguments[3].requires_grad_()
    assert most() - frozen >= arguments[3].numel() * 2


def test_operator_and_compiled():
    arguments = draw(T=24)
    given = arguments + [None, None, "cuda|act=swiglu on=output glu=concat", False, True]
    torch.library.opcheck(torch.ops.moeref.experts, tuple(given),
                          test_utils=("test_schema", "test_autograd_registration",
                                      "test_faketensor"))
    compiled = torch.compile(lambda *a: experts(*a) * 2, fullgraph=True, backend="aot_eager",
                             dynamic=True)
    for T in (8, 21, 40):
        arguments = draw(T=T, seed=T)
        assert torch.equal(compiled(*arguments), experts(*arguments) * 2)


def test_any_number_of_tokens():
    for T in (0, 1, 2, 127, 128, 129, 1000):
        arguments = draw(T=T, seed=T)
        out = step(arguments)
        assert out[0].shape == (T, 128) and all(torch.isfinite(t).all() for t in out)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
def test_a_second_device():
    here = draw(seed=3)
    there = [a.detach().to("cuda:1").requires_grad_(a.requires_grad) for a in here]
    want, got = step(here), step(there)
    assert torch.cuda.current_device() == 0
    same_bits(want, [t.to("cuda:0") for t in got])
