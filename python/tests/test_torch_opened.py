"""Operators of many shapes: the most recent stay open, others are closed, none under a user."""
import gc
import random
import threading

import pytest

torch = pytest.importorskip("torch")

import moeref  # noqa: E402
import moeref.torch  # noqa: E402
from moeref import _experts, _opened  # noqa: E402

BACKEND = "openblas" if "openblas" in moeref.backends() else "reference"
E, K, T, N = 3, 2, 5, 4


def drawn(d, seed=0):
    g = torch.Generator().manual_seed(100 * d + seed)
    index = torch.stack([torch.randperm(E, generator=g)[:K] for _ in range(T)])
    shapes = ((T, d), None, (T, K), (E, 2 * N, d), (E, d, N))
    return [index if s is None else torch.randn(*s, generator=g).requires_grad_() for s in shapes]


def plain(x, index, weights, w1, w2):
    out = torch.zeros_like(x)
    for e in range(E):
        token, slot = torch.where(index == e)
        g, u = (x[token] @ w1[e].T).chunk(2, -1)
        y = (torch.nn.functional.silu(g) * u) @ w2[e].T
        out = out.index_add(0, token, y * weights[token, slot, None])
    return out


def experts(arguments):
    return moeref.torch.experts(*arguments, backend=BACKEND)


def gradients(out, arguments):
    return torch.autograd.grad(out.sum(), [t for t in arguments if t.requires_grad])


def agree(got, want):
    for a, b in zip(got, want):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.fixture
def closed(monkeypatch):
    """Which were closed, by the number of their opening: addresses come again. Four operators stay
    open at most."""
    seen, numbers, operators = [], {}, _experts.operators
    close, make = _opened._close, operators._make

    def opened(*key):
        op = make(*key)
        assert op.pointer.value not in numbers  # or it is open twice
        op.number = numbers[op.pointer.value] = len(seen) + len(numbers)
        return op

    def note(pointer):
        seen.append(numbers.pop(pointer.value))  # KeyError: it was not open
        close(pointer)

    operators._recent.clear()
    moeref.torch._calls.clear()
    gc.collect()
    _opened.close_dropped()
    monkeypatch.setattr(_opened, "_close", note)
    monkeypatch.setattr(operators, "_make", opened)
    monkeypatch.setattr(operators, "most", 4)
    yield seen
    operators._recent.clear()
    moeref.torch._calls.clear()
    gc.collect()
    _opened.close_dropped()
    assert not numbers or _opened._captured, "some are never closed"


def use(widths):
    for d in widths:
        with torch.no_grad():
            experts(drawn(d))


def open_now():
    return {op.number for op in _experts.operators._recent.values()}


def number_of(d):
    found = [op.number for key, op in _experts.operators._recent.items() if f" d={d} " in key[1]]
    assert len(found) == 1
    return found[0]


def test_the_most_recent_stay_open(closed):
    use([8])
    hot = number_of(8)
    for d in range(9, 30):
        use([d, 8])  # the second by the way of calls that were checked before
    assert number_of(8) == hot and hot not in closed
    assert len(closed) == 17 and len(open_now()) == 4 and not open_now() & set(closed)
    assert sum(map(len, moeref.torch._calls.values())) <= 4


def test_a_backward_after_eviction(closed):
    arguments = drawn(8)
    out = experts(arguments)
    held = number_of(8)
    use(range(20, 40))
    assert held not in open_now() and held not in closed
    agree(gradients(out, arguments), gradients(plain(*arguments), arguments))
    del out
    gc.collect()
    use([41])
    assert held in closed


def test_one_that_is_held_is_used_again(closed):
    out = experts(drawn(8))
    held = number_of(8)
    use(range(20, 30))
    assert held not in open_now()
    again = experts(drawn(8, seed=1))
    assert number_of(8) == held and held not in closed
    del out, again


def test_a_recorded_backward_opens_it_again(closed):
    arguments = drawn(8)
    want = gradients(plain(*arguments), arguments)
    out, _ = torch.ops.moeref.experts(*arguments, None, None,
                                      f"{BACKEND}|act=swiglu on=output glu=concat", False, True)
    before = number_of(8)
    use(range(20, 40))
    assert before in closed
    agree(gradients(out, arguments), want)


def test_what_a_cuda_graph_was_captured_of_is_not_closed(closed, monkeypatch):
    use([8])
    op = next(op for key, op in _experts.operators._recent.items() if " d=8 " in key[1])
    captured = op.number
    monkeypatch.setattr(_opened, "_captured", [])
    monkeypatch.setattr(_opened, "_capturing", lambda: True)
    op.note_stream(0)
    assert not _opened._captured  # the default stream is never captured
    op.note_stream(7)
    op.note_stream(7)
    assert _opened._captured == [op]
    del op
    use(range(20, 40))
    assert not closed  # a graph records what this thread does
    monkeypatch.setattr(_opened, "_capturing", lambda: False)
    use(range(40, 50))
    assert len(closed) >= 20 and captured not in closed and captured not in open_now()


def test_an_operator_that_cannot_be_opened_is_not_kept(closed):
    wrong = drawn(8)
    for _ in range(2):
        with pytest.raises(moeref.NotFoundError):
            moeref.torch.experts(*wrong, backend="nosuch")
    use(range(20, 40))
    assert len(open_now()) == 4


def test_threads(closed):
    """More shapes than may stay open, in all threads at once, with backward passes in between."""
    widths = list(range(8, 20))
    given = {d: drawn(d) for d in widths}
    want = {d: gradients(plain(*given[d]), given[d]) for d in widths}
    wrong = []

    def work(seed):
        chance, waiting = random.Random(seed), []
        try:
            for _ in range(60):
                d = chance.choice(widths)
                waiting.append((d, experts(given[d])))
                if len(waiting) > 3:
                    d, out = waiting.pop(chance.randrange(len(waiting)))
                    agree(gradients(out, given[d]), want[d])
            for d, out in waiting:
                agree(gradients(out, given[d]), want[d])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[0]
    gc.collect()
    use([30])
    assert len(closed) > 20 and len(set(open_now())) <= 4


def test_numbers_that_an_activation_does_not_read(closed, monkeypatch):
    monkeypatch.setattr(moeref.torch, "_MOST_KEYS", 8)
    arguments = [t.detach() for t in drawn(8)]
    for i in range(40):
        moeref.torch.experts(*arguments, backend=BACKEND, limit=float(i + 1))
    assert len(moeref.torch._calls) <= 8
