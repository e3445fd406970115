"""`partfit convert`: what it writes reads back as the same, and it spoils no file."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from click.testing import CliRunner, Result

from partfit.cli import main
from partfit.model_files import read_model_file
from partfit.testing.official.pickles import write_pickle

ENTRIES = {
    "f": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "v_template": np.arange(12.0).reshape(4, 3),
    "weights": np.ones((4, 2), np.float32),
    "bs_style": "lbs",
    "landmarks": {"faces": np.arange(3), "names": ["jaw"], "none": None, "scale": 0.1},
}


def convert(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "generic_model.pkl"
    write_pickle(path, ENTRIES, chumpy=["v_template"])
    return path


def test_a_pickle_becomes_safetensors(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "flame.safetensors"
    result = convert(source, target)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{source}: wrote {target}",
        "  f  uint32 (2, 3)",
        "  v_template  float64 (4, 3)",
        "  weights  float32 (4, 2)",
        "  landmarks/faces  int64 (3,)",
    ]
    with safetensors.safe_open(target, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["source"] == "generic_model.pkl"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    before, after = read_model_file(source).entries, read_model_file(target).entries
    assert list(after) == list(before)
    assert after["bs_style"] == "lbs"
    assert {key: value for key, value in after["landmarks"].items() if key != "faces"} == {
        "names": ["jaw"],
        "none": None,
        "scale": 0.1,
    }
    for name in ("f", "v_template", "weights"):
        assert after[name].dtype == ENTRIES[name].dtype
        np.testing.assert_array_equal(after[name], ENTRIES[name])
    np.testing.assert_array_equal(after["landmarks"]["faces"], np.arange(3))


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_other_files_are_converted_too(suffix: str, source: Path, tmp_path: Path) -> None:
    other, target = tmp_path / f"other{suffix}", tmp_path / "target.safetensors"
    if suffix == ".npz":
        np.savez(other, f=ENTRIES["f"], landmarks=np.array(ENTRIES["landmarks"]))
    elif suffix == ".npy":
        np.save(other, np.array(ENTRIES, dtype=object), allow_pickle=True)
    else:
        assert convert(source, other).exit_code == 0
    assert convert(other, target).exit_code == 0
    before, after = read_model_file(other).entries, read_model_file(target).entries
    assert after.keys() == before.keys()
    np.testing.assert_array_equal(after["f"], ENTRIES["f"])
    np.testing.assert_array_equal(after["landmarks"]["faces"], np.arange(3))


def test_the_source_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "flame.safetensors"
    assert convert(source, target).exit_code == 0
    content = target.read_bytes()
    link = tmp_path / "link.safetensors"
    link.symlink_to(target)
    for name in (target, link, target.parent / "." / target.name):
        result = convert(target, name)
        assert result.exit_code == 1
        assert "it is the file to convert. Choose another name." in result.stderr
    assert target.read_bytes() == content
    assert convert(source, target).exit_code == 0  # an earlier copy may be replaced


def test_numbers_of_torch_are_converted(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": torch.tensor(3), "b": torch.zeros(0, 3)}, 2))
    result = convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    assert (result.exit_code, result.stderr) == (0, "")
    assert read_model_file(tmp_path / "a.safetensors").entries["a"] == 3


def test_names_are_printed_without_control_characters(tmp_path: Path) -> None:
    write_pickle(tmp_path / "a.pkl", {"\x1b[2J\n": np.zeros(1)})
    result = convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    assert result.stdout.splitlines()[1:] == ["  \\x1b[2J\\n  float64 (1,)"]


def test_failures_are_named_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.safetensors").mkdir()
    attack = tmp_path / "attack.pkl"
    attack.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    unnamed, no_text, twice = (tmp_path / f"{name}.pkl" for name in ("unnamed", "no_text", "twice"))
    write_pickle(unnamed, {"": np.zeros(1)})
    no_text.write_bytes(pickle.dumps({"\udcff": np.zeros(1)}, 0))
    write_pickle(twice, {"a/b": np.zeros(1), "a": {"b": np.zeros(1)}})
    deep = tmp_path / "deep.safetensors"
    tree = {"partfit.entries": "[" * 900 + "]" * 900}
    safetensors.numpy.save_file({"a": np.zeros(1)}, deep, tree)
    before = sorted(tmp_path.rglob("*"))
    for first, second, message in [
        (source, tmp_path / "flame.npz", "expected a name that ends in .safetensors"),
        (tmp_path / "missing.pkl", tmp_path / "flame.npz", "expected a name that ends in .safetensors"),
        (unnamed, tmp_path / "flame.safetensors", "expected a name for every entry"),
        (no_text, tmp_path / "flame.safetensors", "a name in it is no text"),
        (twice, tmp_path / "flame.safetensors", "found 'a/b' twice"),
        (deep, tmp_path / "flame.safetensors", "nested too deep"),
        (source, tmp_path / "file" / "flame.safetensors", "Cannot write in the folder"),
        (source, tmp_path / "folder.safetensors", "found a folder or a device"),
        (tmp_path / "missing.pkl", tmp_path / "flame.safetensors", "found no such file"),
        (attack, tmp_path / "flame.safetensors", "it asks for os.system"),
    ]:
        result = convert(first, second)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
