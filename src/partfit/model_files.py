"""Reads the field's model files without running the code that they may hold: .pkl, .npz, .npy, .safetensors.

Published models come as pickles, or as numpy's files that may hold pickles. A pickle can run any code when
Python reads it; here it is read as data (`partfit.safe_pickle`). `partfit convert` writes such a file as
safetensors, which holds no code and is read faster.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.lib.format as npy
import safetensors.numpy
from attrs import field, frozen
from jaxtyping import Float

from partfit.errors import ModelFileError, OutputError
from partfit.files import atomic_write
from partfit.pickled_objects import MAX_DEPTH, TEXT_COST, plain_array, read_objects, without_texts
from partfit.safe_pickle import MAX_BYTES, Budget

#: The key of the metadata in which `write_model_file` keeps what is no array.
_TREE = "partfit.entries"

#: Other units than metres that files may be in; the likeliest first.
_UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "decimetres": 1e-1, "inches": 0.0254}


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

    def check_extent(self, name: str, points: Float[np.ndarray, "points 3"], low: float, high: float) -> None:
        """Check that points are in metres: the longest side of the box around them tells.

        Args:
            name: The entry that the points come from.
            points: Points of the model at rest.
            low: The least that the longest side may be, metres.
            high: The most.

        Raises:
            ModelFileError: if it is shorter or longer; says so if it fits once it is scaled.
        """
        extent = float(np.ptp(points, axis=0).max(initial=0.0)) if len(points) else 0.0
        if low <= extent <= high:
            return
        units = [unit for unit, scale in _UNITS.items() if low <= scale * extent <= high]
        looks = f", which looks like {units[0]}: scale all lengths in the file to metres" if units else ""
        raise self.error(f"an extent of {low:g} to {high:g} metres of {name!r}", f"{extent:.4g}{looks}")

    def error(self, expected: str, found: str) -> ModelFileError:
        """An error about this file."""
        return ModelFileError(self.path, expected, found, self.hint)

    def _array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An entry as real or whole numbers of a shape, by way of a list or a number if it is that."""
        if name not in self.entries:
            names = ", ".join(sorted(self.entries)) or "nothing"
            raise self.error(f"an entry {name!r}", f"only: {names[:400]}")
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
        path: A .pkl, .npz, .npy or .safetensors file; may begin with `~`.
        hint: Where to get the file; ends every error.

    Raises:
        ModelFileError: if the file is missing, is none of these, is damaged, is too large, or asks for
            anything but arrays.
    """
    path = home_path(path)
    kind = _KINDS.get(path.suffix.lower(), _NO_KIND)
    content = read_regular_file(path, kind.text, tuple(_KINDS), hint)
    start = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    for signature, text in _SIGNATURES.items():
        if re.match(signature, start, re.IGNORECASE) and text != kind.own_signature:
            raise ModelFileError(path, kind.text, text, hint)
    if kind is _NO_KIND:
        raise ModelFileError(path, kind.text, path.suffix or "a name without a suffix", hint)
    try:
        found = kind.read(content, Budget())
        entries = found if isinstance(found, dict) else {"array": found}
        for name, array in named_arrays(entries):
            if array.dtype.kind not in "biuf":
                raise UnpicklingError(f"the array {name!r} has the dtype {array.dtype}")
            array.setflags(write=False)
    except Exception as error:  # a damaged or malicious file makes readers fail in any way
        raise ModelFileError(path, kind.text, f"one that cannot be used: {_reason(error)}", hint) from error
    return ModelFile(path, entries, hint)


def read_regular_file(path: Path, expected: str, suffixes: Collection[str], hint: str = "") -> bytes:
    """The bytes of a file; a pipe or a device, which might never end, is not opened.

    Args:
        path: The file.
        expected: What it should be, for the error.
        suffixes: How the names of such files end; where the path is a folder, the error names some in it.
        hint: Where to get the file; ends the error.

    Raises:
        ModelFileError: if there is no such file, it cannot be read, is empty or is larger than 1 GiB.
    """
    try:
        if path.is_dir():
            names = (entry.name for entry in path.iterdir() if entry.suffix.lower() in suffixes)
            found = f"a folder: give one of its files: {_some(names) or 'it has none of this kind'}"
        elif not path.exists():
            found = "no such file"
        elif not path.is_file():
            found = "no regular file, but a device, a pipe or a socket"
        elif not (size := path.stat().st_size):
            found = "an empty file"
        elif size > MAX_BYTES:
            found = f"a file of {size} bytes; none is larger than {MAX_BYTES}"
        else:
            return path.read_bytes()
    except OSError as error:
        found = f"a file that cannot be read: {error.strerror}"
    raise ModelFileError(path, expected, found, hint)


def home_path(path: str | Path) -> Path:
    """A path with `~` replaced by the home folder, if that is known."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path's own raises where there is no home


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
        OutputError: if the file cannot be written or has another suffix, an entry's name is empty or no
            text, or two arrays would have one name.
        TypeError: if a value is of none of these kinds.
    """
    path = check_target(path)
    if "" in entries:
        raise OutputError(f"Cannot write {path}: expected a name for every entry, found an empty one.")
    arrays: dict[str, np.ndarray] = {}
    for name, array in named_arrays(entries):
        if name in arrays or name == "__metadata__":
            raise OutputError(f"Cannot write {path}: expected names that differ, found {name!r} twice.")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers or truth values, found {array.dtype}.")
        arrays[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    tree = json.dumps(entries, default=_no_json)
    try:
        content = safetensors.numpy.save(arrays, {**metadata, _TREE: tree})
    except UnicodeError as error:
        raise OutputError(f"Cannot write {path}: a name in it is no text ({error}).") from error
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def check_target(path: str | Path) -> Path:
    """A path that `write_model_file` can write to by its name.

    Raises:
        OutputError: if the name does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OutputError(f"Cannot write {path}: expected a name that ends in .safetensors.")
    return path


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


