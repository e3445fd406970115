"""Files of landmark embeddings, and the place where transferred ones are kept: safetensors and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from partfit.errors import InputError
from partfit.files import atomic_write
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme, content_hash
from partfit.models.base import ParametricModel
from partfit.models.contour import ContourEmbedding

#: Environment variable that names the cache folder; by default `~/.cache/partfit`.
CACHE_VARIABLE = "PARTFIT_CACHE"

_FORMAT, _VERSION = "partfit-embedding", 1
_HOW_TO_GET = "Expected a file that `partfit transfer-landmarks` or `write_embedding` wrote."


def write_embedding(
    embedding: LandmarkEmbedding, path: str | Path, report: Mapping[str, Any] | None = None
) -> None:
    """Write an embedding, whole or not at all.

    Args:
        embedding: What to write, with its scheme.
        path: The file, `.safetensors`.
        report: How good it is, for `read_report`: whatever JSON can hold.

    Raises:
        InputError: for a contour, whose rows are chosen by code, or a path of another suffix.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    if isinstance(embedding, ContourEmbedding):
        raise InputError(f"The {embedding.label} follows a contour, which a file cannot hold.")
    if path.suffix != ".safetensors":
        raise InputError(f"An embedding is written to a .safetensors file, found {path.name!r}.")
    scheme = embedding.scheme
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "topology": embedding.topology,
        "hash": embedding.hash,
        "scheme": {
            "name": scheme.name,
            "names": scheme.names,
            "version": scheme.version,
            "mirror_scheme": scheme.mirror_scheme,
        },
        "report": dict(report or {}),
    }
    arrays = {name: getattr(embedding, name) for name in ("indices", "weights", "reliability")}
    arrays |= {"triangles": scheme.triangles, "edges": scheme.edges}
    if scheme.mirror is not None:
        arrays["mirror"] = scheme.mirror
    with atomic_write(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        temporary.write_bytes(save(contiguous, {"partfit": json.dumps(header)}))


def read_embedding(path: str | Path) -> LandmarkEmbedding:
    """The embedding of a file.

    Raises:
        InputError: if the file cannot be read, is of another kind, or its content was changed.
    """
    header, arrays = _read(path)
    try:
        names = header["scheme"]
        scheme = LandmarkScheme(
            names["name"],
            names["names"],
            names["version"],
            arrays["triangles"],
            arrays["edges"],
            arrays.get("mirror"),
            names["mirror_scheme"],
        )
        embedding = LandmarkEmbedding(
            scheme, header["topology"], arrays["indices"], arrays["weights"], arrays["reliability"]
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the embedding is incomplete: {error} is missing. {_HOW_TO_GET}") from error
    if embedding.hash != header["hash"]:
        raise InputError(f"{path}: the content does not have the hash {header['hash']} that it names.")
    return embedding


def read_report(path: str | Path) -> dict[str, Any]:
    """What the file of an embedding says of its quality.

    Raises:
        InputError: if the file cannot be read or is of another kind.
    """
    return dict(_read(path)[0].get("report", {}))


def cached_embedding_path(model: ParametricModel, scheme: str) -> Path:
    """Where the transferred embedding of a scheme on a model is kept, whether or not it is there.

    The name tells the topology, the scheme, and a digest of the triangles and of the vertices at zero
    parameters: another edition of a model is another model.
    """
    with torch.no_grad():
        rest = model.vertices(torch.zeros(1, model.n_parameters, dtype=torch.float64))[0].numpy()
    digest = content_hash(model.topology.faces, rest.round(6))
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "partfit")
    return folder / "embeddings" / f"{model.topology.name}-{scheme}-{digest}.safetensors"


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of an embedding's file."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("partfit", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. {_HOW_TO_GET}") from error
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: this is no embedding: {error}. {_HOW_TO_GET}") from error
    if header.get("format") != _FORMAT:
        raise InputError(f"{path}: this safetensors file holds no embedding. {_HOW_TO_GET}")
    if header.get("version") != _VERSION:
        raise InputError(
            f"{path}: expected an embedding of version {_VERSION}, found {header.get('version')}."
        )
    return header, arrays
