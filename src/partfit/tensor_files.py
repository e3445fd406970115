"""Safetensors files of partfit's own kinds: arrays, with a JSON header in the metadata under `partfit`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import safetensors.numpy

from partfit.errors import ModelFileError
from partfit.files import atomic_write
from partfit.model_files import read_regular_file, safetensors_content
from partfit.safe_pickle import Budget

#: How the names of such files end.
SUFFIX = ".safetensors"

_KEY = "partfit"


@attrs.frozen
class TensorFormat:
    """A kind of file. Nothing in such a file is ever run.

    Attributes:
        name: Stands in the header under `format`.
        version: Stands there under `version`; files of other versions are refused.
        noun: What a file holds, with its article, for errors: `an embedding`.
        expected: What is expected of a file, for errors.
        hint: What writes such files; ends every error.
    """

    name: str
    version: int
    noun: str
    expected: str
    hint: str

    def write(self, path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a file, whole or not at all.

        Args:
            path: The file.
            header: All that it is to say, `format` and `version` included: see `header`.
            arrays: By name.

        Raises:
            OutputError: if it cannot be written.
        """
        contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
        content = safetensors.numpy.save(contiguous, {_KEY: json.dumps(header)})
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    def header(self, **values: Any) -> dict[str, Any]:
        """A header of this format that says these values too."""
        return {"format": self.name, "version": self.version, **values}

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The header and the arrays of a file.

        Raises:
            ModelFileError: if the file is missing, of another kind or version, or damaged.
        """
        content = read_regular_file(path, self.expected, (SUFFIX,), self.hint)
        if path.suffix != SUFFIX:
            raise ModelFileError(path, self.expected, path.suffix or "a name without a suffix", self.hint)
        try:
            metadata, arrays = safetensors_content(content, Budget())
            header = json.loads(metadata.get(_KEY, "{}"))
        except Exception as error:  # a damaged file makes readers fail in any way
            found = f"no safetensors file, or a damaged one ({error})"
            raise ModelFileError(path, self.expected, found, self.hint) from error
        if not isinstance(header, dict) or header.get("format") != self.name:
            found = f"a safetensors file that holds no {self.noun.split()[-1]}"
            raise ModelFileError(path, self.expected, found, self.hint)
        if header.get("version") != self.version:
            found = f"{header.get('version')!r}: use the version of partfit that wrote it, or make it again"
            raise ModelFileError(path, f"{self.noun} of version {self.version}", found, self.hint)
        return header, arrays
