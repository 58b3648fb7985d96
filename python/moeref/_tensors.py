"""Tensors on both sides of the border, without a copy: DLPack, NumPy's and torch's memory."""
import ctypes as c
import sys
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from . import _library as lib

__tracebackhide__ = True  # of pytest: a failure is shown where the user's code is

# moe_dtype of dtype.h: name, bytes, DLPack code, NumPy name (None: NumPy has none), torch name.
DTYPES: Tuple[Tuple[str, int, int, Optional[str], str], ...] = (
    ("fp64", 8, 2, "float64", "float64"), ("fp32", 4, 2, "float32", "float32"),
    ("fp16", 2, 2, "float16", "float16"), ("bf16", 2, 4, None, "bfloat16"),
    ("i64", 8, 0, "int64", "int64"), ("i32", 4, 0, "int32", "int32"),
    ("u8", 1, 1, "uint8", "uint8"))


class _DLTensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device_type", c.c_int32), ("device_id", c.c_int32),
                ("ndim", c.c_int32), ("code", c.c_uint8), ("bits", c.c_uint8),
                ("lanes", c.c_uint16), ("shape", c.POINTER(c.c_int64)),
                ("strides", c.POINTER(c.c_int64)), ("byte_offset", c.c_uint64)]


class _DLManaged(c.Structure):
    _fields_ = [("tensor", _DLTensor), ("context", c.c_void_p), ("deleter", c.c_void_p)]


_CAPSULE_NEW = c.pythonapi.PyCapsule_New
_CAPSULE_NEW.restype = c.py_object
_CAPSULE_NEW.argtypes = [c.c_void_p, c.c_char_p, c.c_void_p]
_CAPSULE_GET = c.pythonapi.PyCapsule_GetPointer
_CAPSULE_GET.restype = c.c_void_p
_CAPSULE_GET.argtypes = [c.py_object, c.c_char_p]
_CAPSULE_IS = c.pythonapi.PyCapsule_IsValid
_CAPSULE_IS.restype = c.c_int
_CAPSULE_IS.argtypes = [c.py_object, c.c_char_p]

_HOST = (1, 3)  # DLPack's devices that are the CPU's memory: plain, and pinned


class Memory:
    """A tensor in the library's memory: for numpy.from_dlpack and torch.from_dlpack.

    Attributes: name, dtype ("fp32", "bf16" ...), shape. It is to be read, not written.
    """

    def __init__(self, owner: Any, name: str, tensor: lib.Tensor):
        self._owner, self._data = owner, tensor.data
        self.name = name
        self.dtype, self._size, self._code, self._numpy, self._torch = DTYPES[tensor.dtype]
        self.shape = tuple(tensor.shape[:tensor.ndim])

    def __repr__(self) -> str:
        return f"moeref tensor {self.name} {list(self.shape)} {self.dtype}"

    def __dlpack_device__(self) -> Tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
                   copy: Optional[bool] = None) -> Any:
        """A capsule of DLPack's first version; the memory lives as long as somebody uses it."""
        if dl_device is not None and tuple(dl_device) != (1, 0):
            raise BufferError("moeref's tensors are in the memory of the CPU")
        if copy:
            raise BufferError("moeref hands out its own memory; copy what you get")
        shape = (c.c_int64 * lib.MAX_DIMS)(*self.shape)
        lent = lib.LIB.moe_py_problem_lend(self._owner.pointer, self._data, len(self.shape), shape,
                                           self._code, 8 * self._size)
        if not lent:
            raise lib.OutOfMemoryError("no memory to lend a tensor")
        return _CAPSULE_NEW(lent, b"dltensor", None)

    def numpy(self) -> Any:
        """A read-only NumPy array on the same memory; bf16, which NumPy lacks, as float32."""
        try:
            import numpy
        except ImportError as error:
            raise ImportError("moeref hands out NumPy's arrays, and NumPy is not installed: pip "
                              "install numpy, or framework=\"torch\"") from error
        array = numpy.frombuffer(self.bytes(), dtype=self._numpy or "uint16").reshape(self.shape)
        if self._numpy is None:
            array = (array.astype("uint32") << 16).view("float32")
        array.flags.writeable = False
        return array

    def bytes(self) -> Any:
        """The memory itself, as a buffer."""
        count = self._size
        for extent in self.shape:
            count *= extent
        raw = (c.c_char * count).from_address(self._data)
        raw._moeref_owner = self._owner  # who has `raw` has the memory
        return raw

    def torch(self) -> Any:
        """A torch tensor on the same memory."""
        try:
            import torch
        except ImportError as error:
            raise ImportError("moeref hands out torch's tensors, and torch is not installed: pip "
                              "install torch, or framework=\"numpy\"") from error
        from torch.utils.dlpack import from_dlpack
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=getattr(torch, self._torch))
        return from_dlpack(self)


