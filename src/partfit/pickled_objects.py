"""The arrays in pickled model files, made of the records of `partfit.safe_pickle`.

Known are numpy's arrays and numbers, scipy's compressed sparse matrices, PyTorch's tensors, and the two kinds
of chumpy objects that model files hold: `Ch` (an array) and `Select` (some places of a flattened array).
chumpy itself is not needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, Literal, TypeAlias

import numpy as np

from partfit.safe_pickle import Budget, Call, Name, read_pickle

#: Values may be nested so deep; a published file nests two levels.
MAX_DEPTH = 32

#: A sparse matrix has at most so many places: 32 MiB as float64.
MAX_DENSE_SIZE = 2**22

#: A letter is charged as so many bytes: model files hold little text.
TEXT_COST = 100

#: How an array lies in memory: row by row, or column by column (Fortran).
Order: TypeAlias = Literal["C", "F"]

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O|O8")

_TORCH_STORAGES = {
    "torch.BoolStorage": "b1",
    "torch.ByteStorage": "u1",
    "torch.CharStorage": "i1",
    "torch.ShortStorage": "i2",
    "torch.IntStorage": "i4",
    "torch.LongStorage": "i8",
    "torch.HalfStorage": "f2",
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
}


def read_objects(content: bytes, budget: Budget) -> Any:
    """Read a pickle of dictionaries, lists, texts, numbers and arrays, without running anything in it.

    Args:
        content: The pickle.
        budget: What is left for its file. Each value is a step, however often it is referred to.

    Returns:
        Dictionaries with text keys, lists, texts, numbers, None and arrays. Sparse matrices, tensors and
        chumpy's objects become arrays; arrays of texts and of objects become lists.

    Raises:
        UnpicklingError: if the pickle asks for anything else, is cut off, or is out of all proportion.
        Exception: of some other kind, if it is damaged.
    """
    tree, _ = read_pickle(content, ALLOWED, budget)
    return _Builder(budget).value(tree)


def plain_array(content: bytes | memoryview, dtype: str, shape: tuple[int, ...], order: Order) -> np.ndarray:
    """The array that lies in some bytes, in this machine's byte order; a view of them where that is possible.

    Args:
        content: All the bytes of the array.
        dtype: numpy's code, as "<f8".
        shape: Its shape.
        order: "C" or "F".

    Raises:
        UnpicklingError: if the bytes are too few or too many for the shape, or the dtype is not one of
            numbers or texts.
    """
    if not _DTYPE.fullmatch(dtype.lstrip("<>|=")) or "O" in dtype:
        raise UnpicklingError(f"an array has the unknown dtype {dtype!r}")
    kind = np.dtype(dtype)
    announced = _size(shape) * kind.itemsize
    if announced != len(content):
        raise UnpicklingError(
            f"an array of shape {shape} and dtype {dtype} needs {announced} bytes, {len(content)} are there"
        )
    array: np.ndarray = np.ndarray(shape, kind, content, order=order)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def without_texts(array: np.ndarray, budget: Budget) -> Any:
    """An array of numbers as it is; one of texts as a text or a list of texts."""
    if array.dtype.kind not in "SU":
        return array
    if array.ndim > 1:
        raise UnpicklingError(f"an array of texts has {array.ndim} axes")
    budget.spend(TEXT_COST * array.nbytes, array.size)
    if array.dtype.kind == "S":
        return np.char.decode(array, "latin1").tolist()
    array.tobytes().decode("utf-32")  # numpy makes texts even of what is no letter; this raises
    return array.tolist()


class _Builder:
    """Makes values of records: each array once, but charged at each reference as if it were another one."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._arrays: dict[int, np.ndarray] = {}
        self._depth = 0

    def value(self, node: Any) -> Any:
        if self._depth > MAX_DEPTH:
            raise UnpicklingError("its values are nested too deep")
        self._depth += 1
        result = self._value(node)
        self._depth -= 1
        size = TEXT_COST * len(result) if isinstance(result, str) else getattr(result, "nbytes", 0)
        self._budget.spend(size)
        return result

    def _value(self, node: Any) -> Any:
        if isinstance(node, Call):
            return self._arrays[id(node)] if id(node) in self._arrays else self._called(node)
        if isinstance(node, dict):
            return self._dictionary(node)
        if isinstance(node, (list, tuple)):
            return [self.value(item) for item in node]
        if isinstance(node, bytes):
            return node.decode("latin1")
        if isinstance(node, Name):
            raise UnpicklingError(f"one of its values is the function or class {node.text}")
        return node

    def _called(self, node: Call) -> Any:
        make = _MAKERS.get(node.function)
        if make is None:
            raise UnpicklingError(f"one of its values is a {node.function}")
        value = make(self, node)
        if isinstance(value, np.ndarray):
            self._arrays[id(node)] = value
        return value

    def _dictionary(self, items: dict[Any, Any]) -> dict[str, Any]:
        result = {}
        for key, value in items.items():
            name = key.decode("latin1") if isinstance(key, bytes) else str(key)
            self._budget.spend(TEXT_COST * len(name))
            result[name] = self.value(value)
        return result

    def sequence(self, node: Call) -> list[Any]:
        return self.value(node.arguments[0]) if node.arguments else []

    def encoded(self, node: Call) -> str:
        return _bytes(node).decode("latin1")

    # numpy

    def array(self, node: Call) -> Any:
        """`_reconstruct(ndarray, ...)`; its state is (version, shape, dtype, is Fortran, bytes or list)."""
        shape, dtype, fortran, content = _fields(node.state)[-4:]
        return self._array(content, dtype, shape, "F" if fortran else "C")

    def array_of_buffer(self, node: Call) -> Any:
        """`_frombuffer(bytes, dtype, shape, order)`, of protocol 5."""
        content, dtype, shape, order = node.arguments
        return self._array(content, dtype, shape, "F" if order == "F" else "C")

    def _array(self, content: Any, dtype: Any, shape: Any, order: Order) -> Any:
        code = _dtype(dtype)
        if code.endswith(("O", "O8")):
            return self._objects(content, _fields(shape))
        return without_texts(plain_array(_bytes(content), code, _fields(shape), order), self._budget)

    def _objects(self, content: Any, shape: tuple[int, ...]) -> Any:
        """Objects in a list; that of a shape of no axes as it is."""
        items = [self.value(item) for item in content]
        if _size(shape) != len(items) or len(shape) > 1:
            raise UnpicklingError(f"an array of shape {shape} has {len(items)} objects")
        return items if shape else items[0]

    def scalar(self, node: Call) -> Any:
        """`scalar(dtype, bytes)`."""
        dtype, content = node.arguments
        array = self._array(content, dtype, (), "C")
        return array.item() if isinstance(array, np.ndarray) else array

    # scipy; its own functions crash on damaged matrices

    def compressed_columns(self, node: Call) -> np.ndarray:
        state, shape = self._sparse(node)
        return _dense(shape, _whole(state["indices"]), _runs(state), state["data"])

    def compressed_rows(self, node: Call) -> np.ndarray:
        state, shape = self._sparse(node)
        return _dense(shape, _runs(state), _whole(state["indices"]), state["data"])

    def _sparse(self, node: Call) -> tuple[dict[str, Any], tuple[int, int]]:
        state = self._dictionary(_state(node))
        rows, columns = state["_shape"]
        size = _size((rows, columns))
        if size > MAX_DENSE_SIZE:
            raise UnpicklingError(f"a sparse matrix of {rows} x {columns} is too large")
        self._budget.spend(8 * size)
        return state, (rows, columns)

    # chumpy

    def chumpy_array(self, node: Call) -> np.ndarray:
        numbers = np.asarray(self.value(_state(node)["x"]))
        self._budget.spend(8 * numbers.size)
        return np.asarray(numbers, np.float64)

    def chumpy_selection(self, node: Call) -> np.ndarray:
        """Places `idxs` of the flattened `a`, in the shape `preferred_shape`."""
        state = _state(node)
        numbers, places = (np.asarray(self.value(state[name])) for name in ("a", "idxs"))
        self._budget.spend(16 * places.size)
        chosen = np.asarray(numbers.ravel()[places])
        shape = self.value(state.get("preferred_shape"))
        return chosen if shape is None else chosen.reshape(shape)

    # PyTorch

    def tensor(self, node: Call) -> np.ndarray:
        """`_rebuild_tensor_v2(storage, offset, size, stride, ...)`."""
        storage, offset, size, strides = node.arguments[:4]
        numbers = self.value(storage)
        if _size(size) == 0:
            return np.zeros(size, numbers.dtype)
        _check_whole((offset, *strides))
        if _size(size) > numbers.size:
            raise UnpicklingError(f"a tensor of size {size} has a storage of {numbers.size} numbers")
        self._budget.spend(16 * _size(size))
        places = np.asarray(offset)
        for length, stride in zip(size, strides, strict=True):
            places = places[..., None] + np.arange(length) * stride
        return np.asarray(numbers[places])

    def tensor_storage(self, node: Call) -> np.ndarray:
        """`_load_from_bytes(bytes)`: five pickles, the fourth is the storage's, then the numbers."""
        content = _bytes(node.arguments[0])
        self._budget.spend(len(content))
        position = 0
        parts = []
        for _ in range(5):
            part, position = read_pickle(content, {"torch storage", *_TORCH_STORAGES}, self._budget, position)
            parts.append(part)
        ((_, kind, *_),) = parts[3].arguments
        count = int.from_bytes(content[position : position + 8], "little")
        return plain_array(content[position + 8 :], "<" + _TORCH_STORAGES[kind.text], (count,), "C")


