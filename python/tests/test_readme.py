"""The Python of the README, run as it stands there."""
import os
import re
import sys

import numpy as np
import pytest

import moeref

README = os.path.join(os.path.dirname(moeref.__file__), "share", "doc", "moeref", "README.md")
CALLS = {"moeref.check(", "load_file(", "moeref.torch.experts("}  # that tell the blocks apart


def blocks():
    """{its telling call: the block}; a block that none here stands for fails the tests."""
    with open(README, encoding="utf-8") as file:
        found = re.findall(r"^```python\n(.*?)^```$", file.read(), re.M | re.S)
    named = {next((call for call in CALLS if call in block), block): block for block in found}
    assert set(named) == CALLS and len(found) == len(CALLS)
    return named


def run(call, **names):
    exec(compile(blocks()[call], README, "exec"), names)  # noqa: S102 - the README is ours
    return names


def silu(z):
    return z / (1 + np.exp(-z))


def my_layer(X, W_r, W1, W2):
    """The layer of the README's case, K = 4, without a backward pass."""
    X, W_r, W1, W2 = (a.detach().float().numpy() if hasattr(a, "detach") else a
                      for a in (X, W_r, W1, W2))  # torch's where another test imported it
    X, W_r, W1, W2 = (np.asarray(a, np.float64) for a in (X, W_r, W1, W2))
    logits = X @ W_r.T
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    chosen = np.argsort(-scores, -1, kind="stable")[:, :4]
    weights = np.take_along_axis(scores, chosen, -1)
    weights /= weights.sum(-1, keepdims=True)
    out = np.zeros_like(X)
    for e in range(len(W1)):
        rows, slots = np.nonzero(chosen == e)
        gate, up = np.split(X[rows] @ W1[e].T, 2, axis=-1)
        out[rows] += weights[rows, slots, None] * (silu(gate) * up @ W2[e].T)
    return out.astype(np.float32)


def my_torch_layer(X, W_r, W1, W2):
    """The same in torch, which has the gradients too."""
    import torch
    wide = X.double()
    weights, chosen = torch.softmax(wide @ W_r.double().T, -1).topk(4, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    out = torch.zeros_like(wide)
    for e in range(len(W1)):
        rows, slots = torch.nonzero(chosen == e, as_tuple=True)
        gate, up = (wide[rows] @ W1[e].double().T).chunk(2, -1)
        y = (torch.nn.functional.silu(gate) * up) @ W2[e].double().T
        out = out.index_add(0, rows, weights[rows, slots, None] * y)
    return out.to(X.dtype)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_check_predict_case(framework, monkeypatch):
    if framework == "torch":
        pytest.importorskip("torch")
    else:  # inputs are torch's wherever it is imported
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    names = run("moeref.check(", my_layer=my_torch_layer if framework == "torch" else my_layer)
    assert names["report"].passed, str(names["report"])
    assert set(names["case"].inputs) >= {"X", "W1", "W2"} and "O" in names["case"].expected


def test_files(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    inputs = moeref.case("T=48 d=24 n=16 E=6 K=4 dtype=fp32 renorm=1", framework="torch").inputs
    files.save_file({k: v.contiguous() for k, v in inputs.items()}, "case.safetensors")

    def my_moe(t):
        import torch
        return {"O": torch.from_numpy(my_layer(*(t[k].numpy() for k in ("X", "W_r", "W1", "W2"))))}

    run("load_file(", my_moe=my_moe)
    assert files.load_file("mine.safetensors")["O"].shape == inputs["X"].shape


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Transformers 5 needs Python 3.10")
def test_torch_and_transformers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case = moeref.case("T=16 d=32 n=16 E=6 K=2 dtype=fp32 route=uniform", framework="torch")
    names = run("moeref.torch.experts(", w1=case.inputs["W1"], w2=case.inputs["W2"],
                x=case.inputs["X"], top_k_index=case.inputs["topk_index"],
                top_k_weights=case.inputs["topk_weight"])
    torch.testing.assert_close(names["O"].double(), case.expected["O"].double(), rtol=1e-4,
                               atol=1e-5)
