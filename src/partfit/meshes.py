"""Triangle meshes, and their files for other programs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit.errors import InputError, ShapeError
from partfit.files import MESH_FORMATS, MeshFormat, atomic_write
from partfit.geometry.topology import vertex_normals

if TYPE_CHECKING:
    import trimesh

Frame: TypeAlias = Literal["camera", "model"]

#: From each frame to the axes of files: y up, z towards the viewer.
_FILE_AXES = {"camera": np.array([1.0, -1.0, -1.0]), "model": np.ones(3)}


@attrs.frozen(eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) floating point, metres.
        faces: (F, 3) vertex indices, counter-clockwise as seen from outside.

    Raises:
        ShapeError, InputError: if the arrays are no mesh.
    """

    vertices: np.ndarray = attrs.field(converter=np.asarray)
    faces: np.ndarray = attrs.field(converter=np.asarray)

    def __attrs_post_init__(self) -> None:
        for name, array in (("vertices", self.vertices), ("faces", self.faces)):
            if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
                raise ShapeError(f"{name} of a mesh", "(n, 3), n > 0", array.shape)
        if self.faces.dtype.kind not in "iu":
            raise InputError(f"The faces of a mesh must be integers, found {self.faces.dtype}.")
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise InputError(
                f"The faces of a mesh must name vertices 0 to {len(self.vertices) - 1}, found "
                f"{self.faces.min()} to {self.faces.max()}."
            )
        bad = np.flatnonzero(~np.isfinite(self.vertices).all(axis=1))
        if len(bad):
            raise InputError(f"{len(bad)} vertices of the mesh are not finite, the first is {bad[0]}.")

    @cached_property
    def normals(self) -> Float[np.ndarray, "vertices 3"]:
        """(V, 3) unit vertex normals: the mean of the faces', weighted by area; (0, 0, 1) without one."""
        normals = vertex_normals(self.vertices, self.faces)
        return np.where(normals.any(axis=1, keepdims=True), normals, [0.0, 0.0, 1.0])


def write_mesh(
    path: str | Path,
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    frame: Frame = "camera",
) -> None:
    """Write a mesh as .obj, .ply or .glb, with vertex normals: metres, y up, right-handed.

    The vertices keep their order and number, in single precision.

    Args:
        path: The file; its suffix chooses the format. It is replaced as a whole, or not at all.
        vertices: (V, 3), metres.
        faces: (F, 3).
        frame: `camera`: the vertices are in the camera frame (y down, z forward) and are turned by
            diag(1, -1, -1). `model`: they are written as they are.

    Raises:
        InputError: if the suffix or the frame is unknown, or the arrays are no mesh.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    encode = _ENCODERS[_format_of(path)]
    axes = _choose(_FILE_AXES, frame, "frame")
    mesh = Mesh(vertices, faces)
    data = encode(Mesh(mesh.vertices.astype(np.float32) * axes, mesh.faces))
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_mesh(path: str | Path, frame: Frame = "camera") -> Mesh:
    """Read a mesh file that `write_mesh` wrote, into the frame it was written from.

    Of a rigged .glb (`partfit.gltf.write_rig`) this reads the mesh at rest, which has no such frame.

    Raises:
        InputError: if the file is missing, is no mesh, or the suffix or the frame is unknown.
    """
    path = Path(path)
    mesh_format = _format_of(path)
    axes = _choose(_FILE_AXES, frame, "frame")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the mesh {path}: {error.strerror}.") from error
    try:
        loaded = _decode(data, mesh_format)
        return Mesh(loaded.vertices * axes, loaded.faces)
    except Exception as error:  # trimesh's readers raise whatever they stumble over
        raise InputError(f"{path} is not a mesh that can be read: {error}") from error


def _decode(data: bytes, mesh_format: MeshFormat) -> trimesh.Trimesh:
    import trimesh

    if mesh_format == "obj":
        # With normals, trimesh would split and drop vertices; the order is kept without them.
        data = re.sub(rb"//\d+", b"", data)
    return trimesh.load_mesh(io.BytesIO(data), file_type=mesh_format, process=False, maintain_order=True)


def _encode_obj(mesh: Mesh) -> bytes:
    # trimesh writes a fixed number of decimals; 9 significant digits keep every float32.
    file = io.BytesIO()
    np.savetxt(file, mesh.vertices, "v %.9g %.9g %.9g", header="metres, y up, right-handed")
    np.savetxt(file, mesh.normals, "vn %.5g %.5g %.5g")
    np.savetxt(file, np.repeat(mesh.faces + 1, 2, axis=1), "f %d//%d %d//%d %d//%d")
    return file.getvalue()


def _encode_ply(mesh: Mesh) -> bytes:
    from trimesh.exchange.ply import export_ply

    return export_ply(_to_trimesh(mesh), vertex_normal=True)


def _encode_glb(mesh: Mesh) -> bytes:
    import trimesh
    from trimesh.exchange.gltf import export_glb

    return export_glb(trimesh.Scene(_to_trimesh(mesh)), include_normals=True)


def _to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    import trimesh

    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)


_ENCODERS: dict[MeshFormat, Callable[[Mesh], bytes]] = {
    "glb": _encode_glb,
    "obj": _encode_obj,
    "ply": _encode_ply,
}


def _format_of(path: Path) -> MeshFormat:
    name = path.suffix.lower().removeprefix(".")
    for known in MESH_FORMATS:
        if name == known:
            return known
    raise InputError(f"Unknown mesh format {name!r} of {path}; known: {', '.join(MESH_FORMATS)}.")


def _choose(table: dict[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise InputError(f"Unknown {kind} {name!r}; known: {', '.join(sorted(table))}.")
    return table[name]
