"""What is easily done wrong: one sentence of moeref's own says it, and no traceback from inside."""
import pathlib
import subprocess
import sys

import pytest

import moeref

np = pytest.importorskip("numpy")
LINE = "T=8 d=8 n=8 E=3 K=2 dtype=fp32 seed=1"
LAYER = "T=64 d=128 n=128 E=4 K=2"


def refuses(kind, sentence, work):
    with pytest.raises(kind, match=sentence) as caught:
        work()
    assert len(str(caught.value).splitlines()) == 1


def first(X):
    return X


def in_numpy(subject, **how):
    return moeref.check(subject, moeref.case(LINE, framework="numpy"), **how)


def test_paths():
    report = moeref.check("reference", LINE)
    refuses(moeref.InvalidError, "path is a path, not int", lambda: report.html(3))
    refuses(moeref.InvalidError, "dump is a path, not NoneType",
            lambda: in_numpy(first, dump=None))


def test_a_path_is_a_folder_to_dump_in(tmp_path):
    assert not in_numpy(first, dump=pathlib.Path(tmp_path))
    assert list(tmp_path.iterdir())


def test_tensors_that_are_not_there():
    case = moeref.case(LINE, framework="numpy")
    for tensors in (case.inputs, case.expected):
        refuses(moeref.NotFoundError, "there is no 'x', but ", lambda t=tensors: t["x"])
        with pytest.raises(KeyError):  # as of any mapping
            tensors["x"]
        assert "x" not in tensors and tensors.get("x") is None


@pytest.mark.parametrize("device", [0, "", "cuda", 1.5])
def test_a_device_of_numpy(device):
    refuses(moeref.InvalidError, "device= are for torch", lambda: in_numpy(first, device=device))


def test_predictions_of_what_nothing_reads():
    refuses(moeref.UnsupportedError, "of one GPU: leave ep= out",
            lambda: moeref.predict(LAYER + " ep=2"))
    refuses(moeref.InvalidError, "a product is cuBLAS's, not momoe's",
            lambda: moeref.predict("gemm m=8 n=8 k=8", method="momoe"))
    assert moeref.predict("gemm m=8 n=8 k=8", method="cublas").total_us > 0


def without(modules, work):
    """What a fresh Python says where these modules cannot be imported."""
    hide = "; ".join(f"sys.modules[{name!r}] = None" for name in modules)
    program = f"import sys; {hide}\ntry:\n    {work}\nexcept Exception as e:\n    print(repr(e))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                         check=True)
    return run.stdout


@pytest.mark.parametrize("modules, work, said", [
    (["torch"], "import moeref.torch", "moeref.torch needs torch"),
    (["torch"], "import moeref.transformers", "moeref.transformers needs torch"),
    (["numpy"], "import moeref; moeref.case('T=8 d=8 n=8 E=2 K=1').inputs['X']",
     "NumPy is not installed"),
    (["torch"], f"import moeref; print(moeref.check('reference', {LINE!r}).passed)", "True"),
    (["torch"], f"import moeref; moeref.case({LINE!r}, framework='torch').inputs['X']",
     "torch is not installed"),
])
def test_what_is_not_installed(modules, work, said):
    assert said in without(modules, work)


def test_no_transformers():
    pytest.importorskip("torch")
    said = without(["transformers"], "import moeref.transformers as t; t.register()")
    assert "needs Transformers 5.0 or later" in said


@pytest.mark.parametrize("name", [3, None, "", ["moeref"], object()])
def test_names_to_register(name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    import moeref.transformers
    refuses(moeref.InvalidError, "is a name for experts_implementation=",
            lambda: moeref.transformers.register(name))


@pytest.mark.parametrize("name", ["eager", "grouped_mm"])
def test_names_of_others(name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    import moeref.transformers
    refuses(moeref.InvalidError, "of Transformers' own", lambda: moeref.transformers.register(name))
    moeref.transformers.register()
    moeref.transformers.register()  # twice does no harm


def test_a_module_that_has_no_experts():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    import moeref.transformers
    x, index, weights = torch.zeros(4, 8), torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1)
    refuses(moeref.UnsupportedError, "Linear is no experts module of Transformers",
            lambda: moeref.transformers.experts_forward(torch.nn.Linear(8, 8), x, index, weights))


def test_torch_and_numpy_in_each_other_s_place():
    torch = pytest.importorskip("torch")
    refuses(moeref.InvalidError, 'give it torch\'s, case=.*framework="torch"',
            lambda: in_numpy(lambda X: torch.relu(X)))
    refuses(moeref.InvalidError, 'give it NumPy\'s, case=.*framework="numpy"',
            lambda: moeref.check(lambda X: np.exp(X), moeref.case(LINE, framework="torch")))


def test_devices_without_memory():
    pytest.importorskip("torch")
    case = moeref.case(LINE, framework="torch")
    refuses(moeref.InvalidError, "has no memory", lambda: moeref.check(first, case, device="meta"))
    refuses(moeref.InvalidError, "O has a shape and no values",
            lambda: moeref.check(lambda X: X.to("meta"), case))


def test_tensors_that_the_operator_cannot_take():
    torch = pytest.importorskip("torch")
    import moeref.torch
    x, index = torch.zeros(4, 8), torch.zeros(4, 1, dtype=torch.int64)
    weights, w1, w2 = torch.ones(4, 1), torch.zeros(3, 16, 8), torch.zeros(3, 8, 8)
    nested = torch.nested.nested_tensor([x, x])
    backend = "openblas" if "openblas" in moeref.backends() else "reference"

    def experts(*tensors):
        return moeref.torch.experts(*tensors, backend=backend)

    for _ in range(2):  # with calls of the same kind before, too
        refuses(moeref.InvalidError, "b1 and b2 go together",
                lambda: experts(x, index, weights, w1, w2, torch.zeros(3, 16)))
        refuses(moeref.InvalidError, "b1 and b2 go together",
                lambda: experts(x, index, weights, w1, w2, None, torch.zeros(3, 8)))
        refuses(moeref.InvalidError, "x is no dense tensor: it is nested",
                lambda: experts(nested, index, weights, w1, w2))
        refuses(moeref.InvalidError, "w1 is no dense tensor: it is nested",
                lambda: experts(x, index, weights, nested, w2))
        assert not experts(x, index, weights, w1, w2).any()
        assert not experts(x, index, weights, w1, w2, torch.zeros(3, 16), torch.zeros(3, 8)).any()