class NoTensorError(lib.NotFoundError, KeyError):
    """A mapping's KeyError, which says what there is."""

    __str__ = Exception.__str__  # KeyError shows its sentence in quotes


NoTensorError.__module__, NoTensorError.__qualname__ = "moeref", "NotFoundError"


class Tensors(Mapping[str, Any]):
    """Tensors by name, in `framework`: "numpy" or "torch". `raw(name)` is the Memory."""

    def __init__(self, memory: Dict[str, Memory], framework: str):
        self._memory, self._framework = memory, framework
        self._made: Dict[str, Any] = {}

    def raw(self, name: str) -> Memory:
        return self._memory[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            memory = self._memory.get(name)
            if memory is None:
                raise NoTensorError(f"there is no {name!r}, but {', '.join(self._memory)}")
            self._made[name] = memory.torch() if self._framework == "torch" else memory.numpy()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._memory)

    def __len__(self) -> int:
        return len(self._memory)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{n}: {list(m.shape)} {m.dtype}"
                               for n, m in self._memory.items()) + "}"


def choose_framework(framework: Optional[str]) -> str:
    """As asked, or torch where the program uses it, or NumPy."""
    if framework is None:
        framework = "torch" if "torch" in sys.modules else "numpy"
    if framework not in ("numpy", "torch"):
        raise lib.InvalidError(f"framework is 'numpy' or 'torch', not {framework!r}")
    return framework


def is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def _named(names: Dict[str, int], name: str, what: str) -> int:
    if name not in names:
        raise lib.InvalidError(f"{what} has the element type {name}, which cannot be judged")
    return names[name]


_BY_TORCH = {f"torch.{row[4]}": i for i, row in enumerate(DTYPES)}
_BY_NUMPY = {row[3]: i for i, row in enumerate(DTYPES) if row[3]}


def _of_torch(value: Any, what: str) -> Tuple[int, int, Tuple[int, ...], Any]:
    torch = sys.modules["torch"]
    if value.is_nested or value.layout != torch.strided or value.is_quantized or \
            value.is_complex():
        raise lib.InvalidError(f"{what} is no dense tensor of real numbers")
    fake = getattr(getattr(torch, "_subclasses", None), "FakeTensor", ())
    if value.is_meta or isinstance(value, fake):
        raise lib.InvalidError(f"{what} has a shape and no values: it is a meta or fake tensor")
    dtype = _named(_BY_TORCH, str(value.dtype), what)
    value = value.detach()
    if value.device.type != "cpu":
        value = value.to("cpu")
    value = value.resolve_neg().contiguous()
    return value.data_ptr(), dtype, tuple(value.shape), value


def _of_numpy(value: Any, what: str) -> Tuple[int, int, Tuple[int, ...], Any]:
    import numpy
    value = numpy.asarray(value)  # a subclass may say what it likes of itself
    dtype = value.dtype
    name = dtype.newbyteorder("=").name
    if name == "bfloat16":  # of ml_dtypes
        index = 3
    else:
        index = _named(_BY_NUMPY, name, what)
    held = numpy.ascontiguousarray(value, dtype=dtype.newbyteorder("=")).reshape(value.shape)
    return held.ctypes.data, index, held.shape, held


def _capsule_of(value: Any, what: str) -> Tuple[int, Any]:
    """The kind of its device and its capsule; what the object itself raises is no surprise."""
    try:
        kind = int(tuple(value.__dlpack_device__())[0])
        return kind, value.__dlpack__() if kind in _HOST else None
    except Exception as error:
        raise lib.InvalidError(f"{what}: its __dlpack__ fails: {error}") from error


