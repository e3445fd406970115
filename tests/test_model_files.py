from __future__ import annotations

import io
import os
import pickle
import pickletools
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import scipy.sparse
import torch

from partfit.errors import InputError, ModelFileError, OutputError
from partfit.model_files import ModelFile, read_model_file, write_model_file
from partfit.testing.official.pickles import write_pickle

RNG = np.random.default_rng(4)
ENTRIES: dict[str, Any] = {
    "v_template": RNG.normal(size=(7, 3)),
    "shapedirs": RNG.normal(size=(7, 3, 4)),
    "posedirs": np.asfortranarray(RNG.normal(size=(7, 3, 9))),
    "f": np.arange(12, dtype=np.uint32).reshape(4, 3),
    "weights": RNG.random((7, 2)).astype(np.float32),
    "J_regressor": np.eye(2, 7) * RNG.random((2, 7)),
    "kintree_table": np.array([[2**32 - 1, 0], [0, 1]], dtype=np.int64),
    "visible": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "bs_style": "lbs",
    "bs_type": None,
    "count": 2**40,
    "minus": -300,
    "factor": 0.1,
    "flat": False,
    "names": ["jaw", "neck"],
    "landmarks": {
        "faces": np.arange(3),
        "angles": [np.zeros(2), np.ones(3)],
        "none": {},
        "about": {"n": 300},
    },
}


def assert_same(found: Any, expected: Any) -> None:
    """Equal in structure, dtypes and numbers; byte order and memory layout may differ."""
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype.newbyteorder("=")
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for part, value in zip(found, expected, strict=True):
            assert_same(part, value)
    else:
        assert type(found) is type(expected)
        assert found == expected


# pickles


