"""Transformers' experts on moeref: ``from_pretrained(..., experts_implementation="moeref")``."""
from concurrent import futures
from typing import Any, Callable, Dict, Optional, Tuple

try:
    import torch
except ImportError as missing:
    raise ImportError("moeref.transformers needs torch, which is not there: pip install torch "
                      "transformers") from missing
from torch import Tensor

from . import _library as lib
from .torch import experts

NAME = "moeref"
F = torch.nn.functional
_Asking = Callable[[Any], Tuple[str, float, float]]


def _refuse(module: Any, why: str) -> "lib.UnsupportedError":
    return lib.UnsupportedError(
        f"{type(module).__name__} cannot run on moeref: {why}; use experts_implementation='eager'")


def _is_silu(act: Any) -> bool:
    return isinstance(act, torch.nn.SiLU) or type(act).__name__ in ("SiLUActivation", "SiLU") \
        or act is torch.nn.functional.silu


def _is_gelu(act: Any) -> bool:
    """By erf; the tanh approximation is another function."""
    if type(act).__name__ == "GELUActivation":
        return getattr(act, "act", None) is torch.nn.functional.gelu
    return isinstance(act, torch.nn.GELU) and act.approximate == "none"


def _is_relu(act: Any) -> bool:
    return isinstance(act, torch.nn.ReLU)


def _is_relu2(act: Any) -> bool:
    return type(act).__name__ == "ReLUSquaredActivation"


_PLAIN = ((_is_relu2, "relu2"), (_is_relu, "relu"), (_is_gelu, "gelu"), (_is_silu, "silu"))


def _gates(alpha: float, limit: float) -> Dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """a = f(gate, up) of each gated activation, as layer.h defines them."""
    def below(z: Tensor) -> Tensor:
        return z.clamp(max=limit)

    def within(z: Tensor) -> Tensor:
        return z.clamp(-limit, limit)

    return {
        "swiglu": lambda g, u: F.silu(g) * u,
        "geglu": lambda g, u: F.gelu(g) * u,
        "geglu_tanh": lambda g, u: F.gelu(g, approximate="tanh") * u,
        "reglu": lambda g, u: F.relu(g) * u,
        "swiglu_clamp": lambda g, u: below(g) * torch.sigmoid(alpha * below(g)) * (within(u) + 1),
        "swiglu_limit": lambda g, u: F.silu(below(g)) * within(u),
        "swiglu_limit_after": lambda g, u: below(F.silu(g)) * within(u),
        "swiglu_softcap": lambda g, u: (alpha * torch.tanh(g / alpha) * torch.sigmoid(g) *
                                        limit * torch.tanh(u / limit)),
    }


def _numbers(module: Any) -> Tuple[float, float]:
    """alpha and limit under the names that models have for them, else gpt-oss's."""
    act = getattr(module, "act_fn", None)
    caps: Any = [getattr(getattr(act, f"{of}_softcap", None), "softcap", None)
                 for of in ("gate", "up")]
    if None not in caps:
        return float(caps[0]), float(caps[1])
    found = []
    for name, usual in (("alpha", 1.702), ("limit", 7.0)):
        value = getattr(module, name, getattr(module, "swiglu_" + name, None))
        found.append(float(value) if isinstance(value, (int, float)) and value > 0 else usual)
    return found[0], found[1]


def _gate(module: Any) -> Optional[Tuple[str, float, float]]:
    """act, alpha, limit of its gate, asked of the function itself, at values around 0, on both
    sides of its limits and far beyond; None: it is none of these. Names and flags tell less:
    models have clamps and activations of their own under the same ones."""
    alpha, limit = _numbers(module)
    g = torch.tensor([-2 * limit, -1.0, 0.5, 2 * limit, 1e4, 0.7, -0.3, -1e4], dtype=torch.float64)
    u = torch.tensor([2 * limit, 0.25, -2 * limit, -0.5, 3.0, 1e4, -1e4, 0.1], dtype=torch.float64)
    both = torch.cat([g, u]) if module.is_concatenated else torch.stack([g, u], -1).reshape(-1)
    with torch.no_grad():
        try:
            got = module._apply_gate(both[None])
        except Exception:
            return None
        for act, gate in _gates(alpha, limit).items():
            want = gate(g, u)[None]
            if got.shape == want.shape and bool(torch.allclose(got.to(want.dtype), want)):
                return act, alpha, limit
    return None


