"""Which vertices are the landmarks: regions of a head, and their decimated series."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import attrs
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from partfit.errors import ConfigError, InputError, ModelFileError
from partfit.files import MESH_FORMATS
from partfit.geometry import topology
from partfit.geometry.decimation import decimate
from partfit.landmarks import LandmarkScheme, content_hash
from partfit.meshes import read_mesh
from partfit.model_files import ModelFile, home_path, read_model_file

#: Name and number of vertices of the topology of DAD-3DHeads itself.
FLAME, N_FLAME_VERTICES = "flame", 5023
#: A vertex is the mirror image of another if it lies nearer to it than this share of its mean edge.
MIRROR_TOLERANCE = 0.25

_MESH_HINT = "It is a model file with v_template and f, such as FLAME's, or a mesh (.obj, .ply, .glb)."
_INDICES_HINT = (
    "Indices are a .npy, .txt or .json file of vertices counted from 0, or a file of named regions, such as "
    "FLAME_masks.pkl."
)


@attrs.frozen(eq=False)
class LandmarkSet:
    """Vertices as landmarks.

    Attributes:
        scheme: The scheme; its landmarks are in ascending order of the vertices.
        vertices: (L,) their indices.
        n_vertices: How many vertices an annotation must have; None for any number that holds the landmarks.
    """

    scheme: LandmarkScheme
    vertices: np.ndarray
    n_vertices: int | None


@attrs.frozen(eq=False)
class _Surface:
    """A mesh at rest: (V, 3) positions and (F, 3) faces."""

    positions: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]


def landmark_set(
    topology_name: str, indices: Path | None, region: str | None, mesh: Path | None, subset: int | None
) -> LandmarkSet:
    """The landmarks that options describe, see `Dad3DHeads.Config`.

    The names and versions of schemes are those of the model `flame` for the same vertices: `flame-<region>`
    and `flame-<region>-<n>`, the version being a digest of the vertices.

    Raises:
        ConfigError: if the options do not fit together or the series has no such level.
        ModelFileError: if a file is not as it should be.
        InputError: if the mesh cannot be halved without tearing.
    """
    surface = None if mesh is None else _read_surface(mesh)
    n = None if surface is None else len(surface.positions)
    if topology_name == FLAME:
        if n not in (None, N_FLAME_VERTICES):
            raise InputError(
                f"{mesh}: expected the {N_FLAME_VERTICES} vertices of FLAME, found {n}. For data of another "
                "model set the option topology to its name."
            )
        n = N_FLAME_VERTICES
    name, vertices = _region(indices, region, n)
    level = f"{topology_name}-{name}"
    if surface is None:
        if subset is not None:
            raise ConfigError(
                "subset: expected the option mesh too, whose shape says which vertices to keep."
            )
        return LandmarkSet(_scheme(level, vertices, None, np.zeros((0, 3))), vertices, n)
    kept, faces = _halved(surface, vertices, subset)
    if len(kept) < len(vertices):
        level += f"-{len(kept)}"
    return LandmarkSet(_scheme(level, kept, surface, faces), kept, n)


def _halved(
    surface: _Surface, vertices: Int[np.ndarray, " landmarks"], subset: int | None
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, "kept_faces 3"]]:
    """The landmarks that are left after halving down to `subset`, and the triangles between them."""
    kept, faces = topology.submesh(surface.faces, np.isin(np.arange(len(surface.positions)), vertices))
    if subset is None:
        return kept, faces
    sizes = [len(kept)]
    while sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / 2))
    if subset not in sizes:
        series = ", ".join(map(str, sizes))
        raise ConfigError(f"subset: expected a level of the series {series}, found {subset}.")
    for size in sizes[1 : sizes.index(subset) + 1]:
        level = decimate(surface.positions[kept], faces, size)
        kept, faces = kept[level.kept], level.faces
    return kept, faces


def _scheme(
    name: str,
    vertices: Int[np.ndarray, " landmarks"],
    surface: _Surface | None,
    triangles: np.ndarray,
) -> LandmarkScheme:
    return LandmarkScheme(
        name,
        [f"v{vertex:04d}" for vertex in vertices],
        version=content_hash(vertices)[:8],
        triangles=triangles,
        mirror=None if surface is None else _mirror(surface, vertices),
        positions=None if surface is None else surface.positions[vertices],
    )


def _mirror(
    surface: _Surface, vertices: Int[np.ndarray, " landmarks"]
) -> Int[np.ndarray, " landmarks"] | None:
    """The landmark at the mirror image of each at rest, in the plane x = 0; None if one has none."""
    positions = surface.positions[vertices]
    distance, partner = KDTree(positions).query(positions * [-1, 1, 1])
    within = distance <= MIRROR_TOLERANCE * _mean_edges(surface)[vertices]
    own_inverse = np.array_equal(partner[partner], np.arange(len(vertices)))
    return partner if within.all() and own_inverse else None


def _mean_edges(surface: _Surface) -> Float[np.ndarray, " vertices"]:
    """The mean length of the edges at each vertex; 0 without one."""
    ends = topology.edges(surface.faces)
    length = np.linalg.norm(np.diff(surface.positions[ends], axis=1)[:, 0], axis=1)
    n = len(surface.positions)
    total = np.bincount(ends.ravel(), np.repeat(length, 2), n)
    return total / np.maximum(np.bincount(ends.ravel(), minlength=n), 1)


def _region(indices: Path | None, region: str | None, n: int | None) -> tuple[str, np.ndarray]:
    """The name of the region and its vertices, ascending, each once."""
    if indices is None:
        if n is None:
            raise ConfigError(
                "indices: expected a file of vertex indices, or the option mesh, to know the landmarks of a "
                f"topology other than {FLAME!r}."
            )
        return _checked_name(region or "head"), np.arange(n)
    file = _read_indices(home_path(indices))
    if file.has("array"):
        name, key = region or indices.stem.lower(), "array"
    elif region is None:
        raise ConfigError(f"region: expected one of {', '.join(sorted(file.entries))}, of {indices}.")
    else:
        name = key = region
    if key == "head_without_neck" and not file.has(key) and n is not None:
        below = [file.indices(part, (None,), n) for part in ("neck", "boundary")]
        vertices = np.setdiff1d(np.arange(n), np.concatenate(below))
    else:
        vertices = np.unique(file.indices(key, (None,), n))
    if not len(vertices):
        raise file.error("vertex indices", "none")
    return _checked_name(name), vertices


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+([-_.][a-z0-9]+)*", name) or re.search(r"-\d+$", name):
        raise ConfigError(
            "region: expected a name of lower-case letters and digits joined by '-', '_' or '.', that does "
            "not end in a hyphen and a number as the levels of a series do; "
            f"found {name!r}. Set the option region."
        )
    return name


def _read_indices(path: Path) -> ModelFile:
    """Named regions, or one list under the name `array`."""
    if path.suffix.lower() not in (".txt", ".json"):
        return read_model_file(path, hint=_INDICES_HINT)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else [int(word) for word in text.split()]
    except OSError as error:
        raise ModelFileError(path, "a file that can be read", f"{error.strerror}", _INDICES_HINT) from error
    except ValueError as error:
        raise ModelFileError(path, "vertex indices", f"something else ({error})", _INDICES_HINT) from error
    return ModelFile(path, {"array": found}, _INDICES_HINT)


def _read_surface(path: Path) -> _Surface:
    path = home_path(path)
    if path.suffix.lower().removeprefix(".") in MESH_FORMATS:
        mesh = read_mesh(path, frame="model")
        positions, faces = mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)
    else:
        file = read_model_file(path, hint=_MESH_HINT)
        positions = file.reals("v_template", (None, 3))
        faces = file.indices("f", (None, 3), upper=len(positions))
    return _Surface(positions, faces)
