"""The operator among torch's own machinery: lazy tensors, hooks, transforms, tracers."""
import functools

import pytest

torch = pytest.importorskip("torch")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402

BACKEND = "openblas" if "openblas" in moeref.backends() else "reference"
experts = functools.partial(moeref.torch.experts, backend=BACKEND)


def draw(T=8, d=24, n=16, E=5, K=2, dtype=torch.float32):
    """x, index, weights, w1, w2; all that can have a gradient wants one."""
    g = torch.Generator().manual_seed(T)
    index = torch.stack([torch.randperm(E, generator=g)[:K] for _ in range(T)])
    some = [torch.randn(*shape, generator=g, dtype=dtype).requires_grad_()
            for shape in ((T, d), (T, K), (E, 2 * n, d), (E, d, n))]
    return [some[0], index, *some[1:]]


def detached(arguments):
    return [t.detach() for t in arguments]


def equal(got, want):
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_a_stride_that_is_dense_of_one_token_only():
    """A call that is like one before in all but T must not take over that it was dense."""
    x, index, weights, w1, w2 = detached(draw())
    wide = [torch.cat([t, t], 1) for t in (x, index, weights)]
    narrow = [t[:, :part.shape[1]] for t, part in zip(wide, (x, index, weights))]
    for rows in (1, 8):
        got = experts(*(t[:rows] for t in narrow), w1, w2)
        equal(got, experts(*(t[:rows].clone() for t in (x, index, weights)), w1, w2))


@pytest.mark.parametrize("at", [0, 2, 3, 4])
def test_tensors_that_torch_has_yet_to_negate(at):
    arguments = draw()
    negated = list(arguments)
    negated[at] = torch._neg_view(arguments[at].detach()).requires_grad_()
    plain = list(arguments)
    plain[at] = (-arguments[at].detach()).requires_grad_()
    leaves = [[a[i] for i in (0, 2, 3, 4)] for a in (negated, plain)]
    outs = experts(*negated), experts(*plain)
    equal(*outs)
    for a, b in zip(*(torch.autograd.grad(o.sum(), some) for o, some in zip(outs, leaves))):
        equal(a, b)


def test_gradients_that_are_no_plain_tensors():
    class Own(torch.Tensor):
        pass

    arguments = draw()
    out = experts(*arguments)
    d_out = torch.randn(out.shape)

    def dx(given):
        return torch.autograd.grad(out, arguments[0], given, retain_graph=True)[0]

    want = dx(d_out)
    equal(dx(torch._neg_view(d_out)), -want)
    equal(dx(d_out.as_subclass(Own)).as_subclass(torch.Tensor), want)
    assert not dx(torch._efficientzerotensor(out.shape)).any()


@pytest.mark.parametrize("unpack, sentence", [
    (lambda t: t.bfloat16() if t.is_floating_point() else t, "bfloat16.* for .*float32"),
    (lambda t: t[:1], r"\[1"), (lambda t: t.to("meta"), "meta")])
def test_hooks_that_hand_back_other_tensors(unpack, sentence):
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, unpack):
        out = experts(*draw())
    with pytest.raises(moeref.InvalidError, match="a hook of saved tensors returned .*" + sentence):
        out.sum().backward()


def test_hooks_that_hand_back_the_same_values():
    arguments = draw()
    want = torch.autograd.grad(experts(*arguments).sum(), arguments[3])[0]
    hooks = torch.autograd.graph.saved_tensors_hooks
    for unpack in (lambda t: t.mT.contiguous().mT if t.dim() > 1 else t, torch.clone):
        with hooks(lambda t: t, unpack), torch.autograd.graph.save_on_cpu():
            out = experts(*arguments)
        with hooks(lambda t: t, unpack):
            again = experts(*arguments)
        for o in (out, again):
            equal(torch.autograd.grad(o.sum(), arguments[3])[0], want)


