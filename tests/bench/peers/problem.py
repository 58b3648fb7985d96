"""The shapes, and the data that every candidate sees."""
import torch

SHAPES = {  # T, d, n, E, K; the first twelve are SonicMoE's (arXiv 2512.14080)
    "1.4b-n256": (40960, 768, 256, 128, 8), "1.4b-n512": (40960, 768, 512, 64, 4),
    "1.4b-n1024": (40960, 768, 1024, 32, 2), "7b-n256": (24576, 1536, 256, 128, 8),
    "7b-n512": (24576, 1536, 512, 64, 4), "7b-n1024": (24576, 1536, 1024, 32, 2),
    "30b-n256": (32768, 4096, 256, 256, 16), "30b-n512": (32768, 4096, 512, 128, 8),
    "30b-n1024": (32768, 4096, 1024, 64, 4), "120b-n512": (32768, 4096, 512, 256, 16),
    "120b-n1024": (32768, 4096, 1024, 128, 8), "120b-n2048": (32768, 4096, 2048, 64, 4),
    "olmoe": (32768, 2048, 1024, 64, 8), "qwen3-235b": (32768, 4096, 1536, 128, 8),
    "gpt-oss-20b": (32768, 2880, 2880, 32, 4), "qwen3-next": (32768, 2048, 512, 512, 10),
    "qwen3-30b": (32768, 2048, 768, 128, 8), "dsv3": (16384, 7168, 2048, 256, 8),
    "smoke": (512, 256, 128, 8, 2),  # seconds on a CPU
}
DEFAULT_SHAPES = [name for name in SHAPES if name not in ("smoke", "qwen3-30b")]


class Problem:
    """One layer: uniform routing, x and dO ~ N(0,1), W ~ N(0, 1/fan_in). W1 [E][2n][d] has gate
    rows first, W2 is [E][d][n]."""

    def __init__(self, shape, device, dtype):
        self.T, self.d, self.n, self.E, self.K = T, d, n, E, K = SHAPES[shape]
        self.P, self.device, self.dtype = T * K, device, dtype
        gen = torch.Generator(device).manual_seed(1)

        def normal(*sizes, scale=1.0):
            return torch.randn(*sizes, generator=gen, device=device, dtype=dtype).mul_(scale)

        self.x, self.do = normal(T, d), normal(T, d)
        self.w1, self.w2 = normal(E, 2 * n, d, scale=d ** -0.5), normal(E, d, n, scale=n ** -0.5)
        self.choice = torch.rand(T, E, generator=gen, device=device).topk(K, dim=1).indices
        weight = torch.rand(T, K, generator=gen, device=device).softmax(dim=1)
        # Some take it in `dtype`: now all see the same numbers.
        self.weight = weight.to(dtype).float()
        flat = self.choice.flatten()
        self.order = flat.argsort(stable=True)  # pairs by expert, then by token: the plan's order
        self.inverse = self.order.argsort()
        self.token = self.order // K
        self.load = flat.bincount(minlength=E)
        self.offs = self.load.cumsum(0).int()

    def rows(self, expert):
        """The pairs of an expert: token and place among the token's choices."""
        end = int(self.offs[expert])
        pairs = self.order[end - int(self.load[expert]):end]
        return pairs // self.K, pairs % self.K

    def tflops(self, us, factor):
        """Model FLOPs: 6 P d n forward, twice that backward."""
        return factor * 6.0 * self.P * self.d * self.n / us * 1e-6
