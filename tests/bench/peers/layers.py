"""Other people's layers, each with the problem's own weights in the layout that it wants."""
import torch
import torch.nn.functional as F

from measure import settled_us


class TorchLayer:
    """A function of leaves x, weight, w1 and w2 that autograd can differentiate."""

    def __init__(self, p, x, weight, w1, w2, compute, gate_first=lambda dw1: dw1):
        self.device, self.do, self.compute = p.device, p.do, compute
        self.leaves = {"dX": x, "dS": weight, "dW1": w1, "dW2": w2}
        self.gate_first = gate_first  # one expert's dW1 with gate rows first
        self.out = None

    def forward(self):
        self.out = None
        self.out = self.compute()

    def backward(self):
        for leaf in self.leaves.values():
            leaf.grad = None
        self.out.backward(self.do)

    def output(self, name):
        return self.out.detach() if name == "O" else self.leaves[name].grad


def leaf(t):
    return t.detach().requires_grad_()


def swiglu(h, n):
    return F.silu(h[:, :n]) * h[:, n:]


def weighted_sum(y, inverse, weight):
    by_token = y[inverse].view(weight.shape[0], weight.shape[1], -1)
    return (by_token * weight[:, :, None]).sum(1).to(y.dtype)


def grouped_mm(p):
    """torch.nn.functional.grouped_mm with an index gather, SwiGLU and a weighted sum, compiled."""
    x, w1, w2, weight = leaf(p.x), leaf(p.w1), leaf(p.w2), leaf(p.weight.to(p.dtype))
    act, combine = swiglu, weighted_sum
    if p.device != "cpu":
        act = torch.compile(swiglu, dynamic=True)
        combine = torch.compile(weighted_sum, dynamic=True)

    def compute():
        h = F.grouped_mm(x[p.token], w1.mT, offs=p.offs)
        return combine(F.grouped_mm(act(h, p.n), w2.mT, offs=p.offs), p.inverse, weight)

    return TorchLayer(p, x, weight, w1, w2, compute)


def loop(p):
    """A plain loop over experts: slow, obvious, and the only one here that needs no GPU and no
    package."""
    x, w1, w2, weight = leaf(p.x), leaf(p.w1), leaf(p.w2), leaf(p.weight.to(p.dtype))
    rows = [p.rows(e) for e in range(p.E)]

    def compute():
        out = torch.zeros_like(p.x)
        for e, (token, place) in enumerate(rows):
            y = swiglu(x[token] @ w1[e].T, p.n) @ w2[e].T
            out = out.index_add(0, token, weight[token, place, None] * y)
        return out

    return TorchLayer(p, x, weight, w1, w2, compute)


def moeref(p):
    """This project's operator in torch, which sorts the choices itself in each forward."""
    import moeref.torch
    x, w1, w2, weight = leaf(p.x), leaf(p.w1), leaf(p.w2), leaf(p.weight)
    choice = p.choice.contiguous()
    return TorchLayer(p, x, weight, w1, w2,
                      lambda: moeref.torch.experts(x, choice, weight, w1, w2))


def scattermoe(p):
    """github.com/shawntan/scattermoe. Its W1 has the up rows first; the sort of the pairs is inside
    its time."""
    from scattermoe.mlp import GLUMLP

    def swap(w1):
        return torch.cat((w1[..., p.n:, :], w1[..., :p.n, :]), dim=-2)

    with torch.device("meta"):
        layer = GLUMLP(p.d, p.n, p.E, p.K)
    layer.experts.weight = torch.nn.Parameter(swap(p.w1))
    layer.output_experts.weight = torch.nn.Parameter(p.w2)
    x, weight = leaf(p.x), leaf(p.weight.to(p.dtype))
    return TorchLayer(p, x, weight, layer.experts.weight, layer.output_experts.weight,
                      lambda: layer(x, weight, p.choice), swap)


def sonicmoe(p):
    """sonic-moe's two autograd functions as its own moe_TC_softmax_topk_layer calls them after the
    router, with the routing given: its metadata is made before the clock starts, as ours is. Its W1
    alternates gate and up rows."""
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import _DownProjection, _UpProjection
    from sonicmoe.functional.triton_kernels import TC_topk_router_metadata_triton
    count, offsets, gather, scatter, reverse = (
        torch.empty(size, dtype=torch.int32, device=p.device)
        for size in (p.E, p.E + 1, p.P, p.P, p.P))
    TC_topk_router_metadata_triton(p.choice.int(), p.E, count, offsets, gather, scatter, reverse)
    x, weight, w2 = leaf(p.x), leaf(p.weight), leaf(p.w2)
    w1 = leaf(p.w1.view(p.E, 2, p.n, p.d).transpose(1, 2).reshape(p.E, 2 * p.n, p.d))
    act = ActivationType.SWIGLU

    def compute():
        a, h = _UpProjection.apply(x, w1.permute(1, 2, 0), None, offsets, p.P, p.K, gather, scatter,
                                   reverse, None, False, act, False, False)
        return _DownProjection.apply(a, h, w2.permute(1, 2, 0), None, weight, offsets, p.T, p.K,
                                     gather, scatter, reverse, None, False, act)

    return TorchLayer(p, x, weight, w1, w2, compute,
                      lambda dw1: dw1.view(p.n, 2, p.d).transpose(0, 1).reshape(2 * p.n, p.d))


LAYERS = {"grouped_mm": grouped_mm, "loop": loop, "moeref": moeref, "scattermoe": scattermoe,
          "sonicmoe": sonicmoe}
PACKAGES = ("moeref", "scattermoe", "sonicmoe")  # layers that are modules of the same name


def time_bmm(p, seconds):
    """One dense batched GEMM per product with P/E rows an expert: a bound, no layer."""
    rows = p.P // p.E

    def some(width):
        return torch.randn(p.E, rows, width, device=p.device, dtype=p.dtype)

    x, a, h, up, down = some(p.d), some(p.n), some(2 * p.n), p.w1, p.w2
    products = {"up": (x, up.mT), "down": (a, down.mT), "da": (x, down), "dw2": (x.mT, a),
                "dx": (h, up), "dw1": (h.mT, x)}
    us = {}
    for name, (left, right) in products.items():
        out = torch.bmm(left, right)
        us[name] = settled_us(lambda: torch.bmm(left, right, out=out), seconds / 3, p.device)
    return {"kernels_us": us, "fwd_us": us["up"] + us["down"],
            "bwd_us": us["da"] + us["dw2"] + us["dx"] + us["dw1"]}