# A compiled graph holds the answer, not the question.
_constant: Callable[[_Asking], _Asking] = torch.compiler.assume_constant_result


@_constant
def _activation(module: Any) -> Tuple[str, float, float]:
    """act, alpha, limit of a module's experts, or UnsupportedError."""
    from transformers.integrations.moe import _default_apply_gate
    act = getattr(module, "act_fn", None)
    if not hasattr(module, "has_gate"):
        raise lib.UnsupportedError(f"{type(module).__name__} is no experts module of Transformers")
    if module.has_gate:
        with futures.ThreadPoolExecutor(1) as aside:  # where no mode of this thread holds
            found = aside.submit(_gate, module).result()
        if found is not None:
            return found
        if type(module)._apply_gate is not _default_apply_gate:
            raise _refuse(module, "its gate (_apply_gate) is one of its own")
    else:
        for is_it, name in _PLAIN:
            if is_it(act):
                return name, 1.702, 7.0
    raise _refuse(module, f"its activation is {type(act).__name__}")


def _remembered(module: Any) -> Tuple[str, float, float]:
    of, known = getattr(module, "act_fn", None), getattr(module, "_moeref_act", None)
    if known is None or known[0] is not of:
        known = of, _activation(module)
        module._moeref_act = known
    found: Tuple[str, float, float] = known[1]
    return found


def _autocast(x: Tensor, *parameters: Any) -> Tuple[Any, ...]:
    """As torch.autocast has them, which casts what the products of a model's own experts take."""
    kind = x.device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return (x, *parameters)
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype)
                 for t in (x, *parameters))


def experts_forward(self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                    top_k_weights: torch.Tensor) -> torch.Tensor:
    """What stands for a module's forward: hidden_states [T, d], top_k_index and top_k_weights
    [T, K]; num_experts and above in top_k_index is a sentinel, no expert.

    Raises UnsupportedError, which names the flag, activation or dtype that moeref lacks.
    """
    if getattr(self, "has_post_expert_norm", False):
        raise _refuse(self, "it normalises what each expert returns (has_post_expert_norm)")
    act, alpha, limit = _activation(self) if torch.compiler.is_compiling() else _remembered(self)
    first = "gate_up_proj" if self.has_gate else "up_proj"
    w1, w2 = getattr(self, first), self.down_proj
    b1 = getattr(self, first + "_bias") if self.has_bias else None
    b2 = self.down_proj_bias if self.has_bias else None
    x, w1, w2, b1, b2 = _autocast(hidden_states, w1, w2, b1, b2)
    if w1.dtype != x.dtype:
        raise _refuse(self, f"its weights are {w1.dtype}, its input is {x.dtype}")
    if top_k_weights.dtype not in (torch.float32, x.dtype):
        top_k_weights = top_k_weights.to(torch.float32)
    out = experts(x, top_k_index, top_k_weights, w1, w2, b1, b2, act=act,
                  layout="concat" if self.is_concatenated else "interleaved",
                  transposed=self.is_transposed, alpha=alpha, limit=limit)
    return out.to(hidden_states.dtype)


def register(name: str = NAME) -> None:
    """Makes "moeref" an experts_implementation of Transformers (5.0 or later).

        moeref.transformers.register()
        AutoModelForCausalLM.from_pretrained(..., experts_implementation="moeref")

    Under torch.autocast experts compute in its dtype, of weights that are cast in each call.

    ImportError: Transformers is not there or has no such interface. InvalidError: no name, or one
    that stands for another's experts.
    """
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError as error:
        raise ImportError("moeref.transformers.register needs Transformers 5.0 or later: pip "
                          "install -U transformers") from error
    if not isinstance(name, str) or not name:
        raise lib.InvalidError("what is registered is a name for experts_implementation=, not "
                               f"{name!r:.80}; register() does it for all models")
    if name == "eager" or ALL_EXPERTS_FUNCTIONS.get(name, experts_forward) is not experts_forward:
        raise lib.InvalidError(f"{name!r} is an experts_implementation of Transformers' own")
    ALL_EXPERTS_FUNCTIONS.register(name, experts_forward)
