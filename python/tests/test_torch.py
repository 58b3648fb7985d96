"""The torch operator, and modules and functions of torch under the judge."""
import functools

import pytest

torch = pytest.importorskip("torch")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402
from moeref.testing import assert_close_moe  # noqa: E402

F = torch.nn.functional
BACKEND = "openblas" if "openblas" in moeref.backends() else "reference"
LINE = "T=64 d=48 n=32 E=6 K=2 dtype=fp32 seed=5"


def experts(*arguments, **how):
    return moeref.torch.experts(*arguments, backend=BACKEND, **how)


def gated(act, g, u, alpha, limit):
    if act == "swiglu_clamp":
        g, u = g.clamp(max=limit), u.clamp(-limit, limit)
        return g * torch.sigmoid(alpha * g) * (u + 1)
    if act == "swiglu_limit":
        return F.silu(g.clamp(max=limit)) * u.clamp(-limit, limit)
    if act == "swiglu_limit_after":
        return F.silu(g).clamp(max=limit) * u.clamp(-limit, limit)
    if act == "swiglu_softcap":
        return alpha * torch.tanh(g / alpha) * torch.sigmoid(g) * limit * torch.tanh(u / limit)
    by_tanh = functools.partial(F.gelu, approximate="tanh")
    return {"swiglu": F.silu, "geglu": F.gelu, "reglu": F.relu, "geglu_tanh": by_tanh}[act](g) * u


def plain(x, index, weights, w1, w2, b1=None, b2=None, act="swiglu", layout="concat",
          transposed=False, alpha=1.702, limit=7.0):
    """The same in float64 and in the simplest words."""
    numbers = alpha, limit
    x, weights, w1, w2 = (t.double() for t in (x, weights, w1, w2))
    if transposed:
        w1, w2 = w1.mT, w2.mT
    out = torch.zeros_like(x)
    for e in range(w1.shape[0]):
        token, slot = torch.where(index == e)
        h = x[token] @ w1[e].T + (0 if b1 is None else b1[e].double())
        if act in moeref.torch.GATED:
            g, u = h.chunk(2, -1) if layout == "concat" else (h[:, ::2], h[:, 1::2])
            a = gated(act, g, u, *numbers)
        else:
            a = {"relu2": lambda z: F.relu(z) ** 2, "relu": F.relu, "gelu": F.gelu,
                 "silu": F.silu}[act](h)
        y = a @ w2[e].T + (0 if b2 is None else b2[e].double())
        out = out.index_add(0, token, y * weights[token, slot, None])
    return out


