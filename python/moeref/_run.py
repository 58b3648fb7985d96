"""Running what is to be judged on a case's inputs: NumPy or torch, function or module."""
import functools
import inspect
import sys
import zlib
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from . import _library as lib
from ._case import Case

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is

# What people call the case's tensors. Of a module's parameter the end of its name decides.
NAMES = {
    "X": ("x", "hidden_states", "hidden", "input", "inputs_embeds"),
    "W_r": ("w_r", "wr", "router_weight", "gate_weight", "gate.weight", "router.weight",
            "router.linear.weight"),
    "b_r": ("router_bias", "router.bias", "gate.bias"),
    "b_select": ("e_score_correction_bias",),
    "W1": ("w1", "gate_up_proj", "up_proj"),
    "b1": ("gate_up_proj_bias", "up_proj_bias"),
    "W2": ("w2", "down_proj"),
    "b2": ("down_proj_bias",),
    "topk_index": ("top_k_index", "topk_ids", "topk_idx", "selected_experts", "expert_index"),
    "topk_weight": ("top_k_weights", "topk_weights", "top_k_weight", "routing_weights"),
}
_KNOWN = {alias: name for name, aliases in NAMES.items() for alias in aliases}


def title(subject: Any) -> str:
    """What a report calls it."""
    if isinstance(subject, str):
        return subject
    if isinstance(subject, Mapping):
        return "results"
    subject = getattr(subject, "_orig_mod", subject)  # of what torch.compile wraps
    while isinstance(subject, functools.partial):
        subject = subject.func
    name = getattr(subject, "__qualname__", None) or type(subject).__qualname__
    name = str(name).rpartition("<locals>.")[2]  # as it is called where it is
    return name.encode("ascii", "replace").decode("ascii").replace("\0", "?")


def _parameters(subject: Any) -> Optional[List[inspect.Parameter]]:
    original = getattr(subject, "_orig_mod", subject)
    if _is_module(original):
        original = original.forward
    try:
        return list(inspect.signature(original).parameters.values())
    except (TypeError, ValueError):
        return None  # of C: it gets the dict


def _meant(name: str, inputs: Mapping[str, Any]) -> Optional[str]:
    if name in inputs:
        return name
    known = _KNOWN.get(name.lower())
    return known if known in inputs else None


def _unmatched(subject: Any, parameters: List[inspect.Parameter], unknown: List[str],
               inputs: Mapping[str, Any]) -> lib.InvalidError:
    """It has parameters that no input of the case is meant by, or none."""
    takes = f"takes {', '.join(unknown) or 'nothing'}"
    if parameters and not unknown:
        takes = "tells no names of what it takes"
    asked = {_KNOWN.get(name.lower(), name) for name in unknown}
    hint = ""
    if "topk_index" not in inputs and asked & {"topk_index", "topk_weight"}:
        hint = "; a case with route=uniform in its line hands out topk_index and topk_weight"
    elif "W_r" not in inputs and "W_r" in asked:
        hint = "; it is a case without route= that has a router"
    return lib.InvalidError(f"{title(subject)} {takes}, the case has {', '.join(inputs)}: name its "
                            f"parameters so, or take one dict{hint}")


def _noted(error: BaseException, inputs: Mapping[str, Any]) -> None:
    """Python prints below the error what the callable had been given."""
    if hasattr(error, "add_note"):  # Python 3.11
        given = ", ".join(f"{name} {list(t.shape)}" for name, t in inputs.items())
        batched = "; batched=True hands X over as [1, T, d]" if len(inputs["X"].shape) == 2 else ""
        error.add_note(f"moeref.check called it with tensors of the case: {given}{batched}")


def call_with(subject: Any, inputs: Mapping[str, Any]) -> Tuple[Any, List[str]]:
    """The result, and the names of the inputs that it took."""
    try:
        return _called(subject, inputs)
    except lib.Error:
        raise
    except Exception as error:
        _noted(error, inputs)
        raise


def _called(subject: Any, inputs: Mapping[str, Any]) -> Tuple[Any, List[str]]:
    parameters = _parameters(subject)
    if parameters is None:
        return subject(dict(inputs)), list(inputs)
    empty = inspect.Parameter.empty
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD,
                                                  p.KEYWORD_ONLY)]
    meant = {p.name: _meant(p.name, inputs) for p in needed}
    unknown = [p.name for p in needed if meant[p.name] is None and p.default is empty]
    if len(needed) == 1 and unknown:
        return subject(dict(inputs)), list(inputs)
    if not needed and any(p.kind == p.VAR_KEYWORD for p in parameters):
        return subject(**inputs), list(inputs)
    if unknown or not needed:
        raise _unmatched(subject, parameters, unknown, inputs)
    given = {name: inputs[known] for name, known in meant.items() if known is not None}
    first = [given.pop(p.name) for p in needed
             if p.kind == p.POSITIONAL_ONLY and p.name in given]
    return subject(*first, **given), [m for m in meant.values() if m]


