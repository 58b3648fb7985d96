"""The C API of libmoeref, as far as it is needed here (src/include/moeref)."""
import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import torch

DTYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}  # moe_dtype
IDS = {"W1": 5, "W2": 7, "O": 17, "dS": 18, "dX": 21, "dW1": 24, "dW2": 26}  # moe_tensor_id
N_TENSORS = 64  # room for every id


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("ndim", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 4)]


class Router(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int32)
                for k in ("score", "select", "weight_on", "rounding", "bias", "select_bias",
                                              "groups", "topk_groups", "renorm", "tile")] + \
               [("capacity", ctypes.c_int64), ("renorm_eps", ctypes.c_double),
                ("scale", ctypes.c_double),
                ("jitter", ctypes.c_double)]


class LayerDesc(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int64) for k in ("d", "n", "E", "K", "n_zero", "n_shared")] + \
               [(k, ctypes.c_int32)
                for k in ("shared_gate", "act", "glu_layout", "expert_bias")] + \
               [("act_alpha", ctypes.c_double), ("act_limit", ctypes.c_double), ("router", Router)]


class Use(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_int64), ("dtype", ctypes.c_int32), ("passes", ctypes.c_int32),
                ("plan_given", ctypes.c_int32)]


class Input(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_int64), ("X", Tensor), ("dO", Tensor),
                ("plan", ctypes.c_void_p), ("seed", ctypes.c_uint64)]


class Cost(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 24), ("bound_by", ctypes.c_char * 16)] + \
               [(k, ctypes.c_double)
                for k in ("us", "floor_us", "flops", "hbm", "l2", "tiles", "waves")]


class Memory(ctypes.Structure):
    _fields_ = [(k, ctypes.c_int64) for k in ("weights", "cached", "peak")]


LogFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


class Log(ctypes.Structure):
    _fields_ = [("fn", LogFunction), ("user", ctypes.c_void_p)]


def view(t):
    return Tensor(t.data_ptr(), DTYPES[t.dtype], t.dim(), (ctypes.c_int64 * 4)(*t.shape))


def stage_passes(lib, path):
    """{name: "fwd", "bwd" or "both"} of every stage, as the build tree's or the installed program
    lists them."""
    beside = Path(lib).resolve().parent / "cli/moeref"
    program = str(beside) if beside.exists() else shutil.which("moeref")
    if not program:
        raise RuntimeError(f"no program {beside}, and no moeref on PATH")
    listed = subprocess.run([program, "list", "--output", "json"], check=True, text=True,
                            env={**os.environ, "MOEREF_BACKEND_PATH": path},
                            capture_output=True).stdout
    return {stage["name"]: stage["pass"] for stage in json.loads(listed)["stages"]}


class Moeref:
    """An opened backend."""

    def __init__(self, lib, path, backend):
        self.lib = ctypes.CDLL(lib)
        self.passes = stage_passes(lib, path)
        self.all, self.backend, self.said = ctypes.c_void_p(), ctypes.c_void_p(), ""
        self.log = Log(LogFunction(self.hear), None)
        self.call("moe_backends_load", path.encode(), ctypes.byref(self.log),
                  ctypes.byref(self.all))
        self.call("moe_backend_open", self.all, backend.encode(), None, ctypes.byref(self.log),
                  ctypes.byref(self.backend))

    def hear(self, _user, _level, message):
        self.said = message.decode(errors="replace")

    def call(self, name, *args):
        self.said = ""
        status = getattr(self.lib, name)(*args)
        if status:
            raise RuntimeError(f"{name}: status {status}: {self.said}")


class Ours:
    """A problem's layer prepared on the backend; a context manager, since it holds device
    memory."""

    def __init__(self, p, moeref, forward_only=False):
        self.p, self.moeref, self.passes = p, moeref, 1 if forward_only else 3
        self.layer, self.plan = ctypes.c_void_p(), ctypes.c_void_p()

    def __enter__(self):
        p, desc, call = self.p, LayerDesc(), self.moeref.call
        self.moeref.lib.moe_layer_desc_init(ctypes.byref(desc))
        desc.d, desc.n, desc.E, desc.K = p.d, p.n, p.E, p.K
        token = torch.arange(p.T, dtype=torch.int32).repeat_interleave(p.K)
        expert, weight = p.choice.flatten().int().cpu(), p.weight.flatten().double().cpu()
        call("moe_plan_create", ctypes.c_int64(p.T), ctypes.c_int64(p.E), ctypes.c_int64(p.P),
             *(ctypes.c_void_p(t.data_ptr()) for t in (token, expert, weight)), None,
             ctypes.byref(self.plan))
        # The library reads them until the end.
        self.host = [t.cpu() for t in (p.w1, p.w2, p.x, p.do)]
        self.params = (Tensor * N_TENSORS)()
        self.params[IDS["W1"]], self.params[IDS["W2"]] = view(self.host[0]), view(self.host[1])
        use = Use(p.T, DTYPES[p.dtype], self.passes, 1)
        call("moe_layer_prepare", self.moeref.backend, ctypes.byref(desc), ctypes.byref(use),
             self.params, ctypes.byref(self.layer))
        self.step = Input(p.T, view(self.host[2]), view(self.host[3]), self.plan.value, 0)
        call("moe_layer_set_input", self.layer, ctypes.byref(self.step))
        return self

    def __exit__(self, *_):
        self.moeref.lib.moe_layer_destroy(ctypes.byref(self.layer))
        self.moeref.lib.moe_plan_destroy(ctypes.byref(self.plan))

    def forward(self):
        self.moeref.call("moe_layer_forward", self.layer)

    def backward(self):
        self.moeref.call("moe_layer_backward", self.layer)

    def output(self, name):
        """A result of the last passes, from the library, in a buffer that was NaN before."""
        p = self.p
        shape = {"O": (p.T, p.d), "dX": (p.T, p.d), "dS": (p.P,), "dW1": (p.E, 2 * p.n, p.d),
                 "dW2": (p.E, p.d, p.n)}
        dtype = torch.float32 if name == "dS" else p.dtype
        out = torch.full(shape[name], float("nan"), dtype=dtype)
        self.moeref.call("moe_layer_fetch", self.layer, IDS[name], ctypes.byref(view(out)))
        if name == "dS":  # comes in plan order
            out = out[p.inverse.cpu()].view(p.T, p.K)
        return out

    @staticmethod
    def gate_first(dw1):
        return dw1

    def times(self):
        """Kernel times of the last forward and backward: ({name: us}, {name: us})."""
        costs = (Cost * 32)()
        self.moeref.lib.moe_layer_timings.restype = ctypes.c_size_t
        count = self.moeref.lib.moe_layer_timings(self.layer, costs, ctypes.c_size_t(32))
        rows = [(c.name.decode(), c.us) for c in costs[:count]]
        return tuple({name: us for name, us in rows if self.moeref.passes[name] == which}
                     for which in ("fwd", "bwd"))

    def memory(self):
        memory = Memory()
        self.moeref.call("moe_layer_memory", self.layer, ctypes.byref(memory))
        return {k: getattr(memory, k) for k in ("weights", "cached", "peak")}
