"""Small functions on triangle meshes: edges, boundaries, neighbours, normals and parts.

Convention: faces are (F, 3) vertex indices, counter-clockwise seen from outside in a right-handed frame,
so that normals point outwards. Functions take faces that `check_mesh` accepts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse
from scipy.sparse import csgraph

from partfit.errors import InputError, ShapeError


def check_mesh(
    vertices: Shaped[np.ndarray, "vertices 3"], faces: Shaped[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]:
    """Refuse what is not an oriented, edge-manifold triangle mesh.

    Boundaries, several components, vertices without a face and vertices at which two fans of triangles
    touch are all accepted.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) vertex indices.

    Returns:
        The vertices as float64 and the faces as int64.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if a position is not finite, an index is not an integer in 0..V-1, a face names a
            vertex twice, two faces have the same vertices, an edge belongs to more than two faces, or
            neighbouring faces are oriented differently.
    """
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ShapeError(name, f"({name}, 3)", array.shape)
    vertices = vertices.astype(np.float64)
    if not np.isfinite(vertices).all():
        found = int((~np.isfinite(vertices).all(axis=1)).sum())
        raise InputError(f"The vertices of a mesh must be finite; {found} of {len(vertices)} are not.")
    if faces.dtype.kind not in "iu":
        raise InputError(f"The faces of a mesh must be integer vertex indices, found dtype {faces.dtype}.")
    faces = faces.astype(np.int64)
    _check_faces(faces, len(vertices))
    return vertices, faces


def _check_faces(faces: Int[np.ndarray, "faces 3"], n_vertices: int) -> None:
    outside = ((faces < 0) | (faces >= n_vertices)).any(axis=1)
    if outside.any():
        f = int(outside.argmax())
        raise InputError(f"Face {f} names the vertices {faces[f].tolist()}; expected 0..{n_vertices - 1}.")
    ordered = np.sort(faces, axis=1)
    repeated = (np.diff(ordered, axis=1) == 0).any(axis=1)
    if repeated.any():
        f = int(repeated.argmax())
        raise InputError(
            f"Face {f} names a vertex twice: {faces[f].tolist()}. Remove degenerate faces first."
        )
    if len(np.unique(ordered, axis=0)) < len(faces):
        raise InputError(
            "Some faces of the mesh have the same three vertices. Remove duplicated faces first."
        )
    directed, count = np.unique(half_edges(faces), axis=0, return_counts=True)
    if (count > 1).any():
        raise InputError(
            f"{count.max()} faces run through the edge {directed[count.argmax()].tolist()} in one direction: "
            "more than two faces share it, or its faces are oriented differently. "
            "Make the mesh manifold and orient its faces alike first."
        )


def half_edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "half_edges 2"]:
    """The directed edges (3F, 2) as the faces run through them: row 3 f + k is edge k of face f."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """The undirected edges (E, 2), each once, lower index first, sorted."""
    return np.unique(np.sort(half_edges(faces), axis=1), axis=0)


def boundary_half_edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, " boundary"]:
    """The rows of `half_edges(faces)` that lie on the boundary, that is, belong to a single face."""
    _, inverse, count = np.unique(
        np.sort(half_edges(faces), axis=1), axis=0, return_inverse=True, return_counts=True
    )
    return np.flatnonzero(count[inverse.reshape(-1)] == 1)


def boundary_edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "boundary 2"]:
    """The edges (B, 2) of a single face, directed as that face runs through them."""
    return half_edges(faces)[boundary_half_edges(faces)]


def vertex_adjacency(faces: Int[np.ndarray, "faces 3"], n_vertices: int) -> sparse.csr_array:
    """Which vertices share an edge: symmetric boolean (V, V), False on the diagonal."""
    i, j = edges(faces).T
    ones = np.ones(2 * len(i), dtype=bool)
    index = (np.concatenate([i, j]), np.concatenate([j, i]))
    return sparse.csr_array((ones, index), shape=(n_vertices, n_vertices))


def area_vectors(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "faces 3"]:
    """The normal of each face (F, 3) with the face's area as its length."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a) / 2


def face_areas(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, " faces"]:
    """The area of each face (F,), in the square of the vertices' unit."""
    return np.linalg.norm(area_vectors(vertices, faces), axis=1)


def face_normals(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "faces 3"]:
    """The unit normal of each face (F, 3); zero for a face without area."""
    return _unit(area_vectors(vertices, faces))


def vertex_normals(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """The unit normal of each vertex (V, 3): area-weighted mean over its faces, zero without a face."""
    corners, areas = faces.ravel(), np.repeat(area_vectors(vertices, faces), 3, axis=0)
    total = [np.bincount(corners, areas[:, axis], len(vertices)) for axis in range(3)]
    return _unit(np.stack(total, axis=1))


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, where=length > 0, out=np.zeros_like(vectors))


def submesh(
    faces: Int[np.ndarray, "faces 3"], keep: Bool[np.ndarray, " vertices"]
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, "kept_faces 3"]]:
    """The part of a mesh that rests on a set of vertices.

    Args:
        faces: (F, 3) vertex indices.
        keep: (V,) True for the vertices of the part.

    Returns:
        The indices (n,) of the kept vertices, ascending, and the faces (f, 3) whose three corners are all
        kept, in the numbering of the part. A kept vertex may be left without a face.

    Raises:
        ShapeError: if `keep` is not one boolean a vertex.
    """
    keep = np.asarray(keep)
    if keep.ndim != 1 or keep.dtype != bool:
        raise ShapeError(f"keep (dtype {keep.dtype})", "(vertices,) of dtype bool", keep.shape)
    number = np.cumsum(keep) - 1
    return np.flatnonzero(keep), number[faces[keep[faces].all(axis=1)]]


def connected_components(faces: Int[np.ndarray, "faces 3"], n_vertices: int) -> Int[np.ndarray, " vertices"]:
    """The number (V,) of the connected part that each vertex belongs to, from 0; a lone vertex is a part."""
    _, label = csgraph.connected_components(vertex_adjacency(faces, n_vertices), directed=False)
    return label.astype(np.int64)