def _state(node: Call) -> dict[str, Any]:
    if not isinstance(node.state, dict):
        raise UnpicklingError(f"the content of a {node.function} is missing")
    return node.state


def _dense(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, data: Any) -> np.ndarray:
    """A matrix with numbers at some places, added up where places repeat."""
    values = np.asarray(data)
    result = np.zeros(shape, values.dtype)
    np.add.at(result, (rows, columns), values)
    return result


def _runs(state: dict[str, Any]) -> np.ndarray:
    """The row (or column) of each number of a compressed matrix: row k begins with number `indptr[k]`."""
    starts = _whole(state["indptr"])
    lengths = np.diff(starts)
    if starts[0] != 0 or starts[-1] != len(state["indices"]) or lengths.min(initial=0) < 0:
        raise UnpicklingError("a sparse matrix is damaged")
    return np.repeat(np.arange(len(lengths)), lengths)


def _whole(values: Any) -> np.ndarray:
    """Places in a sparse matrix."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min(initial=0) < 0:
        raise UnpicklingError("the places in a sparse matrix are damaged")
    if array.size > MAX_DENSE_SIZE:
        raise UnpicklingError(f"a sparse matrix of {array.size} places is too large")
    return array.astype(np.int64)


def _size(shape: tuple[int, ...]) -> int:
    """The number of places in an array."""
    _check_whole(shape)
    return math.prod(shape)


def _check_whole(sizes: tuple[int, ...]) -> None:
    if len(sizes) > MAX_DEPTH or any(type(n) is not int or not 0 <= n < 2**62 for n in sizes):
        raise UnpicklingError("the shape of an array is damaged")


def _fields(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise UnpicklingError("the content or the shape of an array is missing")
    return value


def _bytes(value: Any) -> bytes:
    """The bytes of an array: text of Python 2, bytes of Python 3, or how its protocols 0 to 2 write these."""
    if isinstance(value, Call) and value.function == "_codecs.encode":
        value = value.arguments[0]
    elif isinstance(value, Call) and value.function == "builtins.bytes" and not value.arguments:
        value = b""
    if isinstance(value, str):
        return value.encode("latin1")
    if not isinstance(value, bytes):
        raise UnpicklingError("the numbers of an array are missing")
    return value


def _dtype(node: Any) -> str:
    """The code in `dtype(code, False, True)` with the state (version, byte order, ...)."""
    if not isinstance(node, Call) or node.function != "numpy.dtype" or not isinstance(node.arguments[0], str):
        raise UnpicklingError("the dtype of an array is missing")
    code = node.arguments[0]
    order = node.state[1] if isinstance(node.state, tuple) else "|"
    if not _DTYPE.fullmatch(code) or order not in ("<", ">", "|", "="):
        raise UnpicklingError(f"an array has the unknown dtype {code!r}")
    return order + code


_Maker = Callable[[_Builder, Call], Any]

_MAKERS: dict[str, _Maker] = {
    "_codecs.encode": _Builder.encoded,
    "builtins.bytes": _Builder.encoded,
    "builtins.set": _Builder.sequence,
    "chumpy.ch.Ch": _Builder.chumpy_array,
    "chumpy.reordering.Select": _Builder.chumpy_selection,
    "numpy._core.multiarray._reconstruct": _Builder.array,
    "numpy._core.multiarray.scalar": _Builder.scalar,
    "numpy._core.numeric._frombuffer": _Builder.array_of_buffer,
    "scipy.sparse._csc.csc_array": _Builder.compressed_columns,
    "scipy.sparse._csc.csc_matrix": _Builder.compressed_columns,
    "scipy.sparse._csr.csr_array": _Builder.compressed_rows,
    "scipy.sparse._csr.csr_matrix": _Builder.compressed_rows,
    "torch._utils._rebuild_tensor_v2": _Builder.tensor,
    "torch.storage._load_from_bytes": _Builder.tensor_storage,
}

#: Every name that a model file may speak of; the modules have their newest names.
ALLOWED = {
    *_MAKERS,
    "builtins.object",
    "collections.OrderedDict",
    "copyreg._reconstructor",
    "numpy.dtype",
    "numpy.ndarray",
}
