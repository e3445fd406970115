"""Output files that are whole or absent: written under another name beside the target, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from partfit.errors import OutputError

MeshFormat: TypeAlias = Literal["glb", "obj", "ply"]

#: The file formats for meshes; each is a file's suffix without the dot.
MESH_FORMATS: tuple[MeshFormat, ...] = get_args(MeshFormat)

ResultFormat: TypeAlias = Literal["csv", "glb", "npz", "obj", "ply"]

#: The file formats for fitted parts: meshes, arrays (npz) and a table of named coefficients (csv).
RESULT_FORMATS: tuple[ResultFormat, ...] = get_args(ResultFormat)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file so that nobody ever sees half of it.

    Yields a path in the same folder, with the same suffix, for the body to write to. When the body ends,
    that file replaces `path`; when it raises, it is removed and `path` is left as it was.

    Raises:
        OutputError: for every OSError of the body and of the replacement: no such folder, no permission,
            no space.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}.") from error
    finally:
        with suppress(OSError):  # it is gone, or could not be made; the error above says why
            temporary.unlink()


def ensure_writable_folder(path: str | Path) -> Path:
    """Make a folder where it is missing and try to write in it, to fail before long work, not after.

    Raises:
        OutputError: if the folder cannot be made or nothing can be written in it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{secrets.token_hex(6)}"
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"Cannot write in the folder {folder}: {_reason(error)}. Choose another folder, or change its "
            "permissions."
        ) from error
    return folder


def ensure_writable_file(path: str | Path) -> Path:
    """Try whether `atomic_write` can write a file, to fail before long work, not after; makes its folder.

    Raises:
        OutputError: if the folder cannot be made or written in, or the path is that of a folder or a device.
    """
    path = Path(path)
    try:
        taken = path.exists() and not path.is_file()
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}.") from error
    if taken:
        raise OutputError(f"Cannot write {path}: expected a file's name, found a folder or a device.")
    ensure_writable_folder(path.parent)
    return path


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
