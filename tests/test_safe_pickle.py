"""Files that attack whoever reads them: nothing in them is run, and each ends in a `ModelFileError`."""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from partfit.errors import ModelFileError
from partfit.model_files import read_model_file, write_model_file
from partfit.safe_pickle import MAX_BYTES, MAX_STEPS
from partfit.testing.official.pickles import write_pickle

EXTENSION = 240


def line(text: str) -> bytes:
    return b"S" + repr(text).encode() + b"\n"


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def touch(canary: Path) -> str:
    return f"touch {canary}"


class Reduced:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def python_code(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


#: Pickles that write the canary when Python itself reads them, and the name that the error gives.
WORKING: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "system": (lambda c: pickle.dumps({"v_template": Reduced(os.system, touch(c))}), "posix.system"),
    "system of Python 2": (lambda c: b"cos\nsystem\n(" + line(touch(c)) + b"tR.", "os.system"),
    "eval": (lambda c: pickle.dumps(Reduced(eval, python_code(c)), 2), "__builtin__.eval"),
    "exec": (lambda c: pickle.dumps(Reduced(exec, python_code(c)), 4), "builtins.exec"),
    "getattr": (
        lambda c: (
            b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR("
            + line(touch(c))
            + b"tR."
        ),
        "__builtin__.getattr",
    ),
    "partial": (
        lambda c: b"cfunctools\npartial\n(cos\nsystem\n" + line(touch(c)) + b"tR(tR.",
        "functools.partial",
    ),
    "other function of numpy": (
        lambda c: (
            b"cnumpy.testing\nrundocs\n0cnumpy.testing._private.utils\nrunstring\n("
            + line(python_code(c))
            + b"}tR."
        ),
        "numpy.testing.rundocs",
    ),
    "dotted name": (
        lambda c: b"\x80\x04" + short("ntpath") + short("os.system") + b"\x93" + short(touch(c)) + b"\x85R.",
        "ntpath.os.system",
    ),
    "dotted name below an allowed module": (
        lambda c: (
            b"\x80\x04"
            + short("numpy")
            + short("testing._private.utils.runstring")
            + b"\x93"
            + short(python_code(c))
            + b"}\x86R."
        ),
        "numpy.testing._private.utils.runstring",
    ),
}

#: Pickles that Python refuses or that do harm in another way, and what the error says.
REFUSED: dict[str, tuple[bytes, str]] = {
    "INST": (b"(" + line("true") + b"ios\nsystem\n.", "no place"),
    "OBJ": (b"(cnumpy\ndtype\n" + line("f8") + b"o.", "no place"),
    "foreign class": (
        b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
        "subprocess.Popen",
    ),
    "allowed name in two halves": (
        b"\x80\x04" + short("numpy._core") + short("multiarray._reconstruct") + b"\x93.",
        "numpy._core.multiarray._reconstruct",
    ),
    "name that is no text": (b"\x80\x04K\x01K\x02\x93.", "no text"),
    "state of a class": (b"cnumpy\nndarray\n}(S'shape'\nK\x01ub.", "sets the state"),
    "state of a function": (b"ccopy_reg\n_reconstructor\n(N}(S'__code__'\nNutb.", "sets the state"),
    "call of a text": (b"S'eval'\n(S'1'\ntR.", "no function"),
    "call of a call": (b"cnumpy\ndtype\n(S'f8'\ntR(tR.", "no function"),
    "reconstruction of a reconstruction": (
        b"ccopy_reg\n_reconstructor\n(ccopy_reg\n_reconstructor\ntR.",
        "a copyreg._reconstructor",
    ),
    "class as a value": (b"}(S'a'\ncnumpy\nndarray\nu.", "numpy.ndarray"),
    "dtype as a value": (b"}(S'a'\ncnumpy\ndtype\n(S'f8'\ntRu.", "numpy.dtype"),
    "persistent id": (b"Pos.system\n.", "no place"),
    "persistent id from the stack": (b"S'os.system'\nQ.", "outside of the file"),
    "extension": (b"\x80\x02\x82" + bytes([EXTENSION]) + b"(S'true'\ntR.", "no place"),
    "long extension": (b"\x80\x02\x84" + struct.pack("<i", EXTENSION) + b".", "no place"),
    "buffer from outside": (b"\x80\x05\x97.", "no place"),
    "keys that are lists": (b"}(]K\x01u.", "under a key that is no text or whole number"),
    "keys that are tuples": (
        b"}(" + b")" + b"\x85" * 100_000 + b"K\x01u.",
        "under a key that is no text or whole number",
    ),
    "keys that are arrays": (
        b"}(cnumpy\ndtype\n(S'f8'\ntRK\x01u.",
        "under a key that is no text or whole number",
    ),
    "append to a dictionary": (b"}K\x01a.", "no list"),
    "items of a list": (b"](K\x01K\x01u.", "an item of no dictionary"),
    "structured array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(tR(K\x01)cnumpy\ndtype\n(S'V8'\ntR\x89S''\ntb.",
        "dtype 'V8'",
    ),
}


