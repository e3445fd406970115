"""The landmark schemes `mediapipe468`, MediaPipe's face mesh, and `mediapipe478`, the same with the irises.

The canonical mesh is MediaPipe's `canonical_face_model` (Apache-2.0, The MediaPipe Authors), here in metres:
468 vertices, one a landmark, x towards the subject's left, y up, z out of the face. Left and right in names
are the subject's.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Int

from partfit.errors import InputError
from partfit.landmarks import LandmarkScheme

#: Number of landmarks of the mesh.
COUNT = 468

# the irises follow the mesh in MediaPipe's order: the centre, then the rim as it lies in the picture of an
# upright face: right, top, left, bottom
_IRISES = tuple(
    f"{side}_iris_{place}"
    for side, places in (
        ("right", ("center", "inner", "top", "outer", "bottom")),
        ("left", ("center", "outer", "top", "inner", "bottom")),
    )
    for place in places
)
_RIMS = [(first + i, first + (i + 1) % 4) for first in (COUNT + 1, COUNT + 6) for i in range(4)]

_MIDDLE = {
    0: "upper_lip_top",
    2: "nose_base",
    4: "nose_tip",
    10: "forehead_top",
    13: "upper_lip_bottom",
    14: "lower_lip_top",
    17: "lower_lip_bottom",
    152: "chin",
    168: "nose_root",
}

# points on the subject's right; their mirror images have the same name with `left`
_RIGHT = {
    33: "eye_outer_corner",
    46: "brow_outer_end",
    50: "cheek",
    55: "brow_inner_end",
    61: "mouth_corner",
    64: "nostril_side",
    78: "mouth_inner_corner",
    105: "brow_top",
    133: "eye_inner_corner",
    145: "eye_bottom",
    159: "eye_top",
    172: "jaw_angle",
    234: "face_side",
}


def canonical_vertices() -> Float[np.ndarray, "468 3"]:
    """The canonical mesh's vertices (468, 3), metres."""
    return _mesh()["vertices"].astype(float)


def contour_points() -> Int[np.ndarray, " points"]:
    """Landmarks on the outline of the face as the network draws it (forehead, temples, cheeks, chin)."""
    triangles = _mesh()["triangles"]
    sides = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, uses = np.unique(sides, axis=0, return_counts=True)
    return np.unique(unique[uses == 1])


@cache
def mediapipe468() -> LandmarkScheme:
    """The scheme: the canonical mesh's triangles, edges along lips, eyes, brows, outline, a mirror."""
    mesh = _mesh()
    mirror = mirror_permutation(mesh["vertices"])
    return LandmarkScheme(
        "mediapipe468", _names(mirror), triangles=mesh["triangles"], edges=mesh["contours"], mirror=mirror
    )


@cache
def mediapipe478() -> LandmarkScheme:
    """The scheme of the mesh with the irises: `mediapipe468`, then five points of each eye, the right first.

    An iris is its centre and four points of its rim, `inner` being towards the nose. The rims are edges too.
    """
    mesh = mediapipe468()
    assert mesh.mirror is not None
    return LandmarkScheme(
        "mediapipe478",
        mesh.names + _IRISES,
        triangles=mesh.triangles,
        edges=np.concatenate([mesh.edges, _RIMS]),
        mirror=np.concatenate([mesh.mirror, COUNT + np.array([5, 8, 7, 6, 9, 0, 3, 2, 1, 4])]),
    )


def mirror_permutation(vertices: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Index of each vertex's mirror image in the plane x = 0.

    Raises:
        InputError: if the vertices are not symmetric to a thousandth of their extent.
    """
    distances = np.linalg.norm(vertices[:, None] * [-1, 1, 1] - vertices, axis=-1)
    mirror = distances.argmin(axis=1)
    worst = distances.min(axis=1).max()
    if worst > 1e-3 * np.ptp(vertices) or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise InputError(f"The mesh is not symmetric in x: a vertex is {worst:.3g} from its mirror image.")
    return mirror


def _names(mirror: Int[np.ndarray, " n"]) -> tuple[str, ...]:
    names = [f"p{index:03d}" for index in range(len(mirror))]
    for index, name in _MIDDLE.items():
        names[index] = name
    for index, name in _RIGHT.items():
        names[index] = f"right_{name}"
        names[mirror[index]] = f"left_{name}"
    return tuple(names)


@cache
def _mesh() -> dict[str, np.ndarray]:
    with (
        (files("partfit_mediapipe") / "assets" / "face_mesh.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        return dict(arrays)
