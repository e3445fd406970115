"""Hypothesis strategies for geometry, for the tests of partfit and of third-party plugins.

Every value is drawn through hypothesis' own strategies, so that failures shrink and replay. Arrays are
float64 numpy unless said otherwise; lengths are in metres, angles in radians, image positions in pixels.
"""

from __future__ import annotations

import math

import numpy as np
import trimesh
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from partfit.geometry import topology
from partfit.geometry.crops import Crop
from partfit.models.base import ParameterGroup, ParametricModel

#: Rotation angles at which formulas break: none, where t^2 vanishes in float32, and about half a turn.
SPECIAL_ANGLES = (0.0, 1e-8, math.pi - 1e-8, math.pi)

#: Vertices (V, 3) and faces (F, 3).
MeshArrays = tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]


def _floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


def directions() -> st.SearchStrategy[Float[np.ndarray, " 3"]]:
    """Unit vectors (3,); they shrink to +x."""

    def unit(azimuth: float, height: float) -> np.ndarray:
        radius = math.sqrt(1 - height**2)
        return np.array([radius * math.cos(azimuth), radius * math.sin(azimuth), height])

    return st.builds(unit, _floats(-math.pi, math.pi), _floats(-1, 1))


def rotvecs() -> st.SearchStrategy[Float[np.ndarray, " 3"]]:
    """Axis-angle vectors (3,) of length 0 to pi; about half of them have a length of `SPECIAL_ANGLES`."""
    angles = st.sampled_from(SPECIAL_ANGLES) | _floats(0, math.pi)
    return st.builds(np.multiply, directions(), angles)


def parameters(model: ParametricModel) -> st.SearchStrategy[Float[np.ndarray, " parameters"]]:
    """States (P,) of a model within its limits.

    Joints turn by rotvecs of `rotvecs`, or, where a basis gives them fewer coordinates, by coordinates of
    at most pi; other coordinates lie within 3 of zero. All of them may be 0 or 1e-8.
    """
    return st.tuples(*map(_coordinates, model.groups)).map(np.concatenate)


def _coordinates(group: ParameterGroup) -> st.SearchStrategy[np.ndarray]:
    """(size,) values of a parameter group within its limits."""
    if group.kind == "rotvec" and group.basis is None:
        n_joints = group.size // 3
        values = st.lists(rotvecs(), min_size=n_joints, max_size=n_joints).map(np.concatenate)
    else:
        largest = math.pi if group.kind == "rotvec" else 3.0
        elements = st.sampled_from((0.0, 1e-8, -largest, largest)) | _floats(-largest, largest)
        values = hnp.arrays(np.float64, group.size, elements=elements)
    return values.map(lambda drawn: drawn.clip(group.lower, group.upper))


def rotations() -> st.SearchStrategy[Float[np.ndarray, "3 3"]]:
    """Rotation matrices (3, 3), of the angles of `rotvecs`."""
    return rotvecs().map(lambda rotvec: Rotation.from_rotvec(rotvec).as_matrix())


def rigid_motions() -> st.SearchStrategy[tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]]:
    """Motions (R, t), x' = R x + t: a rotation (3, 3) and a translation (3,) of at most 10 m an axis."""
    return st.tuples(rotations(), hnp.arrays(np.float64, 3, elements=_floats(-10, 10)))


def points(n: int) -> st.SearchStrategy[Float[np.ndarray, "n 3"]]:
    """Arrays (n, 3) of points within 1 m of the origin along each axis; points may coincide."""
    return hnp.arrays(np.float64, (n, 3), elements=_floats(-1, 1))