def laugh(number: int) -> bytes:
    """A list of ten times the list of one number less."""
    return b"](" + (b"h" + bytes([number])) * 10 + b"eq" + bytes([number + 1]) + b"0"


def tensor(*sizes: bytes) -> bytes:
    """A tensor of PyTorch that says of itself that it has these sizes, and has a storage of two numbers."""
    content = pickle.dumps(torch.zeros(2), 2)[2:]
    place = content.rindex(b"K\x02\x85")
    return (
        b"\x80\x02}U\x01a" + content[:place] + b"(" + b"".join(sizes) + b"t" + content[place + 3 : -1] + b"s."
    )


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(tR"

TOO_MUCH = f"would need more than {MAX_BYTES} bytes"

#: Five pickles, as PyTorch's storages are, of which the first ones do nothing for long.
STORAGE = (b"N0" * (MAX_STEPS // 4) + b"N.") * 3


def array(dtype: bytes, content: bytes) -> bytes:
    """An array of numpy of one axis of items of one byte."""
    return (
        RECONSTRUCT
        + b"(K\x01(I%d\ntcnumpy\ndtype\n(S'%s'\ntR\x89" % (len(content), dtype)
        + b"B"
        + struct.pack("<I", len(content))
        + content
        + b"tb"
    )


def sparse(rows: int, columns: int) -> bytes:
    """A sparse matrix with one number."""
    shape = b"(I%d\nI%d\nt" % (rows, columns)
    starts = array(b"u1", bytes([0] + [1] * rows)) if rows < 10 else b"N"
    return (
        b"cscipy.sparse.csr\ncsr_matrix\n)\x81}(S'_shape'\n"
        + shape
        + b"S'indices'\n"
        + array(b"u1", b"\0")
        + b"S'indptr'\n"
        + starts
        + b"S'data'\n"
        + array(b"i1", b"\1")
        + b"ub"
    )


def again(value: bytes, times: int = 200) -> bytes:
    """A dictionary with a list of one value many times over."""
    return value + b"p77\n0}S'a'\n(" + b"g77\n" * times + b"ls."


#: Small files that ask for much memory or for endless work, and what the error says.
BOMBS: dict[str, tuple[bytes, str]] = {
    "bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".", f"{2**60} bytes are announced"),
    "text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".", f"{2**40} bytes are announced"),
    "number": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", f"{2**31 - 1} bytes are announced"),
    "negative size": (b"\x80\x02\x8b" + struct.pack("<i", -1) + b".", "-1 bytes are announced"),
    "digits": (b"L" + b"9" * 100_000 + b"\n.", "a whole number in it has 100000 digits"),
    "number of many bytes": (
        b"\x80\x02}\x8b" + struct.pack("<i", 100_000) + b"\x01" * 100_000 + b"Ns.",
        "a whole number in it has 100000 bytes",
    ),
    "frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", f"{2**62} bytes are announced"),
    "memo": (b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"j\0\0\0\0.", "it is damaged (KeyError: 0)"),
    "shape": (
        b"}(S'a'\n" + RECONSTRUCT + b"(K\x01(L9999999999L\nI3\ntcnumpy\ndtype\n(S'f8'\ntR\x89S''\ntbu.",
        "needs 239999999976 bytes, 0 are there",
    ),
    "shape of no bytes": (
        b"}(S'a'\n" + RECONSTRUCT + b"(K\x01(L9999999999L\ntcnumpy\ndtype\n(S'S0'\ntR\x89S''\ntbu.",
        "unknown dtype 'S0'",
    ),
    "endless lists of no texts": (
        b"}(S'a'\n" + RECONSTRUCT + b"(K\x01(L1099511627776L\nI0\ntcnumpy\ndtype\n(S'S1'\ntR\x89S''\ntbu.",
        "an array of texts has 2 axes",
    ),
    "negative shape": (
        b"}(S'a'\n" + RECONSTRUCT + b"(K\x01(I-1\nI-1\ntcnumpy\ndtype\n(S'b1'\ntR\x89S'a'\ntbu.",
        "the shape of an array is damaged",
    ),
    "many axes": (
        b"}(S'a'\n" + RECONSTRUCT + b"(K\x01(" + b"K\x01" * 1000 + b"tcnumpy\ndtype\n(S'O8'\ntR\x89]Natbu.",
        "the shape of an array is damaged",
    ),
    "tensor of a broken size": (tensor(b"F1.0\n"), "the shape of an array is damaged"),
    "tensor of more numbers than it has": (tensor(b"I9999999\n", b"I9\n"), "has a storage of 2 numbers"),
    "list in itself": (b"}(S'a'\n]q\x00h\x00au.", "nested too deep"),
    "array in itself": (
        b"}(S'a'\n" + RECONSTRUCT + b"p0\n(K\x01(K\x01tcnumpy\ndtype\n(S'O8'\ntR\x89(g0\nltbu.",
        "nested too deep",
    ),
    "deep lists": (b"}(S'a'\n" + b"]" * 50_000 + b"a" * 49_999 + b"u.", "nested too deep"),
    "deep objects": (
        b"}(S'a'\n" + b"cchumpy.ch\nCh\n)\x81}(S'x'\n" * 5_000 + b"N" + b"ub" * 5_000 + b"u.",
        "nested too deep",
    ),
    "laughs": (
        b"}(S'a'\n]q\x000" + b"".join(laugh(number) for number in range(20)) + b"h\x14u.",
        f"more than {MAX_STEPS} instructions and values",
    ),
    "sparse matrix": (
        b"}(S'a'\ncscipy.sparse.csc\ncsc_matrix\n)\x81}S'_shape'\n(I1048576\nI1048576\ntsbu.",
        "a sparse matrix of 1048576 x 1048576 is too large",
    ),
    "sparse matrix of bytes": (again(sparse(2**12, 2**11)), "a sparse matrix of 4096 x 2048 is too large"),
    "text again and again": (again(b"T" + struct.pack("<i", 10**6) + b"x" * 10**6), TOO_MUCH),
    "bytes again and again": (again(b"B" + struct.pack("<I", 10**6) + b"x" * 10**6), TOO_MUCH),
    "encoded bytes again and again": (
        again(b"c_codecs\nencode\n(X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"tR"),
        TOO_MUCH,
    ),
    "texts again and again": (again(array(b"S1", b"y" * 200_000)), f"more than {MAX_STEPS} instructions"),
    "array again and again": (again(array(b"u1", b"y" * 10**6), 2000), TOO_MUCH),
    "long names": (
        b"T" + struct.pack("<i", 10**5) + b"x" * 10**5 + b"q\x000}U\x01a](" + b"}h\x00Ns" * 200 + b"es.",
        TOO_MUCH,
    ),
    "storage again and again": (
        again(
            b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(STORAGE)) + STORAGE + b"\x85R", 1
        ),
        f"more than {MAX_STEPS} instructions",
    ),
}


def as_object_array(content: bytes) -> bytes:
    """An .npy file of an object array whose pickle is this."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + content


def as_npz(*contents: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.npy", as_object_array(content))
    return stream.getvalue()


WRAPPED: dict[str, Callable[[bytes], bytes]] = {".pkl": bytes, ".npy": as_object_array, ".npz": as_npz}


@pytest.mark.parametrize("attack", WORKING)
def test_the_attacks_work_on_python_itself(attack: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(WORKING[attack][0](canary))
    assert canary.exists()


@pytest.mark.parametrize("suffix", WRAPPED)
@pytest.mark.parametrize("attack", WORKING)
def test_attacks_are_refused_and_not_run(attack: str, suffix: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"model{suffix}"
    make, name = WORKING[attack]
    path.write_bytes(WRAPPED[suffix](make(canary)))
    with pytest.raises(ModelFileError) as caught:
        read_model_file(path, hint="Get it anew from its authors.")
    assert not canary.exists()
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert f"it asks for {name}: it is no model file or was tampered with" in message
    assert message.endswith("Get it anew from its authors.")


@pytest.mark.parametrize("attack", REFUSED)
def test_other_attacks_are_refused(attack: str, tmp_path: Path) -> None:
    content, reason = REFUSED[attack]
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_model_file(path)
    assert reason in str(caught.value)


def test_extensions_that_are_known_to_this_process_are_refused(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pkl"
    content = b"\x80\x02\x82" + bytes([EXTENSION]) + b"(" + line(touch(canary)) + b"tR."
    path.write_bytes(content)
    copyreg.add_extension("os", "system", EXTENSION)
    try:
        pickle.loads(content)  # which also puts os.system in Python's cache of extensions
        assert canary.exists()
        canary.unlink()
        with pytest.raises(ModelFileError, match="no place in a model file"):
            read_model_file(path)
    finally:
        copyreg.remove_extension("os", "system", EXTENSION)
        copyreg.clear_extension_cache()
    assert not canary.exists()


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_in_an_error_and_take_little_memory(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    content, reason = BOMBS[bomb]
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            read_model_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reason in str(caught.value)
    assert peak < 2**25


def test_endless_instructions_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"N0" * (MAX_STEPS // 2) + b"N.")
    with pytest.raises(ModelFileError, match=f"it has more than {MAX_STEPS} instructions"):
        read_model_file(path)


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("indices", [0, 9]),
        ("indices", [0, -1]),
        ("indices", [0]),
        ("indices", [0.0, 1.0]),
        ("indptr", [0, 1, 9]),
        ("indptr", [0, 9, 2]),
        ("indptr", [-1, 1, 2]),
        ("indptr", []),
        ("data", [1.0, 2.0, 3.0]),
        ("data", []),
        ("_shape", (1, 1)),
        ("_shape", (-2, -2)),
        ("_shape", (2**20, 2**20)),
        ("_shape", "ab"),
    ],
)
def test_damaged_sparse_matrices_are_refused(kind: str, name: str, values: Any, tmp_path: Path) -> None:
    """Some of these crash scipy."""
    path = tmp_path / "model.pkl"
    matrix = getattr(scipy.sparse, kind)(np.diag([3.0, 4.0]))
    path.write_bytes(pickle.dumps({"J_regressor": matrix}))
    np.testing.assert_array_equal(read_model_file(path).entries["J_regressor"], np.diag([3.0, 4.0]))
    matrix.__dict__[name] = np.array(values) if isinstance(values, list) else values
    path.write_bytes(pickle.dumps({"J_regressor": matrix}))
    with pytest.raises(ModelFileError):
        read_model_file(path)


def test_a_tensor_of_many_rows_of_no_numbers_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(tensor(b"L1099511627776L\n", b"K\x00"))
    assert read_model_file(path).entries["a"].shape == (2**40, 0)


def chumpy_of_sparse(count: int) -> bytes:
    """Chumpy's arrays, which are of float64, of sparse matrices of bytes as large as they may be."""
    made = b"cchumpy.ch\nCh\n)\x81}S'x'\n" + sparse(4, 2**20) + b"sb"
    return b"}(" + b"".join(line(f"n{number}") + made for number in range(count)) + b"u."


def test_all_members_of_a_file_draw_on_one_budget(tmp_path: Path) -> None:
    """Four million float64 of a few hundred bytes each; the error comes before memory is taken."""
    path = tmp_path / "model.npz"
    path.write_bytes(as_npz(*[chumpy_of_sparse(2)] * 3))
    assert len(read_model_file(path).entries) == 3
    path.write_bytes(as_npz(*[chumpy_of_sparse(2)] * 10))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=TOO_MUCH):
            read_model_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES


def test_arrays_of_texts_of_what_are_no_letters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npy"
    np.save(path, np.array([0x110000], np.uint32).view("U1"))
    with pytest.raises(ModelFileError, match=r"it is damaged \(UnicodeDecodeError"):
        read_model_file(path)


def test_headers_that_ask_for_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npy"
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
    )
    path.write_bytes(stream.getvalue() + bytes(64))
    with pytest.raises(ModelFileError, match="needs 8000000000000000000 bytes, 64 are there"):
        read_model_file(path)