def _is_module(subject: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(subject, torch.nn.Module)


def _results(subject: Any, returned: Any) -> Dict[str, Any]:
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, (tuple, list)):
        returned = returned[0] if returned else None
    if returned is None:
        raise lib.InvalidError(f"{title(subject)} returned nothing")
    return {"O": returned}


class Ran(NamedTuple):
    """What a callable made, of which inputs, and the first input that it wrote into, or ""."""

    results: Dict[str, Any]
    taken: List[str]
    changed: str


def _sums(case: Case) -> Dict[str, int]:
    """Of the case's memory, which NumPy's arrays lend for reading; C may write all the same."""
    return {name: zlib.crc32(case.inputs.raw(name).bytes()) for name in case.inputs}


def run(subject: Any, case: Case, params: Optional[Mapping[str, str]], device: Optional[str],
        batched: bool) -> Ran:
    """Calls it. InvalidError: it is no callable, or its parameters are unknown."""
    if not callable(subject):
        raise lib.InvalidError("what is judged is a callable, a dict of results or a backend's "
                               f"name, not {type(subject).__name__}")
    if _is_module(subject) or case.inputs._framework == "torch":
        return _run_torch(subject, case, params, device, batched)
    if params or device is not None:
        raise lib.InvalidError("params= and device= are for torch")
    inputs = {name: case.inputs[name] for name in case.inputs}
    if batched:
        inputs["X"] = inputs["X"][None]
    before = _sums(case)
    try:
        returned, taken = call_with(subject, inputs)
    except TypeError as error:
        if "must be Tensor, not numpy.ndarray" not in str(error):
            raise
        raise lib.InvalidError(
            f"{title(subject)} takes torch's tensors and got NumPy's arrays: give it torch's, "
            "case=moeref.case(..., framework=\"torch\")") from error
    after = _sums(case)
    changed = next((name for name in before if before[name] != after[name]), "")
    return Ran(_unbatched(_results(subject, returned), case), taken, changed)


def _unbatched(results: Dict[str, Any], case: Case) -> Dict[str, Any]:
    """O and dX of [1, T, d], or of more dimensions, as [T, d]."""
    for name in ("O", "dX"):
        shape = getattr(results.get(name), "shape", None)
        if shape is not None and len(shape) > 2 and hasattr(results[name], "reshape"):
            results[name] = results[name].reshape(-1, shape[-1])
    return results


class _Module:
    """A module with the case's parameters in it, for a while."""

    def __init__(self, module: Any, case: Case, params: Optional[Mapping[str, str]],
                 inputs: Mapping[str, Any]):
        self.module = module
        own = dict(module.named_parameters())
        own.update(dict(module.named_buffers()))
        wanted = self._names(own, params, inputs)
        missing = [n for n in inputs if n not in wanted.values() and
                   n not in ("X", "dO", "topk_index", "topk_weight", "masked")]
        if missing:
            raise lib.InvalidError(f"the module has no parameter for {', '.join(missing)}: name "
                                   f"them in params=; it has {', '.join(own) or 'none'}")
        self.tensors = {case_name: own[name] for name, case_name in wanted.items()}
        empty = [name for name in wanted if own[name].is_meta]
        if empty:
            raise lib.InvalidError(f"the module's {', '.join(empty)} is on the device meta, which "
                                   "has no memory")
        self.kept = {name: t.detach().clone() for name, t in self.tensors.items()}
        self.turned = {name: self._turned(name, t, inputs[name])
                       for name, t in self.tensors.items()}

    @staticmethod
    def _names(own: Mapping[str, Any], params: Optional[Mapping[str, str]],
               inputs: Mapping[str, Any]) -> Dict[str, str]:
        if params is not None:
            if not isinstance(params, Mapping) or not all(isinstance(b, str)
                                                          for b in params.values()):
                raise lib.InvalidError("params is a dict of a module's parameters to names of the "
                                       "case's tensors")
            bad = [f"{a}: {b}" for a, b in params.items() if a not in own or b not in inputs]
            if bad:
                raise lib.InvalidError(f"params: no such parameter of the module, or tensor of the "
                                       f"case: {', '.join(bad)}")
            return dict(params)
        found = {}
        for name in own:
            for end, case_name in list(_KNOWN.items()) + [(n, n) for n in inputs]:
                if case_name in inputs and case_name not in ("X", "dO") and (
                        name == end or name.endswith("." + end)):
                    found[name] = case_name
        for case_name in set(found.values()):
            same = [name for name in found if found[name] == case_name]
            if len(same) > 1:
                raise lib.InvalidError(f"the module's {' and '.join(same)} could each be "
                                       f"{case_name}: say which in params=")
        return found

    @staticmethod
    def _turned(name: str, own: Any, value: Any) -> bool:
        if tuple(own.shape) == tuple(value.shape):
            return False
        if value.dim() > 1 and tuple(own.shape) == tuple(value.mT.shape):
            return True
        raise lib.InvalidError(f"the module's {name} has shape {list(own.shape)}, the case has "
                               f"{list(value.shape)}")

    def fill(self, values: Mapping[str, Any]) -> None:
        for name, tensor in self.tensors.items():
            turned = name in self.turned and self.turned[name] and values is not self.kept
            # Unseen by torch: a backward pass that waits for these parameters finds them again.
            tensor.data.copy_(values[name].mT if turned else values[name])
        experts = sys.modules.get("moeref._experts")
        if experts:
            experts.weights_changed(*self.tensors.values())


