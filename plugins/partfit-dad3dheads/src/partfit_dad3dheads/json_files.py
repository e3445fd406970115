"""The JSON files of DAD-3DHeads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from partfit.errors import InputError


def read_json(path: Path, expected: str) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        expected: What it holds, for the message about a file that is not there.

    Raises:
        InputError: if the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: expected {expected}, found a file that cannot be read: {error.strerror}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found something else or half of it ({error}).") from error