def draw(T=37, d=24, n=16, E=5, K=2, act="swiglu", transposed=False, bias=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    h = 2 * n if act in moeref.torch.GATED else n

    def some(*shape, scale=1.0):
        return (torch.randn(*shape, generator=g) * scale).requires_grad_()

    index = torch.stack([torch.randperm(E, generator=g)[:K] for _ in range(T)])
    w1, w2 = some(E, h, d, scale=d ** -0.5), some(E, d, n, scale=n ** -0.5)
    if transposed:
        w1, w2 = (t.detach().mT.contiguous().requires_grad_() for t in (w1, w2))
    weights = torch.rand(T, K, generator=g).requires_grad_()
    more = [some(E, h, scale=0.1), some(E, d, scale=0.1)] if bias else []
    return [some(T, d), index, weights, w1, w2] + more


def close(got, want):
    got, want = got.double(), want.double()
    assert ((got - want).norm() <= 3e-6 * want.norm() + 1e-30), (got - want).norm() / want.norm()


def same_as_plain(arguments, **how):
    d_out = torch.randn(arguments[0].shape, generator=torch.Generator().manual_seed(9))
    leaves = [a for a in arguments if a.requires_grad]
    mine, want = experts(*arguments, **how), plain(*arguments, **how)
    close(mine, want)
    for a, b in zip(torch.autograd.grad(mine, leaves, d_out),
                    torch.autograd.grad(want, leaves, d_out.double())):
        close(a, b)


@pytest.mark.parametrize("act", moeref.torch.ACTIVATIONS)
def test_activations(act):
    same_as_plain(draw(act=act), act=act)
    same_as_plain(draw(act=act), act=act, alpha=1.3, limit=0.9)  # which much of it reaches


@pytest.mark.parametrize("layout", ["concat", "interleaved"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_layouts(layout, transposed, bias):
    same_as_plain(draw(transposed=transposed, bias=bias), layout=layout, transposed=transposed)


def test_empty_slots_and_any_number_of_tokens():
    for T in (1, 2, 129, 37):
        arguments = draw(T=T, seed=T)
        index = arguments[1]
        index[torch.rand(index.shape) < 0.3] = -1
        index[0] = 5  # a sentinel: there are experts 0 .. 4
        same_as_plain(arguments)
    empty = draw(T=1)
    empty[0], empty[1], empty[2] = empty[0][:0], empty[1][:0], empty[2][:0]
    assert experts(*empty).shape == (0, 24)


def test_forward_alone_keeps_nothing():
    arguments = draw()
    with torch.no_grad():
        out = experts(*arguments)
        close(out, plain(*arguments))
    assert not out.requires_grad


def test_opcheck():
    arguments = draw(T=8) + [None, None, f"{BACKEND}|act=swiglu on=output glu=concat", False, True]
    torch.library.opcheck(torch.ops.moeref.experts, tuple(arguments))


def test_the_operator_by_itself_checks_its_tensors():
    config = f"{BACKEND}|act=swiglu on=output glu=concat"
    x, index, weights, w1, w2 = (t.detach() for t in draw(T=8))

    def run(*tensors, config=config):
        return torch.ops.moeref.experts(*tensors, None, None, config, False, True)

    out, cached = run(x, index, weights, w1, w2)
    assert torch.equal(run(x.T.contiguous().T, index, weights, w1, w2)[0], out)
    with pytest.raises(moeref.InvalidError, match="w1 has shape"):
        run(x, index, weights, w1[:, :2], w2)
    with pytest.raises(moeref.InvalidError, match="BACKEND.WORDS"):
        run(x, index, weights, w1, w2, config="openblas")
    backward = torch.ops.moeref.experts_backward
    with pytest.raises(moeref.InvalidError, match="d_out is"):
        backward(out[:4], x, index, weights, w1, w2, None, None, cached, config, False)
    with pytest.raises(moeref.InvalidError, match="w2 has shape"):
        backward(out, x, index, weights, w1, w2[:, :2], None, None, cached, config, False)
    with pytest.raises(moeref.Error):
        backward(out, x, index, weights, w1, w2, None, None, cached[:1], config, False)


def test_tangents_are_refused():
    x, index, weights, w1, w2 = (t.detach() for t in draw(T=8))
    with pytest.raises(moeref.UnsupportedError, match="forward-mode"):
        torch.func.jvp(lambda t: experts(t, index, weights, w1, w2), (x,), (x,))


def test_compiled_without_graph_breaks():
    def step(*arguments):
        return (experts(*arguments) * 2).sin()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (8, 21, 40):
        mine, eager = draw(T=T, seed=T), draw(T=T, seed=T)
        one, other = compiled(*mine), step(*eager)
        assert torch.equal(one, other)
        one.sum().backward()
        other.sum().backward()
        for a, b in zip(mine, eager):
            assert not a.requires_grad or torch.equal(a.grad, b.grad)


def test_who_looks_on_sees_the_operator():
    from torch.utils._python_dispatch import TorchDispatchMode
    seen = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    arguments = draw()
    plain_out = experts(*arguments)
    with Record():
        out = experts(*arguments)
    assert "moeref.experts.default" in seen and torch.equal(out, plain_out)


def test_frozen_weights_and_gradients_added_elsewhere():
    arguments = draw()
    want = torch.autograd.grad(experts(*arguments).sum(), arguments[3:5])
    mains = [torch.ones_like(t) for t in arguments[3:5]]
    for _ in range(2):
        experts(*arguments, add_to=mains).sum().backward()
    assert arguments[3].grad is None and arguments[0].grad is not None
    for main, dw in zip(mains, want):
        close(main - 1, 2 * dw)
    frozen = [a.detach().requires_grad_(i in (0, 4) or not a.is_floating_point())
              if a.is_floating_point() else a for i, a in enumerate(arguments)]
    experts(*frozen).sum().backward()
    assert frozen[3].grad is None and torch.equal(frozen[4].grad, want[1])


@pytest.mark.parametrize("add_to, sentence", [
    ([torch.zeros(1)], "1 buffers for 2"), ([torch.zeros(5, 32, 24), 3], "no tensor of shape"),
    ([torch.zeros(5, 32, 24).double(), torch.zeros(5, 24, 16).double()], "float64"),
    ([torch.zeros(5, 24, 32).mT, torch.zeros(5, 24, 16)], "not contiguous")])
def test_bad_add_to(add_to, sentence):
    with pytest.raises(moeref.InvalidError, match=sentence):
        experts(*draw(), add_to=add_to)


def test_the_reference_in_float64():
    """A backend that keeps nothing for its backward pass, under torch's own finite differences."""
    x, index, *others = draw(T=3, d=6, n=4, E=4)
    leaves = [t.detach().double().requires_grad_() for t in (x, *others)]

    def layer(x, *others):
        return moeref.torch.experts(x, index, *others, backend="reference")

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.autograd.gradcheck(layer, leaves)
    for a, b in zip(torch.autograd.grad(layer(*leaves).sum(), leaves),
                    torch.autograd.grad(compiled(*leaves).sum(), leaves)):
        assert torch.equal(a, b)


def test_no_second_derivative():
    arguments = draw(T=4)
    first = torch.autograd.grad(experts(*arguments).square().sum(), arguments[0],
                                create_graph=True)[0]
    with pytest.raises(moeref.UnsupportedError, match="second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("change, sentence", [
    ({0: torch.zeros(37, 25)}, "w1 has shape"), ({1: torch.zeros(37, 2)}, "int32 or int64"),
    ({2: torch.zeros(37, 3)}, "top_k_weights has shape"),
    ({1: torch.full((37, 6), -1)}, "top_k_index has 6 columns for 5 experts"),
    ({2: torch.zeros(37, 2).half()}, "is torch.float16, not torch.float32$"),
    ({3: torch.zeros(3, 3)}, "three dim"),
    ({4: torch.zeros(5, 24, 16).double()}, "w2 is torch.float64"),
    ({0: torch.zeros(37, 24).to_sparse()}, "x is no dense tensor: its layout is torch.sparse_coo"),
    ({0: None}, "torch.Tensor")])
def test_bad_arguments(change, sentence):
    arguments = draw()
    for at, value in change.items():
        arguments[at] = value
    with pytest.raises((moeref.InvalidError, AttributeError), match=sentence):
        experts(*arguments)
    with pytest.raises(moeref.InvalidError, match="act is one of"):
        experts(*draw(), act="banana")
    with pytest.raises(moeref.InvalidError, match="limit is a number, not 'wide'"):
        experts(*draw(), act="swiglu_clamp", limit="wide")
    with pytest.raises(moeref.NotFoundError, match="nonesuch"):
        moeref.torch.experts(*draw(), backend="nonesuch")
    for no_name in (3, "openblas|act=relu"):
        with pytest.raises(moeref.InvalidError, match="backend is a name of moeref.backends"):
            moeref.torch.experts(*draw(), backend=no_name)


def test_an_expert_twice():
    arguments = draw()
    arguments[1][3] = 2
    with pytest.raises(moeref.InvalidError):
        experts(*arguments)


def layer(X, W_r, W1, W2):
    weights, index = torch.softmax(X @ W_r.T, -1).topk(2, -1)
    return plain(X, index, weights, W1, W2).to(X.dtype)


def test_the_judge_takes_functions():
    for subject in (layer, torch.compile(layer, backend="eager")):
        report = assert_close_moe(subject, LINE)
        assert {"O", "dX", "dW_r", "dW1", "dW2"} <= {
            name for name, t in report.tensors.items() if t["verdict"] == "pass"}


def test_a_function_of_numpy_is_told_how_it_gets_arrays():
    def numpy_layer(X):
        return X.numpy()

    with pytest.raises(moeref.InvalidError, match='framework="numpy"'):
        moeref.check(numpy_layer, case=LINE)


def test_the_judge_takes_the_operator():
    def mine(X, topk_index, topk_weight, W1, W2):
        return experts(X, topk_index, topk_weight, W1, W2)

    report = assert_close_moe(mine, LINE + " route=zipf:1 drop=9")
    assert report.tensors["dS"]["verdict"] == "pass"


class Block(torch.nn.Module):
    def __init__(self, turned):
        super().__init__()
        self.turned = turned
        self.gate = torch.nn.Linear(48, 6, bias=False)
        shape = (6, 48, 64) if turned else (6, 64, 48)
        self.gate_up_proj = torch.nn.Parameter(torch.zeros(shape))
        self.down_proj = torch.nn.Parameter(torch.zeros(6, 48, 32))
        self.wrong = 1.0

    def forward(self, hidden_states):
        x = hidden_states.reshape(-1, 48)
        w1 = self.gate_up_proj.mT if self.turned else self.gate_up_proj
        return (self.wrong * layer(x, self.gate.weight, w1, self.down_proj)).view(
            hidden_states.shape)


@pytest.mark.parametrize("turned", [False, True])
def test_the_judge_takes_modules(turned):
    block = Block(turned)
    before = block.gate.weight.clone()
    for subject in (block, torch.compile(block, backend="eager")):
        report = assert_close_moe(subject, LINE, batched=True)
        assert report.tensors["dW1"]["verdict"] == "pass"
    assert torch.equal(block.gate.weight, before) and block.gate.weight.grad is None
    block.wrong = 0.5
    assert not moeref.check(block, case=LINE).passed
    with pytest.raises(moeref.InvalidError, match="no parameter for"):
        moeref.check(torch.nn.Linear(3, 3), case=LINE)
    with pytest.raises(moeref.InvalidError, match="no such parameter"):
        moeref.check(block, case=LINE, params={"gate.weight": "W_x"})


def test_bf16_and_memory_of_torch():
    case = moeref.case(LINE.replace("fp32", "bf16"), framework="torch")
    assert case.inputs["X"].dtype == torch.bfloat16
    assert case.inputs["X"].data_ptr() == case.inputs.raw("X").torch().data_ptr()

    def rounded(X, W_r, W1, W2):
        weights, index = torch.softmax(X.float() @ W_r.float().T, -1).topk(2, -1)
        return plain(X, index, weights, W1, W2).bfloat16()

    assert_close_moe(rounded, case)


def test_tensors_without_values_and_devices_that_are_not_there():
    from torch._subclasses import FakeTensorMode
    with FakeTensorMode():
        fake = torch.zeros(64, 48)
    for empty in (fake, torch.zeros(64, 48, device="meta")):
        with pytest.raises(moeref.InvalidError, match="O has a shape and no values"):
            moeref.check({"O": empty}, case=LINE)
    for sparse in (torch.zeros(64, 48).to_sparse(), torch.zeros(64, 48).to_sparse_csr()):
        with pytest.raises(moeref.InvalidError, match="no dense tensor"):
            moeref.check({"O": sparse}, case=LINE)
    with pytest.raises(moeref.InvalidError, match="device='nonesuch'"):
        moeref.check(lambda X: X, case=LINE, device="nonesuch")


def test_what_wrote_into_its_input_fails():
    def inplace(X, W_r, W1, W2):
        out = layer(X, W_r, W1, W2)
        W2.data[0, 0, 0] = 3
        return out

    report = moeref.check(inplace, case=LINE)
    assert report.why == "W2: the callable wrote into this input"
    assert moeref.check(layer, case=LINE + " inject=nan@3").tensors["O"]["verdict"] == "pass"


def test_a_module_of_which_two_parameters_could_be_one():
    class Two(Block):
        def __init__(self):
            super().__init__(False)
            self.other = torch.nn.Module()
            self.other.down_proj = torch.nn.Parameter(torch.zeros(6, 48, 32))

    with pytest.raises(moeref.InvalidError, match="down_proj and other.down_proj could each be W2"):
        moeref.check(Two(), case=LINE)
    names = {"gate.weight": "W_r", "gate_up_proj": "W1", "down_proj": "W2"}
    assert_close_moe(Two(), LINE, batched=True, params=names)
    compiled = moeref.check(torch.compile(Block(False), backend="eager"), case=LINE, batched=True)
    assert str(compiled).startswith("pass       Block T=64")