def _extents(t: _DLTensor, what: str) -> Tuple[Tuple[int, ...], bool]:
    """Its shape, and whether it is dense and row-major. InvalidError: it cannot be true."""
    if not 0 <= t.ndim <= lib.MAX_DIMS:
        raise lib.InvalidError(f"{what} has {t.ndim} dimensions, at most {lib.MAX_DIMS}")
    if t.ndim and not t.shape:
        raise lib.InvalidError(f"{what}: its __dlpack__ tells no shape")
    shape = tuple(t.shape[i] for i in range(t.ndim))
    dense, step = True, 1
    for i in reversed(range(t.ndim)):
        dense = dense and (not t.strides or shape[i] == 1 or t.strides[i] == step)
        step *= shape[i]
    if any(extent < 0 for extent in shape) or step * t.bits >= 1 << 62:
        raise lib.InvalidError(f"{what}: its __dlpack__ tells the shape {list(shape)}")
    return shape, dense or step == 0


def _by_others(value: Any, what: str, framework: str) -> Tuple[int, int, Tuple[int, ...], Any]:
    """What is on a device, or not dense, as the one of torch and NumPy that can copy it has it."""
    library = sys.modules.get(framework)
    if library is None:
        where = "dense and row-major" if framework == "numpy" else "in the memory of the CPU"
        raise lib.InvalidError(f"{what} is not {where}; import {framework}, which can copy it")
    try:
        taken = library.from_dlpack(value)
    except Exception as error:
        raise lib.InvalidError(f"{what}: {framework} cannot take it: {error}") from error
    return (_of_torch if framework == "torch" else _of_numpy)(taken, what)


def _of_dlpack(value: Any, what: str) -> Tuple[int, int, Tuple[int, ...], Any]:
    kind, capsule = _capsule_of(value, what)
    if kind not in _HOST:
        return _by_others(value, what, "torch")
    if not _CAPSULE_IS(capsule, b"dltensor"):
        raise lib.InvalidError(f"{what}: its __dlpack__ gives no DLPack tensor")
    t = c.cast(_CAPSULE_GET(capsule, b"dltensor"), c.POINTER(_DLTensor)).contents
    found = [i for i, row in enumerate(DTYPES) if (row[2], 8 * row[1], 1) ==
             (t.code, t.bits, t.lanes)]
    if not found:
        raise lib.InvalidError(f"{what} has an element type that cannot be judged")
    shape, dense = _extents(t, what)
    if not dense:
        return _by_others(value, what, "numpy")
    address = t.data + t.byte_offset if t.data else 0
    return address, found[0], shape, (capsule, value)


def named(tensors: Mapping[str, Any]) -> Tuple[Any, int, Any]:
    """An array of moe_named_tensor on the tensors' own memory, its length, and what to keep.

    Takes torch and NumPy arrays and whatever has __dlpack__; tensors on a device, and those that
    are not dense, are copied. InvalidError names what cannot be read.
    """
    tensors = dict(tensors)
    array = (lib.NamedTensor * max(1, len(tensors)))()
    kept = []
    empty = c.create_string_buffer(8)
    for i, (name, value) in enumerate(tensors.items()):
        encoded = lib.text(name, "a tensor's name")
        if is_torch(value):
            data, dtype, shape, hold = _of_torch(value, name)
        elif _is_numpy(value):
            data, dtype, shape, hold = _of_numpy(value, name)
        elif hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
            data, dtype, shape, hold = _of_dlpack(value, name)
        else:
            raise lib.InvalidError(f"{name} is no tensor but {type(value).__name__}: NumPy, torch "
                                   "and whatever has __dlpack__ can be read")
        if len(shape) > lib.MAX_DIMS:
            raise lib.InvalidError(f"{name} has {len(shape)} dimensions, at most {lib.MAX_DIMS}")
        if not data and 0 not in shape:
            raise lib.InvalidError(f"{name} has no memory of its own that could be read")
        kept += [hold, encoded]
        row = array[i]
        row.name = encoded
        row.tensor.data = data or c.addressof(empty)
        row.tensor.dtype, row.tensor.ndim = dtype, len(shape)
        for axis, extent in enumerate(shape):
            row.tensor.shape[axis] = extent
    return array, len(tensors), (kept, empty)