def _leaves(case: Case, device: Optional[str], grad: bool) -> Dict[str, Any]:
    """Copies of the inputs, floating ones with a gradient."""
    copies = {}
    for name in case.inputs:
        copy = case.inputs.raw(name).torch().clone()
        copy = copy.to(device) if device else copy
        if grad and copy.is_floating_point() and name not in ("dO", "b_select", "masked"):
            copy.requires_grad_()
        copies[name] = copy
    return copies


def _grad_name(name: str) -> str:
    return "dS" if name == "topk_weight" else "d" + name


def _changed(leaves: Mapping[str, Any], case: Case) -> str:
    """The first input whose bytes are others than the case's, or ""."""
    import torch
    for name, leaf in leaves.items():
        mine, given = leaf.detach().cpu().contiguous(), case.inputs.raw(name).torch()
        if not torch.equal(mine.view(torch.uint8), given.contiguous().view(torch.uint8)):
            return name
    return ""


def _need_device(device: Optional[str]) -> None:
    import torch
    try:
        torch.empty(0, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise lib.InvalidError(f"device={device!r}: {reason}") from error
    if device is not None and torch.device(device).type == "meta":
        raise lib.InvalidError(f"device={device!r} has no memory: nothing can be judged there")


def _run_torch(subject: Any, case: Case, params: Optional[Mapping[str, str]],
               device: Optional[str], batched: bool) -> Ran:
    import torch
    _need_device(device)
    leaves = _leaves(case, device, case.backward)
    module = None
    if _is_module(subject):
        if device:
            subject.to(device)
        module = _Module(subject, case, params, leaves)
    elif params:
        raise lib.InvalidError("params= is for a torch.nn.Module")
    given = dict(leaves)
    if batched:
        given["X"] = leaves["X"][None]
    try:
        if module:
            module.fill({name: t.detach() for name, t in leaves.items()})
        with torch.enable_grad():
            returned, taken = call_with(subject, given)
            results = _unbatched(_results(subject, returned), case)
            wrt = {n: leaves[n] for n in taken}
            if module:
                wrt.update(module.tensors)
            results.update(_gradients(results, wrt, leaves, module))
        changed = _changed(leaves, case)
    except RuntimeError as error:
        if "Can't call numpy()" not in str(error):
            raise
        raise lib.InvalidError(  # torch is imported, by whomever, so that it got torch's tensors
            f"{title(subject)} makes NumPy's arrays of torch's tensors: give it NumPy's, "
            "case=moeref.case(..., framework=\"numpy\")") from error
    finally:
        if module:
            module.fill(module.kept)
    made = {n: t.detach() if isinstance(t, torch.Tensor) else t for n, t in results.items()}
    return Ran(made, taken, changed)


def _gradients(results: Mapping[str, Any], wrt: Mapping[str, Any], leaves: Mapping[str, Any],
               module: Optional[_Module]) -> Dict[str, Any]:
    """What autograd says, where there is an O that it knows and a dO."""
    import torch
    out = results.get("O")
    wrt = {n: t for n, t in wrt.items() if t.requires_grad and _grad_name(n) not in results}
    if not isinstance(out, torch.Tensor) or not out.requires_grad or "dO" not in leaves or not wrt:
        return {}
    if out.shape != leaves["dO"].shape or out.is_meta:
        return {}  # which is said of O
    grads = torch.autograd.grad(out, list(wrt.values()), leaves["dO"].to(out),
                                allow_unused=True)
    made = {}
    for (name, tensor), grad in zip(wrt.items(), grads):
        grad = torch.zeros_like(tensor) if grad is None else grad
        turned = module is not None and module.turned.get(name, False)
        made[_grad_name(name)] = grad.mT.contiguous() if turned else grad
    return made
