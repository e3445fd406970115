"""Output files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partfit.errors import InputError, OutputError
from partfit.files import atomic_write, ensure_writable_file, ensure_writable_folder


def test_the_file_appears_when_the_body_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old, and longer")
    with atomic_write(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old, and longer"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("bad"), ValueError("bad")])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("hal")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_usual_permissions_are_given(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_errors_of_the_system_name_the_target(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"Cannot write .*missing.a\.json: No such file or directory"),
        atomic_write(tmp_path / "missing" / "a.json") as temporary,
    ):
        temporary.write_text("x")
    (tmp_path / "taken").mkdir()
    with (
        pytest.raises(OutputError, match=r"Cannot write .*taken: .*directory"),
        atomic_write(tmp_path / "taken") as temporary,
    ):
        temporary.write_text("x")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(OutputError, match=r"Cannot write .*file.a\.json: Not a directory"),
        atomic_write(tmp_path / "file" / "a.json") as temporary,
    ):
        temporary.write_text("x")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"), atomic_write(tmp_path / "a"):
        pass


def test_folders_are_made(tmp_path: Path) -> None:
    folder = ensure_writable_folder(str(tmp_path / "one" / "two"))
    assert folder == tmp_path / "one" / "two"
    assert folder.is_dir()
    assert ensure_writable_folder(folder) == folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/sub"])
def test_a_file_in_the_way_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Cannot write in the folder .*file.*Choose another folder"):
        ensure_writable_folder(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        ensure_writable_folder(tmp_path)


def test_a_target_can_be_tried_before_the_work(tmp_path: Path) -> None:
    target = ensure_writable_file(tmp_path / "new" / "a.json")
    assert list(target.parent.iterdir()) == []
    target.write_text("old")
    assert ensure_writable_file(str(target)) == target
    assert target.read_text() == "old"


@pytest.mark.parametrize("name", ["folder", ".", "file/a.json", "x" * 300])
def test_a_target_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        ensure_writable_file(tmp_path / name)


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(OutputError, match="found a folder or a device"):
        ensure_writable_file(os.devnull)
