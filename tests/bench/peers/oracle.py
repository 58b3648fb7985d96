"""Is a candidate right? Its results beside float64, on a sample, before anyone times it.

O, dX and dS are computed for 64 tokens, dW1 and dW2 for three whole experts (the most loaded, the
least loaded that has tokens, a random one), from the very tensors that the candidates read. Weights
are upcast one expert at a time, so that a layer that fills the device can be judged on it.
"""
import torch

# Tensor NMSE, and NMSE of the worst token or expert: gates of correct kernels
# (src/check/compare/gates.c).
GATES = {torch.bfloat16: (6e-5, 1.5e-4), torch.float16: (1e-6, 2e-6), torch.float32: (1e-11, 1e-11)}
TOKENS = 64


class Wrong(Exception):
    pass


def nmse(out, ref, dim=None):
    """Σ(out−ref)²/Σref²; NaN where out has one."""
    out = out.to(ref.device, torch.float64)
    return ((out - ref) ** 2).sum(dim) / (ref ** 2).sum(dim)


class Oracle:
    def __init__(self, p, seed=2):
        self.p = p
        gen = torch.Generator().manual_seed(seed)
        self.tokens = torch.randperm(p.T, generator=gen)[:TOKENS].sort().values.to(p.device)
        self.experts = self.pick_experts(gen)
        self.rows = self.token_results()
        self.weights = {e: self.weight_gradients(e) for e in self.experts}

    def pick_experts(self, gen):
        load = self.p.load.cpu()
        busy = load.nonzero().flatten()
        by_load = busy[load[busy].argsort()]
        other = by_load[1:-1]
        if len(other):
            other = other[torch.randint(len(other), (1,), generator=gen)]
        picked = [by_load[-1:], by_load[:1], other]
        return list(dict.fromkeys(torch.cat(picked).tolist()))

    def expert(self, e, token, place):
        """Everything that one expert makes of some of its pairs, in float64."""
        p = self.p
        x, do = p.x[token].double(), p.do[token].double()
        s = p.weight[token, place].double()[:, None]
        w1, w2 = p.w1[e].double(), p.w2[e].double()
        gate, up = (x @ w1.T).chunk(2, dim=1)
        sigma = torch.sigmoid(gate)
        a = gate * sigma * up
        y = a @ w2.T
        da = s * (do @ w2)
        dh = torch.cat((da * up * sigma * (1 + gate * (1 - sigma)), da * gate * sigma), dim=1)
        return {"x": x, "a": a, "o": s * y, "ds": (do * y).sum(1), "dy": s * do, "dh": dh,
                "dx": dh @ w1}

    def token_results(self):
        p = self.p
        choice = p.choice[self.tokens]
        o = torch.zeros(len(self.tokens), p.d, device=p.device, dtype=torch.float64)
        dx = torch.zeros_like(o)
        ds = torch.zeros(choice.shape, device=p.device, dtype=torch.float64)
        for e in choice.unique().tolist():
            row, place = (choice == e).nonzero(as_tuple=True)
            r = self.expert(e, self.tokens[row], place)
            o[row] += r["o"]
            dx[row] += r["dx"]
            ds[row, place] = r["ds"]
        return {"O": o, "dX": dx, "dS": ds}

    def weight_gradients(self, e):
        r = self.expert(e, *self.p.rows(e))
        return {"dW1": (r["dh"].T @ r["x"]).cpu(), "dW2": (r["dy"].T @ r["a"]).cpu()}

    def check(self, layer):
        """What was checked and the worst NMSE of every tensor; raises Wrong at the first that is
        over its gate. Every comparison is written so that NaN fails."""
        whole, part = GATES[self.p.dtype]
        found = {"tokens": len(self.tokens), "experts": self.experts, "worst_nmse": {}}

        def judge(name, what, value, gate):
            found["worst_nmse"][name] = max(found["worst_nmse"].get(name, 0.0), value)
            if not value <= gate:
                raise Wrong(f"{what} NMSE {value:.2e} > {gate:.1e}")

        for name, ref in self.rows.items():
            out = layer.output(name)
            out = out[self.tokens.to(out.device)]
            if name != "dS":  # K numbers a token: too few for a gate of their own
                each = nmse(out, ref, 1)
                at = each.nan_to_num(nan=float("inf")).argmax().item()
                judge(name, f"{name} of token {self.tokens[at].item()}", each[at].item(), part)
            judge(name, name, nmse(out, ref).item(), whole)
        for name in ("dW1", "dW2"):
            out = layer.output(name)  # one at a time: it may be a copy of many GB
            for e in self.experts:
                mine = out[e].to(self.p.device)
                if name == "dW1":
                    mine = layer.gate_first(mine)
                judge(name, f"{name} of expert {e}",
                      nmse(mine, self.weights[e][name].to(self.p.device)).item(), part)
            del out
        return found