def packed(method: int, size: int, claimed: int) -> bytes:
    """An archive of zeros that says of its member that it has another size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.npy", bytes(size))
    content = bytearray(stream.getvalue())
    directory = content.rindex(b"PK\x01\x02")
    for place in (22, directory + 24):
        content[place : place + 4] = struct.pack("<I", claimed)
    return bytes(content)


@pytest.mark.parametrize(
    ("method", "claimed", "reason"),
    [
        (zipfile.ZIP_DEFLATED, 10, "it is damaged (BadZipFile: Bad CRC-32"),
        (zipfile.ZIP_DEFLATED, 2**31, TOO_MUCH),
        (zipfile.ZIP_DEFLATED, 2**29, "does not have the size that the archive names"),
        (zipfile.ZIP_BZIP2, 10, "is packed in a way that numpy does not use"),
        (zipfile.ZIP_LZMA, 10, "is packed in a way that numpy does not use"),
    ],
)
def test_archives_that_lie_about_sizes_take_little_memory(
    method: int, claimed: int, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(packed(method, 2**26, claimed))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            read_model_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reason in str(caught.value)
    assert peak < 2**25 or claimed == 2**29


def test_archives_of_endless_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"PK\x03\x04" + b"PK\x01\x02" * MAX_STEPS)
    with pytest.raises(ModelFileError, match=f"more than {MAX_STEPS} instructions and values"):
        read_model_file(path)


def test_names_that_would_write_on_the_terminal_are_shown_harmless(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cos\n\x1b[2Jsystem" + b"x" * 10_000 + b"\n.")
    with pytest.raises(ModelFileError) as caught:
        read_model_file(path)
    assert str(caught.value).isprintable()
    assert r"\x1b[2Jsystem" in str(caught.value)
    assert len(str(caught.value)) < 1000


def valid_files(folder: Path, canary: Path) -> list[Path]:
    """One small file of each kind, and an attack."""
    entries = {
        "f": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "shapedirs": np.arange(12.0).reshape(2, 3, 2),
        "posedirs": np.arange(6.0),
        "J_regressor": np.eye(2, 3),
        "bs_style": "lbs",
        "names": ["jaw", {"x": (1, 2.5, None, True)}],
    }
    for name, python2 in {"old": True, "new": False}.items():
        taken = {"chumpy": ["posedirs"], "selections": ["shapedirs"]} if python2 else {}
        write_pickle(folder / f"{name}.pkl", entries, sparse=["J_regressor"], python2=python2, **taken)
    (folder / "zero.pkl").write_bytes(pickle.dumps(entries, 0))
    others = {
        "tensor": torch.eye(2),
        "csc": scipy.sparse.csc_matrix(np.eye(2)),
        "csr": scipy.sparse.csr_array(np.eye(2)),
    }
    (folder / "five.pkl").write_bytes(pickle.dumps({**entries, **others}, 5))
    (folder / "attack.pkl").write_bytes(WORKING["system of Python 2"][0](canary))
    np.save(folder / "object.npy", np.array(entries, dtype=object), allow_pickle=True)
    np.savez(folder / "arrays.npz", f=entries["f"], names=np.array([entries], dtype=object))
    write_model_file(folder / "safe.safetensors", entries, {})
    return sorted(folder.iterdir())


@given(data=st.data())
def test_damaged_files_load_or_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "valid"
    canary = folder.with_name("canary-of-damaged-files")
    if not folder.exists():
        folder.mkdir()
        valid_files(folder, canary)
    source = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(source.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[place] = value
    start = data.draw(st.just(0) | places)
    end = data.draw(st.just(len(content)) | places)
    copy = folder.with_name(f"damaged{source.suffix}")
    copy.write_bytes(content[:end] + (content[start:] if start else b""))
    with contextlib.suppress(ModelFileError):
        read_model_file(copy)
    assert not canary.exists()