def test_dual_tensors_are_refused():
    x, *others = draw()
    forward_ad = torch.autograd.forward_ad
    for given in (x, x.detach()):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(given, torch.ones_like(given))
            with pytest.raises(moeref.UnsupportedError, match="forward-mode.*dual tensors"):
                experts(dual, *(detached(others) if given is not x else others))
            equal(experts(x, *others), experts(x, *others))  # which has no tangent


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev, torch.func.hessian])
def test_torch_func_is_refused(transform):
    x, *others = detached(draw())
    with pytest.raises(moeref.UnsupportedError, match="torch.func.grad, vjp and jacrev cannot"):
        transform(lambda t: experts(t, *others).sum())(x)


def test_vmap():
    x, *others = detached(draw())
    many = torch.stack([x, 2 * x, -x])
    equal(torch.func.vmap(lambda t: experts(t, *others))(many),
          torch.stack([experts(t, *others) for t in many]))


@pytest.mark.filterwarnings("ignore")
def test_a_trace_computes():
    x, *others = detached(draw())
    traced = torch.jit.trace(lambda t: experts(t, *others), (x,))
    equal(traced(x * 2), experts(x * 2, *others))


def test_no_second_derivative_of_a_backend_that_keeps_nothing():
    x, *others = draw(T=3, d=6, n=4, dtype=torch.float64)
    with pytest.raises(moeref.UnsupportedError, match="second derivative"):
        torch.autograd.gradgradcheck(
            lambda t: moeref.torch.experts(t, *others, backend="reference"), x)


def test_add_to_where_it_would_be_lost():
    arguments = draw()
    out = experts(*arguments, add_to=[torch.zeros_like(t) for t in arguments[3:]])
    with pytest.raises(moeref.UnsupportedError, match="add_to is for eager mode and first"):
        torch.autograd.grad(out.sum(), arguments[0], create_graph=True)


@pytest.mark.parametrize("wrong", [3, "ab", None, torch.zeros(2, 3), {}])
def test_add_to_that_is_no_list(wrong):
    with pytest.raises(moeref.InvalidError, match="add_to is a list of tensors"):
        experts(*draw(), add_to=wrong)


@pytest.mark.parametrize("name", ["act", "layout", "alpha", "limit", "weight_on", "backend"])
@pytest.mark.parametrize("wrong", [[], {}, [1.0], torch.zeros(2)])
def test_options_that_cannot_be_hashed(name, wrong):
    with pytest.raises(moeref.InvalidError, match=f"{name} is "):
        moeref.torch.experts(*draw(), **{"act": "swiglu_clamp", name: wrong})


def test_a_limit_that_changes_or_waits_for_a_gradient():
    arguments, limit = draw(), torch.tensor(7.0)
    clamp = functools.partial(experts, *arguments, act="swiglu_clamp")
    before = clamp(limit=limit)
    limit.fill_(0.1)
    assert torch.equal(clamp(limit=limit), clamp(limit=0.1)) and not torch.equal(
        before, clamp(limit=0.1))
    with pytest.raises(moeref.InvalidError, match="limit is a number, not a tensor that waits"):
        clamp(limit=limit.requires_grad_())


class Converting:
    """Stands for an operator whose kernels want copies of w1 and w2, one behind the other."""

    def __init__(self, order):
        self.order, self.w, self.runs = order, (), 0

    def converted_bytes(self, _step):
        return 4 * sum(t.numel() for t in self.w)

    def run(self, _what, _step):
        self.runs += 1


def test_converted_weights_are_told_apart():
    """Others at the same address, or the same in another order, are converted anew."""
    w1, w2, one, other = torch.zeros(5), torch.zeros(6), Converting("one"), Converting("other")

    def converted(op, *w):
        op.w, before = w, op.runs
        moeref._experts._convert(op, [0] * 8, *w)
        return op.runs > before

    assert converted(one, w1, w2) and not converted(one, w1, w2)
    assert converted(one, w1, w2[:]) is False  # a view of the same
    w2.add_(1)
    assert converted(one, w1, w2) and converted(other, w1, w2) and not converted(other, w1, w2)
    memory = torch.zeros(6)
    assert converted(other, w1, torch.from_numpy(memory.numpy()))
    assert converted(other, w1, torch.from_numpy(memory.numpy()))
    moeref.torch.weights_changed(w1)
    assert converted(other, w1, memory)
    with pytest.raises(moeref.InvalidError, match="not int"):
        moeref.torch.weights_changed(3)
