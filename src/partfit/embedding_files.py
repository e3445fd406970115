"""Files of landmark embeddings, and the place where transferred ones are kept: safetensors and JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from partfit.errors import InputError, ModelFileError, OutputError, PartfitError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme, content_hash
from partfit.model_files import ModelFile, home_path
from partfit.models.base import ParametricModel
from partfit.models.contour import ContourEmbedding
from partfit.tensor_files import SUFFIX, TensorFormat

#: Environment variable that names the cache folder; by default `~/.cache/partfit`.
CACHE_VARIABLE = "PARTFIT_CACHE"

_FORMAT = TensorFormat(
    "partfit-embedding",
    1,
    "an embedding",
    "the file of a landmark embedding",
    "`partfit transfer-landmarks` and `write_embedding` write such files; files with landmarks that come "
    "with a model, such as FLAME's landmark_embedding.npy, are options of that model.",
)


def write_embedding(embedding: LandmarkEmbedding, path: str | Path) -> None:
    """Write an embedding with its scheme, whole or not at all.

    Args:
        embedding: What to write.
        path: The file, `.safetensors`.

    Raises:
        InputError: for a contour, whose rows are chosen by code, or a path of another suffix.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    if isinstance(embedding, ContourEmbedding):
        raise InputError(f"The {embedding.label} follows a contour, which a file cannot hold.")
    if path.suffix != SUFFIX:
        raise InputError(f"An embedding is written to a .safetensors file, found {path.name!r}.")
    scheme = embedding.scheme
    header = _FORMAT.header(
        topology=embedding.topology,
        hash=embedding.hash,
        scheme={
            "name": scheme.name,
            "names": scheme.names,
            "version": scheme.version,
            "mirror_scheme": scheme.mirror_scheme,
        },
    )
    arrays = {name: getattr(embedding, name) for name in ("indices", "weights", "reliability")}
    arrays |= {"triangles": scheme.triangles, "edges": scheme.edges}
    optional = {"mirror": scheme.mirror, "positions": scheme.positions}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    _FORMAT.write(path, header, arrays)


def read_embedding(path: str | Path) -> LandmarkEmbedding:
    """The embedding of a file.

    Args:
        path: The file; may begin with `~`.

    Raises:
        InputError: if the file cannot be read, is of another kind, or its content was changed.
    """
    path = home_path(path)
    header, contents = _FORMAT.read(path)
    file = ModelFile(path, {**header, **contents}, _FORMAT.hint)
    about = _value(file, file.entries, "scheme", dict)
    names = _value(file, about, "names", list)
    if not all(isinstance(name, str) for name in names):
        raise file.error("only texts in 'names' in its header", "others")
    n = len(names)
    rows = file.indices("indices", (n, None))
    try:
        scheme = LandmarkScheme(
            _value(file, about, "name", str),
            names,
            _value(file, about, "version", str),
            file.indices("triangles", (None, 3), n),
            file.indices("edges", (None, 2), n),
            file.indices("mirror", (n,), n) if file.has("mirror") else None,
            _value(file, about, "mirror_scheme", (str, type(None))),
            positions=file.reals("positions", (n, 3)) if file.has("positions") else None,
        )
        embedding = LandmarkEmbedding(
            scheme,
            _value(file, file.entries, "topology", str),
            rows,
            file.reals("weights", (n, None)),
            file.reals("reliability", (n,)),
        )
    except ModelFileError:
        raise
    except PartfitError as error:
        raise file.error(_FORMAT.expected, f"one that cannot be: {error}".rstrip(".")) from error
    if embedding.hash != _value(file, file.entries, "hash", str):
        raise file.error(
            f"content of the hash {file.entries['hash']!r}", f"{embedding.hash!r}: it was changed"
        )
    return embedding


def cached_embedding_path(model: ParametricModel, scheme: str) -> Path:
    """Where the transferred embedding of a scheme on a model is kept, whether or not it is there.

    The name tells the topology, the scheme, and a digest of the triangles, of the points at zero parameters,
    and of the virtual points' names: another edition of a model is another model.

    Raises:
        OutputError: if there is neither a cache folder nor a home folder.
    """
    with torch.no_grad():
        rest = model.points(torch.zeros(1, model.n_parameters, dtype=torch.float64))[0].numpy()
    topology = model.topology
    digest = content_hash(topology.faces, rest.round(6) + 0.0, "\n".join(topology.virtual_points))
    named = re.sub(r"[^\w.-]", "_", f"{topology.name}-{scheme}")
    return _cache_folder() / "embeddings" / f"{named}-{digest}.safetensors"


def _cache_folder() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = home_path(chosen or "~/.cache/partfit")
    if not chosen and not folder.is_absolute():  # the home folder is not known
        raise OutputError(f"There is no home folder to keep files in: name one in {CACHE_VARIABLE}.")
    return folder


def _value(
    file: ModelFile, values: Mapping[str, Any], name: str, kind: type[Any] | tuple[type[Any], ...]
) -> Any:
    """A value of the header, which may hold anything."""
    if name not in values:
        raise file.error(f"{name!r} in its header", "none")
    if not isinstance(values[name], kind):
        raise file.error(f"{name!r} in its header", f"a value of the type {type(values[name]).__name__}")
    return values[name]
