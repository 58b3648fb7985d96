"""Other people's layers on the CPU, forward, each with the problem's own weights."""
import ctypes
import os
from pathlib import Path

import torch

from layers import swiglu


class Loop:
    """A plain loop of torch over the experts that have tokens."""

    def __init__(self, p):
        self.p, self.out = p, None
        self.rows = [(e, *p.rows(e)) for e in range(p.E) if p.load[e]]

    def forward(self):
        p = self.p
        self.out = torch.zeros_like(p.x)
        for e, token, place in self.rows:
            y = swiglu(p.x[token] @ p.w1[e].T, p.n) @ p.w2[e].T
            self.out.index_add_(0, token, (p.weight[token, place, None] * y).to(p.dtype))

    def output(self, _name):
        return self.out


class OnnxRuntime:
    """com.microsoft.MoE, whose W1 alternates gate and up rows, fp32. It takes the router's logits:
    those of the chosen experts are the logarithms of their weights."""

    def __init__(self, p):
        import onnxruntime
        from onnx import TensorProto, helper
        node = helper.make_node(
            "MoE", ["x", "logits", "w1", "", "w2", ""], ["o"], domain="com.microsoft", k=p.K,
            activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.0, activation_beta=0.0,
            normalize_routing_weights=1)
        sizes = {"x": [p.T, p.d], "logits": [p.T, p.E], "w1": [p.E, 2 * p.n, p.d],
                 "w2": [p.E, p.d, p.n]}
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
                 for name, size in sizes.items()]
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [p.T, p.d])
        model = helper.make_model(
            helper.make_graph([node], "layer", infos, [out]), ir_version=8,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                    providers=["CPUExecutionProvider"])
        logits = torch.full((p.T, p.E), -1e9)
        logits.scatter_(1, p.choice, p.weight.log())
        w1 = p.w1.view(p.E, 2, p.n, p.d).transpose(1, 2).reshape(p.E, 2 * p.n, p.d)
        self.inputs = {"x": p.x.numpy(), "logits": logits.numpy(), "w1": w1.contiguous().numpy(),
                       "w2": p.w2.numpy()}
        self.out = None

    def forward(self):
        self.out = self.session.run(None, self.inputs)[0]

    def output(self, _name):
        return torch.from_numpy(self.out)


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p),
                ("no_alloc", ctypes.c_bool)]


GGML_F32, GGML_Q4_0, GGML_Q8_0, GGML_I32, GGML_BF16 = 0, 2, 8, 26, 30  # enum ggml_type


class Library:
    """ggml's functions, from a folder with libggml-base.so and libggml-cpu.so."""

    def __init__(self, folder):
        mode = ctypes.RTLD_GLOBAL
        self.base = ctypes.CDLL(str(Path(folder, "libggml-base.so")), mode=mode)
        self.cpu = ctypes.CDLL(str(Path(folder, "libggml-cpu.so")), mode=mode)
        self.base.ggml_init.argtypes = [InitParams]
        self.base.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.base.ggml_row_size.restype = ctypes.c_size_t

    def call(self, name, *args):
        """A function of pointers and int64, which returns a pointer."""
        function = getattr(self.base, name)
        function.restype = ctypes.c_void_p
        return function(*(a if isinstance(a, ctypes.c_void_p) else ctypes.c_int64(a)
                          for a in args))


class Ggml:
    """ggml's mul_mat_id, swiglu, mul and a sum of views over the K choices, as llama.cpp builds a
    layer of experts."""

    def __init__(self, p, kind):
        folder = os.environ.get("GGML_LIBRARIES")
        if not folder:
            raise RuntimeError("GGML_LIBRARIES is not set to the folder of libggml-cpu.so")
        self.p, self.kind, self.lib = p, kind, Library(folder)
        weights = sum(w.numel() for w in (p.w1, p.w2)) * 4
        rows = p.P * (4 * p.n + 3 * p.d) * 4 * 2
        base = self.lib.base
        base.ggml_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(base.ggml_init(InitParams(weights + rows + (1 << 28), None,
                                                                 False)))
        self.w1, self.w2 = self.matrix(p.w1), self.matrix(p.w2)
        self.x = self.tensor(GGML_F32, p.d, 1, p.T)
        self.ids = self.tensor(GGML_I32, p.K, p.T)
        self.weight = self.tensor(GGML_F32, 1, p.K, p.T)
        self.fill(self.x, p.x.float())
        self.fill(self.ids, p.choice.int())
        self.fill(self.weight, p.weight)
        self.graph = self.build()

    def op(self, name, *args):
        return ctypes.c_void_p(self.lib.call(name, self.context, *args))

    def tensor(self, kind, *sizes):
        return self.op(f"ggml_new_tensor_{len(sizes)}d", kind, *sizes)

    def data(self, tensor):
        return self.lib.call("ggml_get_data", tensor)

    def fill(self, tensor, values):
        values = values.contiguous()
        ctypes.memmove(self.data(tensor), values.data_ptr(), values.numel() * values.element_size())

    def matrix(self, w):
        ret = self.tensor(self.kind, w.shape[2], w.shape[1], w.shape[0])
        if self.kind not in (GGML_Q4_0, GGML_Q8_0):
            self.fill(ret, w.float() if self.kind == GGML_F32 else w)
            return ret
        values = w.float().contiguous()
        self.lib.base.ggml_quantize_chunk(
            ctypes.c_int(self.kind), ctypes.c_void_p(values.data_ptr()),
            ctypes.c_void_p(self.data(ret)), ctypes.c_int64(0),
            ctypes.c_int64(w.shape[0] * w.shape[1]), ctypes.c_int64(w.shape[2]), None)
        return ret

    def build(self):
        p = self.p
        a = self.op("ggml_swiglu", self.op("ggml_mul_mat_id", self.w1, self.x, self.ids))
        y = self.op("ggml_mul", self.op("ggml_mul_mat_id", self.w2, a, self.ids), self.weight)
        row = p.d * 4
        self.out = None
        for k in range(p.K):
            one = self.op("ggml_view_2d", y, p.d, p.T, p.K * row, k * row)
            self.out = one if self.out is None else self.op("ggml_add", self.out, one)
        graph = self.op("ggml_new_graph")
        self.lib.call("ggml_build_forward_expand", graph, self.out)
        return graph

    def forward(self):
        self.lib.cpu.ggml_graph_compute_with_ctx(self.context, self.graph,
                                                 ctypes.c_int(torch.get_num_threads()))

    def output(self, _name):
        p = self.p
        out = torch.empty(p.T, p.d)
        ctypes.memmove(out.data_ptr(), self.data(self.out), out.numel() * 4)
        return out

    def close(self):
        self.lib.call("ggml_free", self.context)