@st.composite
def cameras(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Pinhole cameras as a dict of arrays, in pixels: `focal` (), `principal` (2,) and `size` (2,).

    The size is (width, height); the focal length is 0.5 to 4 picture diagonals and the principal point lies
    within a tenth of the size from the middle of the picture.
    """
    size = np.array([draw(st.integers(16, 4096)), draw(st.integers(16, 4096))], dtype=np.float64)
    shift = np.array([draw(_floats(-0.1, 0.1)), draw(_floats(-0.1, 0.1))])
    focal = draw(_floats(0.5, 4)) * np.hypot(*size)
    return {"focal": np.array(focal), "principal": (size - 1) / 2 + shift * size, "size": size}


def crops() -> st.SearchStrategy[Crop]:
    """Crops of any angle, mirrored or not, 1 to 64 pixels wide, of regions up to 400 pixels wide."""
    return st.builds(
        Crop,
        st.tuples(_floats(-100, 500), _floats(-100, 500)),
        _floats(1, 400),
        _floats(-math.pi, math.pi),
        resolution=st.integers(1, 64),
        mirror=st.booleans(),
    )


def grid_meshes() -> st.SearchStrategy[MeshArrays]:
    """Flat rectangular sheets in the plane z = 0, normal +z, of up to 12 x 12 unit squares halved alike."""
    return st.builds(_grid, st.integers(2, 12), st.integers(2, 12))


def closed_meshes() -> st.SearchStrategy[MeshArrays]:
    """Smoothly dented closed surfaces: spheres, tori and pairs of spheres, of 42 to 324 vertices."""
    spheres = st.builds(_sphere, st.integers(1, 2))
    tori = st.builds(_torus, st.integers(6, 14), st.integers(5, 10))
    return _dented(spheres | tori | st.builds(_apart, spheres, spheres))


def open_meshes() -> st.SearchStrategy[MeshArrays]:
    """Smoothly dented surfaces with boundaries: sheets, and spheres or tori with one to three holes."""
    closed = st.builds(_sphere, st.just(2)) | st.builds(_torus, st.integers(8, 14), st.integers(8, 10))
    holes = st.lists(st.integers(0, 63), min_size=1, max_size=3)
    return _dented(grid_meshes() | st.builds(_with_holes, closed, holes))


def meshes() -> st.SearchStrategy[MeshArrays]:
    """Small oriented manifold meshes of all kinds above, every vertex with a face.

    Two holes may touch in a vertex.
    """
    return closed_meshes() | open_meshes()


def _dented(surfaces: st.SearchStrategy[MeshArrays]) -> st.SearchStrategy[MeshArrays]:
    """Displace the vertices by waves of a tenth of the mean edge length, too little to fold the surface."""

    def dent(mesh: MeshArrays, waves: np.ndarray, phase: np.ndarray) -> MeshArrays:
        vertices, faces = mesh
        i, j = topology.edges(faces).T
        unit = np.linalg.norm(vertices[i] - vertices[j], axis=1).mean()
        return vertices + 0.1 * unit * np.sin(vertices / unit @ waves + phase), faces

    waves = hnp.arrays(np.float64, (3, 3), elements=_floats(-2, 2))
    return st.builds(dent, surfaces, waves, hnp.arrays(np.float64, 3, elements=_floats(-math.pi, math.pi)))


def _grid(n_columns: int, n_rows: int) -> MeshArrays:
    x, y = np.meshgrid(np.arange(n_columns + 1.0), np.arange(n_rows + 1.0))
    vertices = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(x.shape)
    return vertices, _halved_squares(number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:])


def _torus(n_around: int, n_across: int) -> MeshArrays:
    number = np.arange(n_around * n_across).reshape(n_around, n_across)
    u = 2 * np.pi * np.arange(n_around)[:, None] / n_around
    v = 2 * np.pi * np.arange(n_across)[None] / n_across
    radius = 1 + 0.4 * np.cos(v)
    z = np.broadcast_to(0.4 * np.sin(v), (n_around, n_across))
    vertices = np.stack([radius * np.cos(u), radius * np.sin(u), z], axis=-1).reshape(-1, 3)
    right = np.roll(number, -1, axis=0)
    return vertices, _halved_squares(number, right, np.roll(number, -1, axis=1), np.roll(right, -1, axis=1))


def _halved_squares(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Two triangles for each square with the corners a b below c d."""
    return np.stack([a, b, d, a, d, c], axis=-1).reshape(-1, 3)


def _sphere(subdivisions: int) -> MeshArrays:
    sphere = trimesh.creation.icosphere(subdivisions)
    return np.array(sphere.vertices, dtype=np.float64), np.array(sphere.faces, dtype=np.int64)


def _apart(first: MeshArrays, second: MeshArrays) -> MeshArrays:
    (v, f), (w, g) = first, second
    return np.concatenate([v, w + np.array([3, 0, 0])]), np.concatenate([f, g + len(v)])


def _with_holes(mesh: MeshArrays, centres: list[int]) -> MeshArrays:
    """Take away the faces around some vertices, and the vertices that are then without a face."""
    vertices, faces = mesh
    faces = faces[~np.isin(faces, centres).any(axis=1)]
    kept, faces = topology.submesh(faces, np.isin(np.arange(len(vertices)), faces))
    return vertices[kept], faces