@pytest.mark.parametrize("python2", [True, False])
def test_a_pickle_is_read_as_it_was_written(python2: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    write_pickle(path, ENTRIES, sparse=["J_regressor"], python2=python2)
    file = read_model_file(path)
    assert_same(file.entries, ENTRIES)
    for array in (file.entries["f"], file.entries["J_regressor"], file.entries["landmarks"]["angles"][0]):
        assert not array.flags.writeable


def test_chumpy_arrays_and_selections_become_arrays(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    write_pickle(
        path, ENTRIES, chumpy=["v_template", "weights"], selections=["shapedirs"], sparse=["J_regressor"]
    )
    assert_same(read_model_file(path).entries, {**ENTRIES, "weights": ENTRIES["weights"].astype(np.float64)})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_python_3_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    dense = np.eye(3, 5) * 2
    tensor = torch.arange(6, dtype=torch.int32).reshape(2, 3)
    entries = {
        **ENTRIES,
        **{kind: getattr(scipy.sparse, kind)(dense) for kind in ("csc_matrix", "csr_array")},
        "number": np.float32(0.25),
        "text": np.str_("lbs"),
        "bytes": b"lbs",
        "no bytes": b"",
        "set": {3},
        "texts": np.array(["a", "bc"]),
        "objects": np.array(["a", None, 1, np.arange(2)], dtype=object),
        "tensor": tensor.T,
        "half": torch.ones(2, dtype=torch.float16),
        "number of torch": torch.tensor(3.5),
        7: 1,
    }
    path.write_bytes(pickle.dumps(entries, protocol))
    expected = {
        **ENTRIES,
        **dict.fromkeys(("csc_matrix", "csr_array"), dense),
        "number": 0.25,
        "text": "lbs",
        "bytes": "lbs",
        "no bytes": "",
        "set": [3],
        "texts": ["a", "bc"],
        "objects": ["a", None, 1, np.arange(2)],
        "tensor": tensor.numpy().T,
        "half": np.ones(2, np.float16),
        "number of torch": np.array(3.5, np.float32),
        "7": 1,
    }
    assert_same(read_model_file(path).entries, expected)


def test_text_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    """Protocol 0, as cPickle writes it by default: copy_reg, text, PUT and GET."""
    path = tmp_path / "model.pkl"
    path.write_bytes(
        b"(dp1\nS'it\\'s'\np2\nV\\u00e4\np3\nsS'k'\nI01\nsS'l'\nL5L\nsS'x'\nF0.5\nsS'n'\nNsS'i'\nI-3\ns"
        b"S'a'\ncnumpy.core.multiarray\n_reconstruct\np4\n(cnumpy\nndarray\np5\n(I0\ntS'b'\np6\ntRp7\n"
        b"(I1\n(I2\ntcnumpy\ndtype\np8\n(S'i2'\nI0\nI1\ntRp9\n(I3\nS'>'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x00\\x01\\n\\xff'\ntbs"
        b"S's'\nccopy_reg\n_reconstructor\n(cscipy.sparse.csr\ncsr_matrix\nc__builtin__\nobject\nNtRp10\n"
        b"(dp11\nS'_shape'\n(I1\nI2\ntsS'data'\ng7\nsS'indices'\n(lp12\nI1\naI0\nasS'indptr'\n(lI0\naI2\nasb"
        b"s."
    )
    numbers = np.array([1, 0x0AFF], dtype=np.int16)
    expected = {
        "it's": "ä",
        "k": True,
        "l": 5,
        "x": 0.5,
        "n": None,
        "i": -3,
        "a": numbers,
        "s": numbers[None, ::-1],
    }
    assert_same(read_model_file(path).entries, expected)


def test_the_generator_writes_what_python_2_wrote(tmp_path: Path) -> None:
    """Python reads it, with stand-ins for chumpy, and its instructions are those of real files."""
    path = tmp_path / "model.pkl"
    chumpy = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}

    class Ch:
        def __setstate__(self, state: dict[str, Any]) -> None:
            self.state = state

    chumpy["chumpy.ch"].Ch = Ch  # type: ignore[attr-defined]
    chumpy["chumpy.reordering"].Select = type("Select", (Ch,), {})  # type: ignore[attr-defined]
    write_pickle(path, ENTRIES, chumpy=["v_template"], selections=["shapedirs"], sparse=["J_regressor"])
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of scipy.sparse.csc and numpy.core
        for name, module in chumpy.items():
            patch.setitem(sys.modules, name, module)
        content = pickle.loads(path.read_bytes(), encoding="latin1")
    assert content["v_template"].state.keys() >= {
        "x",
        "_dirty_vars",
        "_itr",
        "_depends_on_deps",
        "_make_dense",
    }
    np.testing.assert_array_equal(content["v_template"].state["x"], ENTRIES["v_template"])
    selection = content["shapedirs"].state
    chosen = selection["a"].state["x"].ravel()[selection["idxs"]].reshape(selection["preferred_shape"])
    np.testing.assert_array_equal(chosen, ENTRIES["shapedirs"])
    assert scipy.sparse.issparse(content["J_regressor"])
    np.testing.assert_array_equal(content["J_regressor"].toarray(), ENTRIES["J_regressor"])
    others = {key for key in ENTRIES if key not in ("v_template", "shapedirs", "J_regressor")}
    for key in others - {"names", "landmarks"}:
        np.testing.assert_array_equal(content[key], ENTRIES[key])

    instructions = [(opcode.name, value) for opcode, value, _ in pickletools.genops(path.read_bytes())]
    assert instructions[:3] == [("PROTO", 2), ("EMPTY_DICT", None), ("BINPUT", 1)]
    names = {value for name, value in instructions if name == "GLOBAL"}
    assert names == {
        "__builtin__ set",
        "chumpy.ch Ch",
        "chumpy.reordering Select",
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray _reconstruct",
        "scipy.sparse.csc csc_matrix",
    }
    assert not {name for name, _ in instructions} & {"BINUNICODE", "STACK_GLOBAL", "BINBYTES"}


def test_the_generator_knows_its_limits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as Python 2 wrote them only"):
        write_pickle(tmp_path / "a.pkl", ENTRIES, chumpy=["v_template"], python2=False)
    with pytest.raises(TypeError, match="found <class 'set'>"):
        write_pickle(tmp_path / "a.pkl", {"a": {1}})


# numpy's files


def test_npz_files_are_read_with_the_pickles_inside_them(tmp_path: Path) -> None:
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    arrays = {name: value for name, value in ENTRIES.items() if isinstance(value, np.ndarray)}
    sparse = np.array(scipy.sparse.csc_matrix(ENTRIES["J_regressor"]))
    packed: dict[str, Any] = {
        **arrays,
        "J_regressor": sparse,
        "joint2num": np.array({"jaw": 1}),
        "bs_style": np.array("lbs"),
        "bytes": np.array(b"lbs"),
        "joints": np.array(["jaw", "neck"]),
        "scale": np.array(2.0),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **packed)
        expected = {
            **arrays,
            "joint2num": {"jaw": 1},
            "bs_style": "lbs",
            "bytes": "lbs",
            "joints": ["jaw", "neck"],
        }
        assert_same(read_model_file(path).entries, {**expected, "scale": np.array(2.0)})


def test_npy_files_of_a_dictionary_and_of_an_array_are_read(tmp_path: Path) -> None:
    """Landmark embeddings come as a dictionary in an array without axes, with tensors of PyTorch in it."""
    path = tmp_path / "landmark_embedding.npy"
    entries = {
        "static_lmk_faces_idx": np.arange(51),
        "dynamic_lmk_faces_idx": torch.arange(79 * 17).reshape(79, 17),
    }
    np.save(path, np.array(entries, dtype=object), allow_pickle=True)
    assert_same(
        read_model_file(path).entries,
        {"static_lmk_faces_idx": np.arange(51), "dynamic_lmk_faces_idx": np.arange(79 * 17).reshape(79, 17)},
    )
    np.save(path, np.asfortranarray(ENTRIES["v_template"]))
    assert_same(read_model_file(path).entries, {"array": ENTRIES["v_template"]})


def test_headers_written_by_python_2_are_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "old.npy"
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i8", "fortran_order": False, "shape": (3,)})
    header = stream.getvalue().replace(b"(3,), } ", b"(3L,), }")
    assert b"3L" in header
    path.write_bytes(header + np.arange(3).tobytes())
    assert_same(read_model_file(path).entries, {"array": np.arange(3)})


# safetensors


def test_safetensors_keep_everything(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model_file(path, ENTRIES, {"source": "model.pkl"})
    assert_same(read_model_file(path).entries, ENTRIES)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert "landmarks/angles/1" in file.keys()  # noqa: SIM118  # it is no dictionary
        assert file.metadata()["source"] == "model.pkl"


def test_safetensors_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a/b": np.arange(3)}, path)
    assert_same(read_model_file(path).entries, {"a/b": np.arange(3)})


def test_what_safetensors_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="names: expected numbers or truth values, found <U1"):
        write_model_file(tmp_path / "a.safetensors", {"names": np.array(["a"])}, {})
    with pytest.raises(TypeError, match="found <class 'complex'>"):
        write_model_file(tmp_path / "a.safetensors", {"a": 1j}, {})
    with pytest.raises(OutputError, match="found 'a/b' twice"):
        write_model_file(tmp_path / "a.safetensors", {"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}, {})
    with pytest.raises(OutputError, match="found an empty one"):
        write_model_file(tmp_path / "a.safetensors", {"": np.zeros(1)}, {})
    with pytest.raises(OutputError, match="a name in it is no text"):
        write_model_file(tmp_path / "a.safetensors", {"\udcff": np.zeros(1)}, {})
    with pytest.raises(OutputError, match=r"expected a name that ends in \.safetensors"):
        write_model_file(tmp_path / "a.npz", {}, {})
    with pytest.raises(OutputError, match=r"Cannot write .*: No such file or directory"):
        write_model_file(tmp_path / "missing" / "a.safetensors", {}, {})
    assert list(tmp_path.iterdir()) == []


# files that are no models


HTML = b"\n<!DOCTYPE html>\n<html><form action='login'></form></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.pkl", None, "no such file"),
        ("model.pkl", b"", "an empty file"),
        ("model.pkl", HTML, "a web page, perhaps the form to log in before the download"),
        ("model.npz", HTML, "a web page, perhaps the form to log in before the download"),
        ("model.pkl", b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture"),
        ("model.pkl", b"\xef\xbb\xbf" + HTML, "a web page"),
        ("model.pkl", b"<?xml version='1.0'?>" + HTML, "a web page"),
        ("model.pkl", b"<!-- page -->" + HTML, "a web page"),
        ("model.safetensors", HTML, "a web page"),
        ("model.npy", b'{"error": "log in"}', "a server's message (JSON) in place of the file"),
        ("model.pkl", b'{\n  "message": "no"}', "a server's message (JSON) in place of the file"),
        ("model.pkl", b"PK\x03\x04", "a zip archive: unpack it"),
        ("FLAME2020.zip", b"PK\x03\x04", "a zip archive: unpack it"),
        ("model.safetensors", LFS, "a Git LFS pointer"),
        ("model.npy", b"PK\x03\x04", "a zip archive"),
        ("model.npz", b"\x93NUMPY\x01\x00", "an .npy file under another name"),
        ("model.npz", b"some text", "it is cut off or damaged: download it again"),
        ("model.npz", b"PK\x03\x04" + bytes(99), "it is cut off or damaged: download it again"),
        ("model.npy", b"\x93NUMPY\x03\x00" + bytes(99), "version 3.0; known are 1.0 and 2.0"),
        ("model.npy", b"some text", "it is damaged (ValueError: the magic string is not correct"),
        ("model.pkl", b"some text", "it is damaged ("),
        ("model.pkl", b"(dp1\r\nS'a'\r\np2\r\nNs.", "changed by a program that converts line ends"),
        ("model.pkl", b"\x80\x02}q\x00U\x01a", "1 bytes are announced at byte 8, 0 are left"),
        ("model.pkl", b"S'no end", "it is cut off: the line at byte 1 has no end"),
        ("model.safetensors", b"some text", "it is damaged (SafetensorError"),
        ("model.h5", b"some text", "kind that holds models (.npz, .npy, .pkl, .safetensors), found .h5"),
        ("model", b"some text", "found a name without a suffix"),
        ("x" * 300 + ".pkl", None, "a file that cannot be read: File name too long"),
    ],
)  # fmt: skip
def test_files_that_are_no_models_are_named(
    name: str, content: bytes | None, found: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_model_file(path, hint="Register at example.org.")
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert found in message
    assert message.endswith(". Register at example.org.")


def test_folders_are_refused_and_their_files_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match="found a folder: give one of its files: it has none of this kind"
    ):
        read_model_file(tmp_path)
    for name in ("e.npz", "a.pkl", "d.npy", "b.PKL", "f.txt", "c.safetensors", "g.npz"):
        (tmp_path / name).touch()
    with pytest.raises(
        ModelFileError, match=r"files: a\.pkl, b\.PKL, c\.safetensors, d\.npy, e\.npz, \.\.\."
    ):
        read_model_file(tmp_path)


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pkl")
    (tmp_path / "endless.pkl").symlink_to("/dev/zero")
    (tmp_path / "loop.pkl").symlink_to("loop.pkl")
    for name, found in [
        ("pipe.pkl", "no regular file"),
        ("endless.pkl", "no regular file"),
        ("loop.pkl", "no such file"),
    ]:
        with pytest.raises(ModelFileError, match=f"found {found}"):
            read_model_file(tmp_path / name)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pickle(tmp_path / "model.pkl", {"count": 1})
    file = read_model_file("~/model.pkl")
    assert (file.path, file.entries) == (tmp_path / "model.pkl", {"count": 1})
    with pytest.raises(ModelFileError, match="no such file"):
        read_model_file("~nobody-of-this-name/model.pkl")


def test_archives_with_other_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("a.npy", "")
        archive.writestr("generic_model.pkl", "hello")
    with pytest.raises(
        ModelFileError, match=r"it is a zip archive: unpack it; it holds generic_model\.pkl\.$"
    ):
        read_model_file(tmp_path / "model.npz")


def test_names_in_errors_have_their_control_characters_escaped(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **{"\x1b[31mred\r": np.zeros(1)})
    with pytest.raises(ModelFileError, match=r"found only: \\x1b\[31mred\\r\."):
        read_model_file(tmp_path / "model.npz").reals("a", (1,))


@pytest.mark.parametrize("suffix", [".pkl", ".npz", ".npy", ".safetensors"])
def test_files_that_are_cut_off_anywhere_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pkl":
        write_pickle(path, ENTRIES, chumpy=["v_template"])
    elif suffix == ".npz":
        np.savez(path, a=ENTRIES["v_template"])
    elif suffix == ".npy":
        np.save(path, ENTRIES["v_template"])
    else:
        write_model_file(path, ENTRIES, {})
    content = path.read_bytes()
    read_model_file(path)
    for size in [*range(0, len(content) - 1, 97), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            read_model_file(path)


# what models ask for


@pytest.fixture
def model() -> ModelFile:
    arrays = {
        "reals": np.array([[0.5, 1.0], [2.0, 3.0]], np.float32),
        "whole": np.array([[0.0, 1.0, 4.0]]),
        "bad": np.array([1.0, np.nan, np.inf]),
        "negative": np.array([3, -1]),
        "truth": np.array([True]),
    }
    others = {
        "text": "lbs",
        "list": [1, 2],
        "ragged": [[1], [2, 3]],
        "number": 5,
        "nothing": None,
        "tree": {"a": 1},
    }
    return ModelFile(Path("model.pkl"), {**arrays, **others}, "Register at example.org.")


def test_reals(model: ModelFile) -> None:
    found = model.reals("reals", (None, 2))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[0.5, 1.0], [2.0, 3.0]])
    assert found.flags.writeable
    assert found is not model.entries["reals"]
    assert model.reals("negative", (2,)).tolist() == [3, -1]
    assert model.reals("number", ()) == 5
    assert model.has("reals")
    assert not model.has("shapedirs")
    assert "reals" in repr(model)
    assert "0.5" not in repr(model)


