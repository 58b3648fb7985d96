"""Transformers' experts on moeref: ``from_pretrained(..., experts_implementation="moeref")``."""
from typing import Any, Tuple

import torch

from . import _library as lib
from .torch import experts

NAME = "moeref"


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


_GATED = ((_is_silu, "swiglu"), (_is_gelu, "geglu"), (_is_relu, "reglu"))
_PLAIN = ((_is_relu2, "relu2"), (_is_relu, "relu"), (_is_gelu, "gelu"), (_is_silu, "silu"))


def _clamped(module: Any) -> bool:
    """Is its gate gpt-oss's? Asked of the function itself, at values on both sides of its limits,
    as others have clamps of their own under the same names."""
    if not hasattr(module, "alpha") or not hasattr(module, "limit"):
        return False
    alpha, limit = float(module.alpha), float(module.limit)
    with torch.no_grad():
        g = torch.tensor([-2.0 * limit, -1.0, 0.5, 2.0 * limit], dtype=torch.float64)
        u = torch.tensor([2.0 * limit, 0.25, -2.0 * limit, -0.5], dtype=torch.float64)
        both = torch.stack([g, u], -1).reshape(1, -1) if not module.is_concatenated \
            else torch.cat([g, u])[None]
        cut = g.clamp(max=limit)
        want = cut * torch.sigmoid(alpha * cut) * (u.clamp(-limit, limit) + 1)
        try:
            got = module._apply_gate(both)
        except Exception:
            return False
    return got.shape == want[None].shape and bool(torch.allclose(got[0], want))


def _activation(module: Any) -> Tuple[str, float, float]:
    """act, alpha, limit of a module's experts, or UnsupportedError."""
    from transformers.integrations.moe import _default_apply_gate
    act = getattr(module, "act_fn", None)
    if module.has_gate and type(module)._apply_gate is not _default_apply_gate:
        if _clamped(module):
            return "swiglu_clamp", float(module.alpha), float(module.limit)
        raise _refuse(module, "its gate (_apply_gate) is one of its own")
    for is_it, name in _GATED if module.has_gate else _PLAIN:
        if is_it(act):
            return name, 1.702, 7.0
    raise _refuse(module, f"its activation is {type(act).__name__}")


def experts_forward(self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                    top_k_weights: torch.Tensor) -> torch.Tensor:
    """What stands for a module's forward: hidden_states [T, d], top_k_index and top_k_weights
    [T, K]; num_experts and above in top_k_index is a sentinel, no expert.

    Raises UnsupportedError, which names the flag, activation or dtype that moeref lacks.
    """
    if getattr(self, "has_post_expert_norm", False):
        raise _refuse(self, "it normalises what each expert returns (has_post_expert_norm)")
    found = getattr(self, "_moeref_act", None)
    if found is None:
        found = _activation(self)
        self._moeref_act = found
    act, alpha, limit = found
    first = "gate_up_proj" if self.has_gate else "up_proj"
    w1, w2 = getattr(self, first), self.down_proj
    if w1.dtype != hidden_states.dtype:
        raise _refuse(self, f"its weights are {w1.dtype}, its input is {hidden_states.dtype}")
    if top_k_weights.dtype not in (torch.float32, hidden_states.dtype):
        top_k_weights = top_k_weights.to(torch.float32)
    b1 = getattr(self, first + "_bias") if self.has_bias else None
    b2 = self.down_proj_bias if self.has_bias else None
    out = experts(hidden_states, top_k_index, top_k_weights, w1, w2, b1, b2, act=act,
                  layout="concat" if self.is_concatenated else "interleaved",
                  transposed=self.is_transposed, alpha=alpha, limit=limit)
    return out.to(hidden_states.dtype)


def register(name: str = NAME) -> None:
    """Makes "moeref" an experts_implementation of Transformers (5.0 or later).

        moeref.transformers.register()
        AutoModelForCausalLM.from_pretrained(..., experts_implementation="moeref")

    ImportError: Transformers is not there or has no such interface.
    """
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    ALL_EXPERTS_FUNCTIONS.register(name, experts_forward)
