"""Callables and modules of torch that misbehave under the judge."""
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402

LINE = "T=16 d=12 n=8 E=4 K=2 dtype=fp32 seed=5"


def layer(X, W_r, W1, W2):
    weights, index = torch.softmax(X @ W_r.T, -1).topk(2, -1)
    out = torch.zeros_like(X)
    for e in range(4):
        token, slot = torch.where(index == e)
        g, u = (X[token] @ W1[e].T).chunk(2, -1)
        y = torch.nn.functional.silu(g) * u @ W2[e].T
        out = out.index_add(0, token, y * weights[token, slot, None])
    return out


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Linear(12, 4, bias=False)
        self.gate_up_proj = torch.nn.Parameter(torch.zeros(4, 16, 12))
        self.down_proj = torch.nn.Parameter(torch.zeros(4, 12, 8))

    def forward(self, x):
        return layer(x, self.gate.weight, self.gate_up_proj, self.down_proj), "more"


KEPT_TO_THE_END = """
import torch, moeref
case = moeref.case("T=16 d=12 n=8 E=4 K=2", framework="torch")
kept = [case.inputs["X"], case.expected["O"], torch.from_dlpack(case.inputs.raw("W1"))]
kept.append(kept)
torch.kept = kept
"""


def test_tensors_that_outlive_the_interpreter():
    done = subprocess.run([sys.executable, "-c", KEPT_TO_THE_END], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_tensors_that_outlive_their_case():
    case = moeref.case(LINE, framework="torch")
    kept, want = torch.from_dlpack(case.inputs.raw("X")), case.inputs["X"].clone()
    del case
    others = [moeref.case(LINE, framework="torch").inputs["X"] for _ in range(3)]
    assert torch.equal(kept, want) and all(torch.equal(x, want) for x in others)


@pytest.mark.parametrize("change, told", [
    (lambda o: o[:5], r"\[5, 12\]"), (lambda o: o.T, r"\[12, 16\]"), (lambda o: o.sum(), r"\[\]"),
    (lambda o: o.flatten(), r"\[192\]")])
def test_an_output_of_another_shape_fails(change, told):
    report = moeref.check(lambda X, W_r, W1, W2: change(layer(X, W_r, W1, W2)), case=LINE)
    assert not report.passed
    with pytest.raises(AssertionError, match=f"O: has shape {told}, the case needs"):
        raise AssertionError(report.why)


def test_parameters_come_back_and_leave_nothing():
    """A backward pass that waits for them goes on; what was converted of the case is forgotten."""
    block, x = Block(), torch.randn(16, 12)
    waits = block(x)[0].sum()
    moeref.torch.weights_changed()
    moeref._experts._conversions[block.gate_up_proj] = moeref._experts._Conversion(
        None, [], torch.zeros(8, dtype=torch.uint8))
    assert moeref.check(block, case=LINE).passed
    assert moeref.torch.converted_bytes() == 0 and not block.down_proj.any()
    waits.backward()


def test_a_module_without_memory():
    with pytest.raises(moeref.InvalidError, match="gate_up_proj.* on the device meta"):
        moeref.check(Block().to("meta"), case=LINE)


@pytest.mark.parametrize("params", [3, ["down_proj"], {"down_proj": 3}, {"down_proj": ["W2"]}])
def test_params_of_wrong_types(params):
    with pytest.raises(moeref.InvalidError, match="params is a dict"):
        moeref.check(Block(), case=LINE, params=params)