def test_indices(model: ModelFile) -> None:
    found = model.indices("whole", (1, 3), upper=5)
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 1, 4]]
    assert model.indices("list", (None,)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("kind", "name", "shape", "message"),
    [
        ("reals", "shapedirs", (2,), "expected an entry 'shapedirs', found only: bad, list, negative, "),
        ("reals", "reals", (3, None), "expected shape (3, any) of 'reals', found (2, 2)"),
        ("reals", "reals", (4,), "expected shape (4,) of 'reals', found (2, 2)"),
        ("reals", "bad", (3,), "expected finite numbers in 'bad', found 2 of 3 that are NaN or infinite"),
        ("reals", "truth", (1,), "expected numbers in 'truth', found dtype bool"),
        ("reals", "text", (), "expected numbers in 'text', found a str"),
        ("reals", "nothing", (), "expected numbers in 'nothing', found a NoneType"),
        ("reals", "tree", (), "expected numbers in 'tree', found a dict"),
        ("reals", "ragged", (2, 2), "expected shape (2, 2) of 'ragged', found lists of different lengths"),
        ("indices", "reals", (2, 2), "expected whole numbers from 0 to 3 in 'reals', found 0.5"),
        ("indices", "whole", (1, 3), "expected whole numbers from 0 to 3 in 'whole', found 4.0"),
        ("indices", "negative", (2,), "expected whole numbers from 0 to 3 in 'negative', found -1"),
        ("indices", "bad", (3,), "expected whole numbers from 0 to 3 in 'bad', found nan"),
    ],
)  # fmt: skip
def test_what_models_cannot_use_is_named(
    kind: str, name: str, shape: tuple[int | None, ...], message: str, model: ModelFile
) -> None:
    with pytest.raises(ModelFileError) as caught:
        model.reals(name, shape) if kind == "reals" else model.indices(name, shape, upper=4)
    assert str(caught.value).startswith(f"model.pkl: {message}")
    assert str(caught.value).endswith(". Register at example.org.")
    assert isinstance(caught.value, InputError)


def test_extents_that_are_not_in_metres_are_named(model: ModelFile) -> None:
    points = np.array([[0.0, 0.0, 0.1], [0.1, 0.25, 0.0]])
    model.check_extent("v_template", points, 0.15, 0.5)
    for scale, found in {
        1000: "250, which looks like millimetres: scale all lengths in the file to metres",
        100: "25, which looks like centimetres: scale",
        1e5: "2.5e+04. Register",
        0: "0. Register",
    }.items():
        with pytest.raises(ModelFileError) as caught:
            model.check_extent("v_template", scale * points, 0.15, 0.5)
        assert f"an extent of 0.15 to 0.5 metres of 'v_template', found {found}" in str(caught.value)
