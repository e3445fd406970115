"""Reads the field's model files without running the code that they may hold: .pkl, .npz, .npy, .safetensors.

Published models come as pickles, or as numpy's files that may hold pickles. A pickle can run any code when
Python reads it; here it is read as data (`partfit.safe_pickle`). `partfit convert` writes such a file as
safetensors, which holds no code and is read faster.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.lib.format as npy
import safetensors.numpy
from attrs import field, frozen

from partfit.errors import ModelFileError, OutputError
from partfit.files import atomic_write
from partfit.pickled_objects import lists_of_text, plain_array, read_objects

#: No model file is larger than this: 1 GiB; nor are the arrays packed in an .npz.
MAX_BYTES = 2**30

#: The key of the metadata in which `write_model_file` keeps what is no array.
_TREE = "partfit.entries"


@frozen
class ModelFile:
    """What a model file holds.

    Attributes:
        path: The file.
        entries: Its arrays (read-only), texts, numbers, None, and lists and dictionaries of them, by name.
        hint: Where to get the file; ends every error.
    """

    path: Path
    entries: Mapping[str, Any] = field(repr=lambda entries: str(list(entries)))
    hint: str = ""

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name."""
        return name in self.entries

    def reals(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An entry as finite real numbers.

        Args:
            name: The entry.
            shape: Its shape; None for an axis of any length.

        Returns:
            A float64 copy.

        Raises:
            ModelFileError: if the entry is missing, has another shape or dtype, or holds NaN or infinity.
        """
        array = self._array(name, shape)
        bad = array.size - np.count_nonzero(np.isfinite(array))
        if bad:
            raise self.error(f"finite numbers in {name!r}", f"{bad} of {array.size} that are NaN or infinite")
        return array.astype(np.float64)

    def indices(self, name: str, shape: tuple[int | None, ...], upper: int | None = None) -> np.ndarray:
        """An entry as whole numbers that are not negative and below `upper`, if that is given.

        Returns:
            An int64 copy.

        Raises:
            ModelFileError: if the entry is missing, has another shape or dtype, or holds other numbers.
        """
        array = self._array(name, shape)
        limit = 2**62 if upper is None else upper
        good = (array >= 0) & (array < limit) & (np.floor(array) == array)
        if not good.all():
            allowed = "whole numbers from 0" + ("" if upper is None else f" to {upper - 1}")
            raise self.error(f"{allowed} in {name!r}", f"{array[~good][0]}")
        return array.astype(np.int64)

    def error(self, expected: str, found: str) -> ModelFileError:
        """An error about this file."""
        return ModelFileError(self.path, expected, found, self.hint)

    def _array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An entry as real or whole numbers of a shape, by way of a list or a number if it is that."""
        if name not in self.entries:
            names = ", ".join(sorted(self.entries)) or "nothing"
            raise self.error(f"an entry {name!r}", f"only: {names}")
        wanted = _shape_text(shape)
        try:
            array = np.asarray(self.entries[name])
        except ValueError as error:
            raise self.error(f"shape {wanted} of {name!r}", "lists of different lengths") from error
        if array.dtype.kind not in "iuf":
            raise self.error(f"numbers in {name!r}", f"{_kind_text(self.entries[name])}")
        if len(array.shape) != len(shape) or any(
            n not in (None, m) for n, m in zip(shape, array.shape, strict=True)
        ):
            raise self.error(f"shape {wanted} of {name!r}", _shape_text(array.shape))
        return array


def read_model_file(path: str | Path, *, hint: str = "") -> ModelFile:
    """Read a model file without running anything in it.

    Arrays of chumpy and of PyTorch and sparse matrices become numpy's arrays; arrays of texts and of objects
    become lists. A file that holds no dictionary but a single value has it under the name `array`.

    Args:
        path: A .pkl, .npz, .npy or .safetensors file.
        hint: Where to get the file; ends every error.

    Raises:
        ModelFileError: if the file is missing, is none of these, is damaged, is too large, or asks for
            anything but arrays.
    """
    path = Path(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        expected = f"a file of a kind that holds models ({', '.join(_KINDS)})"
        raise ModelFileError(path, expected, path.suffix or "a name without a suffix", hint)
    content = _content(path, kind, hint)
    try:
        found = kind.read(content)
        entries = found if isinstance(found, dict) else {"array": found}
        for _, array in named_arrays(entries):
            array.setflags(write=False)
    except Exception as error:  # a damaged or malicious file makes readers fail in any way
        raise ModelFileError(path, kind.text, f"one that cannot be used: {_reason(error)}", hint) from error
    return ModelFile(path, entries, hint)


def write_model_file(path: str | Path, entries: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write a model's entries as safetensors; `read_model_file` reads them as they were.

    Arrays in dictionaries and lists are named by the way to them, as `landmarks/faces` or `rows/0`.
    Everything else is kept as JSON in the file's metadata.

    Args:
        path: The file; ends in .safetensors.
        entries: Arrays of whole or real numbers or truth values, texts, numbers, None, and lists and
            dictionaries of them.
        metadata: What the file is to say about itself.

    Raises:
        OutputError: if the file cannot be written or has another suffix, or two arrays would have one name.
        TypeError: if a value is of none of these kinds.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OutputError(f"Cannot write {path}: expected a name that ends in .safetensors.")
    arrays: dict[str, np.ndarray] = {}
    for name, array in named_arrays(entries):
        if name in arrays or name == "__metadata__":
            raise OutputError(f"Cannot write {path}: expected names that differ, found {name!r} twice.")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers or truth values, found {array.dtype}.")
        arrays[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    tree = json.dumps(entries, default=_no_json)
    content = safetensors.numpy.save(arrays, {**metadata, _TREE: tree})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def named_arrays(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in entries, with their names in a safetensors file."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from named_arrays(part, f"{name}/{key}" if name else key)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from named_arrays(part, f"{name}/{number}")


# the kinds of files


def _read_npz(content: bytes) -> dict[str, Any]:
    entries = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_BYTES:
            raise UnpicklingError(f"its arrays would need {size} bytes; no model has more than {MAX_BYTES}")
        for member in members:
            if not member.filename.endswith(".npy"):
                raise UnpicklingError(f"it holds {member.filename!r}, which is no array")
            entries[member.filename.removesuffix(".npy")] = _read_npy(archive.read(member))
    return entries


def _read_npy(content: bytes) -> Any:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header parsing")
        shape, fortran, dtype = read_header(stream)
    numbers = content[stream.tell() :]
    if dtype == np.dtype(object):
        return read_objects(numbers)
    array = plain_array(numbers, dtype.str, shape, "F" if fortran else "C")
    return lists_of_text(array) if array.dtype.kind in "SU" else array


def _read_safetensors(content: bytes) -> dict[str, Any]:
    arrays = safetensors.numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tree = header.get("__metadata__", {}).get(_TREE)
    return dict(arrays) if tree is None else _with_arrays(json.loads(tree), arrays)


def _with_arrays(value: Any, arrays: Mapping[str, np.ndarray], name: str = "") -> Any:
    """The tree of entries, with each array where `named_arrays` found it."""
    if name in arrays:
        return arrays[name]
    if isinstance(value, dict):
        return {
            key: _with_arrays(part, arrays, f"{name}/{key}" if name else key) for key, part in value.items()
        }
    if isinstance(value, list):
        return [_with_arrays(part, arrays, f"{name}/{number}") for number, part in enumerate(value)]
    return value


@frozen
class _Kind:
    """A kind of file: what it is called, how it begins (if it always begins so), what reads it."""

    text: str
    signature: bytes | None
    read: Callable[[bytes], Any]


_KINDS = {
    ".npz": _Kind("an .npz file of arrays", b"PK\x03\x04", _read_npz),
    ".npy": _Kind("an .npy file of an array", b"\x93NUMPY", _read_npy),
    ".pkl": _Kind("a pickle of a model's arrays", None, read_objects),
    ".safetensors": _Kind("a safetensors file", None, _read_safetensors),
}

#: What files are by how they begin, for those that have the wrong name or are no models at all.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive (the download itself, to be unpacked, or an .npz under another name)",
    b"\x93NUMPY": "an .npy file under another name",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"Rar!": "a RAR archive, to be unpacked first",
    b"version https://git-lfs": "a Git LFS pointer in place of the file (run `git lfs pull`)",
    b"<!doctype html": "a web page, perhaps the form to log in before the download",
    b"<html": "a web page, perhaps the form to log in before the download",
}


def _content(path: Path, kind: _Kind, hint: str) -> bytes:
    """The bytes of a file that may be of its kind.

    Raises:
        ModelFileError: if there is no such file, or it is empty, too large or begins as another kind does.
    """
    try:
        if not path.exists():
            raise ModelFileError(path, kind.text, "no such file", hint)
        if not path.is_file():
            raise ModelFileError(path, kind.text, "a folder" if path.is_dir() else "a device", hint)
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise ModelFileError(
                path, kind.text, f"a file of {size} bytes" if size else "an empty file", hint
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            path, kind.text, f"a file that cannot be read: {error.strerror}", hint
        ) from error
    start = content[:512].lstrip().lower()
    for signature, text in _SIGNATURES.items():
        if start.startswith(signature.lower()) and signature != kind.signature:
            raise ModelFileError(path, kind.text, text, hint)
    return content


# words


def _reason(error: Exception) -> str:
    """What is wrong with a file, short and fit for a terminal."""
    text = (
        str(error)
        if isinstance(error, UnpicklingError)
        else f"it is damaged ({type(error).__name__}: {error})"
    )
    return "".join(letter if letter.isprintable() else "?" for letter in text[:400]).rstrip(". ")


def _no_json(value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"expected an array, text, number, None, list or dictionary, found {type(value)}.")


def _shape_text(shape: tuple[int | None, ...]) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _kind_text(value: Any) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
