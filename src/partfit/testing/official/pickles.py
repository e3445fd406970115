"""Pickles as the field's model files are: written by Python 2, with chumpy arrays and sparse matrices.

Nothing of Python 2, chumpy or old scipy is needed: the instructions that they would write are written here.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

#: What one entry may be.
Value = np.ndarray | str | int | float | bool | None | tuple[Any, ...] | list[Any] | dict[str, Any]


def write_pickle(
    path: str | Path,
    entries: Mapping[str, Any],
    *,
    chumpy: Collection[str] = (),
    selections: Collection[str] = (),
    sparse: Collection[str] = (),
    python2: bool = True,
) -> None:
    """Write a dictionary as a pickle of protocol 2.

    Args:
        path: The file to write.
        entries: Arrays, strings, numbers, None, and lists, tuples and dictionaries of them.
        chumpy: Names of the arrays that are written as `chumpy.ch.Ch`, as FLAME's `shapedirs`.
        selections: Names of the arrays that are written as chumpy's selection from an array with twice as
            long a last axis, as MANO's `shapedirs`.
        sparse: Names of the matrices that are written as `scipy.sparse.csc.csc_matrix`, as `J_regressor`.
        python2: Whether to write as Python 2 did. If not, as this Python and its numpy and scipy do; they
            know no chumpy.

    Raises:
        ValueError: if chumpy's objects are asked for without `python2`.
        TypeError: for a value that is of none of these kinds.
    """
    if python2:
        content = _python2(entries, chumpy, selections, sparse)
    elif chumpy or selections:
        raise ValueError("chumpy's objects are written as Python 2 wrote them only; found python2=False.")
    else:
        matrices = {name: scipy.sparse.csc_matrix(entries[name]) for name in sparse}
        content = pickle.dumps({**entries, **matrices}, protocol=2)
    Path(path).write_bytes(content)


def _python2(
    entries: Mapping[str, Any], chumpy: Collection[str], selections: Collection[str], sparse: Collection[str]
) -> bytes:
    writer = _Python2Pickler()
    writer.emit(b"\x80\x02}")  # PROTO 2, EMPTY_DICT
    writer.memoize()
    writer.emit(b"(")  # MARK
    for name, value in entries.items():
        writer.value(name)
        if name in chumpy:
            writer.chumpy_array(value)
        elif name in selections:
            writer.chumpy_selection(value)
        elif name in sparse:
            writer.sparse_matrix(value)
        else:
            writer.value(value)
    writer.emit(b"u.")  # SETITEMS, STOP
    return writer.content()


class _Python2Pickler:
    """Writes what Python 2's cPickle writes; only strings and globals are looked up in the memo."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._memo: dict[tuple[str, ...], int] = {}
        self._memoized = 0

    def content(self) -> bytes:
        return b"".join(self._parts)

    def emit(self, content: bytes) -> None:
        self._parts.append(content)

    def memoize(self) -> int:
        """Put the top of the stack in the memo: BINPUT or LONG_BINPUT, counted from 1 as in cPickle."""
        self._memoized += 1
        number = self._memoized
        self.emit(b"q" + struct.pack("<B", number) if number < 256 else b"r" + struct.pack("<I", number))
        return number

    def value(self, value: Value) -> None:
        if isinstance(value, str):
            self._text(value)
        elif isinstance(value, (bool, int, float, np.number, np.bool_, type(None))):
            self._number(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, dict):
            self._dictionary(value)
        elif isinstance(value, list):
            self._list(value)
        elif isinstance(value, tuple):
            self._tuple(value)
        else:
            raise TypeError(f"expected an array, text, number, list or dictionary, found {type(value)}.")

    def chumpy_array(self, array: np.ndarray) -> None:
        self._object("chumpy.ch", "Ch", {"x": np.asarray(array, np.float64)}, fields=("x",))

    def chumpy_selection(self, array: np.ndarray) -> None:
        """The first half of the last axis, taken from the flattened whole."""
        whole = np.concatenate([array, np.zeros_like(array)], axis=-1)
        places = np.arange(whole.size).reshape(whole.shape)[..., : array.shape[-1]].ravel()
        state = {"a": whole, "idxs": places, "preferred_shape": array.shape}
        self._object("chumpy.reordering", "Select", state, fields=("a", "idxs", "preferred_shape"))

    def sparse_matrix(self, matrix: np.ndarray) -> None:
        made = scipy.sparse.csc_matrix(matrix)
        self._global("scipy.sparse.csc", "csc_matrix")
        self.emit(b")\x81")  # EMPTY_TUPLE, NEWOBJ
        self.memoize()
        self._dictionary(
            {
                "_shape": made.shape,
                "maxprint": 50,
                "indices": made.indices.astype(np.int32),
                "indptr": made.indptr.astype(np.int32),
                "data": made.data,
            }
        )
        self.emit(b"b")  # BUILD

    def _object(self, module: str, name: str, state: Mapping[str, Any], fields: tuple[str, ...]) -> None:
        """A chumpy object: its terms, and the bookkeeping that chumpy keeps beside them."""
        self._global(module, name)
        self.emit(b")\x81")  # EMPTY_TUPLE, NEWOBJ
        self.memoize()
        self.emit(b"}")
        self.memoize()
        self.emit(b"(")
        self._text("_dirty_vars")
        self._set(fields)
        self._text("_itr")
        self.value(None)
        self._text("_depends_on_deps")
        self.value({})
        for key, value in state.items():
            self._text(key)
            if key == "a":
                self.chumpy_array(value)
            else:
                self.value(value)
        for key in ("_make_dense", "_make_sparse"):
            self._text(key)
            self.value(False)
        self.emit(b"ub")  # SETITEMS, BUILD

    def _set(self, members: tuple[str, ...]) -> None:
        self._global("__builtin__", "set")
        self._list(list(members))
        self.emit(b"\x85R")  # TUPLE1, REDUCE
        self.memoize()

    def _array(self, array: np.ndarray) -> None:
        self._global("numpy.core.multiarray", "_reconstruct")
        self._global("numpy", "ndarray")
        self.emit(b"K\x00\x85")  # BININT1 0, TUPLE1
        self.memoize()
        self._text("b")
        self.emit(b"\x87")  # TUPLE3
        self.memoize()
        self.emit(b"R")  # REDUCE
        self.memoize()
        self.emit(b"(K\x01")  # MARK, BININT1 1: the state's version
        self._tuple(array.shape)
        self._dtype(array.dtype)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        self.value(fortran)
        self._string(array.tobytes(order="F" if fortran else "C"))
        self.memoize()
        self.emit(b"t")  # TUPLE
        self.memoize()
        self.emit(b"b")  # BUILD

    def _dtype(self, dtype: np.dtype[Any]) -> None:
        self._global("numpy", "dtype")
        self._text(dtype.str[1:])
        self.emit(b"K\x00K\x01\x87")  # BININT1 0, BININT1 1, TUPLE3
        self.memoize()
        self.emit(b"R")  # REDUCE
        self.memoize()
        self.emit(b"(K\x03")  # MARK, BININT1 3: the state's version
        self._text(dtype.str[0])
        self.emit(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t")  # no fields; -1, -1, 0
        self.memoize()
        self.emit(b"b")  # BUILD

    def _dictionary(self, values: Mapping[str, Any]) -> None:
        self.emit(b"}")
        self.memoize()
        if values:
            self.emit(b"(")
            for key, value in values.items():
                self._text(key)
                self.value(value)
            self.emit(b"u")

    def _list(self, values: list[Any]) -> None:
        self.emit(b"]")
        self.memoize()
        if values:
            self.emit(b"(")
            for value in values:
                self.value(value)
            self.emit(b"e")  # APPENDS

    def _tuple(self, values: tuple[Any, ...]) -> None:
        if not values:
            self.emit(b")")
            return
        self.emit(b"(")
        for value in values:
            self.value(value)
        self.emit(b"t")
        self.memoize()

    def _number(self, value: Any) -> None:
        if value is None:
            self.emit(b"N")
        elif isinstance(value, (bool, np.bool_)):
            self.emit(b"\x88" if value else b"\x89")
        elif isinstance(value, (float, np.floating)):
            self.emit(b"G" + struct.pack(">d", value))
        elif 0 <= value < 2**8:
            self.emit(b"K" + struct.pack("<B", value))
        elif 0 <= value < 2**16:
            self.emit(b"M" + struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self.emit(b"J" + struct.pack("<i", value))
        else:
            content = int(value).to_bytes(9, "little", signed=True)
            self.emit(b"\x8a" + struct.pack("<B", len(content)) + content)  # LONG1

    def _text(self, text: str) -> None:
        """A text, written once."""
        if not self._recalled(("text", text)):
            self._string(text.encode("latin1"))
            self._memo["text", text] = self.memoize()

    def _string(self, content: bytes) -> None:
        """A byte string of Python 2: SHORT_BINSTRING or BINSTRING."""
        short = len(content) < 256
        self.emit(b"U" + struct.pack("<B", len(content)) if short else b"T" + struct.pack("<i", len(content)))
        self.emit(content)

    def _global(self, module: str, name: str) -> None:
        if not self._recalled(("global", module, name)):
            self.emit(f"c{module}\n{name}\n".encode())
            self._memo["global", module, name] = self.memoize()

    def _recalled(self, key: tuple[str, ...]) -> bool:
        number = self._memo.get(key)
        if number is not None:
            self.emit(b"h" + struct.pack("<B", number) if number < 256 else b"j" + struct.pack("<I", number))
        return number is not None
