"""Output files that are whole or absent: written under another name beside the target, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partfit.errors import OutputError


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
        temporary.unlink(missing_ok=True)


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


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