def _read_npz(content: bytes, budget: Budget) -> dict[str, Any]:
    budget.spend(steps=10 * content.count(b"PK\x01\x02"))  # members; Python notes much about each
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise UnpicklingError("it is cut off or damaged: download it again") from error
    with archive:
        members = archive.infolist()
        others = [member.filename for member in members if not member.filename.endswith(".npy")]
        if others:
            raise UnpicklingError(f"it is a zip archive: unpack it; it holds {_some(others)}")
        return {
            member.filename.removesuffix(".npy"): _read_npy(_unpacked(archive, member, budget), budget)
            for member in members
        }


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: Budget) -> bytes:
    """The content of a member: as much as its size says, and no more is ever unpacked."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnpicklingError(f"{member.filename!r} is packed in a way that numpy does not use")
    budget.spend(member.file_size)
    with archive.open(member) as stream:
        content = stream.read(member.file_size)
        if len(content) != member.file_size or stream.read(1):
            raise UnpicklingError(f"{member.filename!r} does not have the size that the archive names")
    return content


def _read_npy(content: bytes, budget: Budget) -> Any:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise UnpicklingError(f"its format is version {version[0]}.{version[1]}; known are 1.0 and 2.0")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header parsing")
        shape, fortran, dtype = readers[version](stream)
    start = stream.tell()
    if dtype == np.dtype(object):
        return read_objects(content[start:], budget)
    array = plain_array(memoryview(content)[start:], dtype.str, shape, "F" if fortran else "C")
    return without_texts(array, budget)


def _read_safetensors(content: bytes, budget: Budget) -> dict[str, Any]:
    metadata, arrays = safetensors_content(content, budget)
    return _with_arrays(json.loads(metadata[_TREE]), arrays) if _TREE in metadata else arrays


def safetensors_content(content: bytes, budget: Budget) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a safetensors file, these by name.

    Raises:
        UnpicklingError: if it has too large a header.
        Exception: of some other kind, if it is damaged.
    """
    size = int.from_bytes(content[:8], "little")
    budget.spend(TEXT_COST * min(size, len(content)))
    arrays = dict(sorted(safetensors.numpy.load(content).items()))  # it loads them in any order
    return json.loads(content[8 : 8 + size]).get("__metadata__", {}), arrays


def _with_arrays(value: Any, arrays: Mapping[str, np.ndarray], name: str = "", depth: int = 0) -> Any:
    """The tree of entries, with each array where `named_arrays` found it."""
    if depth > MAX_DEPTH:
        raise UnpicklingError("its values are nested too deep")
    if name in arrays:
        return arrays[name]
    if isinstance(value, dict):
        return {
            key: _with_arrays(part, arrays, f"{name}/{key}" if name else key, depth + 1)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [
            _with_arrays(part, arrays, f"{name}/{number}", depth + 1) for number, part in enumerate(value)
        ]
    return value


_ZIP = "a zip archive: unpack it (if it is an .npz file, name it so)"
_NPY = "an .npy file under another name"
_WEB_PAGE = "a web page, perhaps the form to log in before the download"


@frozen
class _Kind:
    """A kind of file: what it is called, what reads it, and what its signature is called if it has one."""

    text: str
    read: Callable[[bytes, Budget], Any]
    own_signature: str | None = None


_KINDS = {
    ".npz": _Kind("an .npz file of arrays", _read_npz, _ZIP),
    ".npy": _Kind("an .npy file of an array", _read_npy, _NPY),
    ".pkl": _Kind("a pickle of a model's arrays", read_objects),
    ".safetensors": _Kind("a safetensors file", _read_safetensors),
}
_NO_KIND = _Kind(f"a file of a kind that holds models ({', '.join(_KINDS)})", read_objects)

#: What files are by how they begin, for those that have the wrong name or are no models at all.
_SIGNATURES = {
    rb"PK[\x01\x03\x05]": _ZIP,
    rb"\x93NUMPY": _NPY,
    rb"\xff\xd8\xff": "a JPEG picture",
    rb"\x89PNG": "a PNG picture",
    rb"%PDF": "a PDF document",
    rb"\x1f\x8b\x08": "a gzip archive, to be unpacked first",
    rb"Rar!": "a RAR archive, to be unpacked first",
    rb"version https://git-lfs": "a Git LFS pointer in place of the file (run `git lfs pull`)",
    rb"<(!doctype|!--|\?xml|html|head|body)": _WEB_PAGE,
    rb'{\s*"[ -~]{3}': "a server's message (JSON) in place of the file, perhaps that a login is needed",
}


# words


def _reason(error: Exception) -> str:
    """What is wrong with a file, short and fit for a terminal."""
    known = isinstance(error, UnpicklingError)
    text = str(error) if known else f"it is damaged ({type(error).__name__}: {error})"
    return text[:400].rstrip(". ")


def _some(names: Iterable[str]) -> str:
    """Up to five names, in alphabetical order."""
    found = sorted(names)
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def _no_json(value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"expected an array, text, number, None, list or dictionary, found {type(value)}.")


def _shape_text(shape: tuple[int | None, ...]) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _kind_text(value: Any) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
