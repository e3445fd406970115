"""Landmark embeddings on FLAME: regions and their decimated series, iBUG's 68 points, MediaPipe's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partfit.geometry import topology
from partfit.geometry.camera import Camera
from partfit.geometry.decimation import decimate
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme, content_hash
from partfit.models import ContourEmbedding, ParametricModel, SkinnedModel, Topology
from partfit_flame.files import N_CONTOUR, Rows

#: A series ends before it has fewer landmarks than this (thesis figure 4.1 ends at 101).
SMALLEST_LEVEL = 100
#: Reliability of contour points that do not follow the outline: they are no places on the skin.
FIXED_CONTOUR_RELIABILITY = 0.2
#: The table of the contour has a row for each degree of yaw up to this, to both sides.
LARGEST_YAW = 39

#: Pairs of iBUG's 68 points that a left-right flip exchanges; the others lie in the middle.
_IBUG_PAIRS = (
    *((i, 16 - i) for i in range(8)),
    *((17 + i, 26 - i) for i in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (59, 55), (58, 56)),
    *((60, 64), (61, 63), (67, 65)),
)


def series_names(region: str, n: int) -> list[str]:
    """Names of the schemes of a region of n vertices, finest first: all of them, then half of those, ...

    Each level has ceil(n / 2) of the n landmarks of the level before, down to `SMALLEST_LEVEL`.
    """
    names = [f"flame-{region}"]
    while (n := math.ceil(n / 2)) >= SMALLEST_LEVEL:
        names.append(f"flame-{region}-{n}")
    return names


def region_vertices(mesh: Topology, region: str) -> LandmarkEmbedding:
    """The vertices of a region as landmarks, in ascending order.

    The version of the scheme is a digest of the vertices, because a region comes from a user's file; its
    points are named after the vertices, v0000, v0001, ...
    """
    inside = np.isin(np.arange(mesh.n_vertices), mesh.region(region))
    kept, faces = topology.submesh(mesh.faces, inside)
    return _of_vertices(f"flame-{region}", mesh.name, kept, faces)


def halved(
    finer: LandmarkEmbedding, v_template: Float[np.ndarray, "vertices 3"], name: str
) -> LandmarkEmbedding:
    """The next level of a series: half of the vertices of an embedding, chosen by `decimate`.

    Raises:
        InputError: if the mesh cannot have so few vertices without tearing.
    """
    vertices = finer.indices[:, 0]
    level = decimate(v_template[vertices], finer.scheme.triangles, math.ceil(len(vertices) / 2))
    return _of_vertices(name, finer.topology, vertices[level.kept], level.faces)


def _of_vertices(
    name: str, topology_name: str, vertices: Int[np.ndarray, " landmarks"], faces: Int[np.ndarray, "faces 3"]
) -> LandmarkEmbedding:
    names = [f"v{vertex:04d}" for vertex in vertices]
    scheme = LandmarkScheme(name, names, version=content_hash(vertices)[:8], triangles=faces)
    return LandmarkEmbedding.of_vertices(scheme, topology_name, vertices.tolist())


def ibug68_fixed(mesh: Topology, rows: Mapping[str, Rows]) -> LandmarkEmbedding:
    """The 68 points of iBUG with the contour of the frontal view, whatever the pose."""
    reliability = np.ones(68)
    reliability[:N_CONTOUR] = FIXED_CONTOUR_RELIABILITY
    full = rows["full"]
    return LandmarkEmbedding.on_triangles(
        _ibug68(), mesh.name, mesh.faces, full.face, full.weight, reliability
    )


def ibug68_dynamic(
    mesh: Topology, v_template: Float[np.ndarray, "vertices 3"], rows: Mapping[str, Rows]
) -> YawContour:
    """The 68 points of iBUG with a contour that follows the outline."""
    static, dynamic = rows["static"], rows["dynamic"]
    face = np.concatenate([dynamic.face[0], static.face])
    weight = np.concatenate([dynamic.weight[0], static.weight])
    return YawContour(
        _ibug68(),
        mesh.name,
        mesh.faces[face],
        weight,
        contour=np.arange(N_CONTOUR),
        choices_indices=mesh.faces[dynamic.face],
        choices_weights=dynamic.weight,
        direction=_table_direction(v_template, mesh.faces, dynamic),
    )


def mediapipe105(mesh: Topology, rows: Rows, points: Int[np.ndarray, " landmarks"]) -> LandmarkEmbedding:
    """The points of MediaPipe that FLAME's own file places, in its order."""
    scheme = LandmarkScheme(f"mediapipe{len(points)}", [f"p{i:03d}" for i in points])
    return LandmarkEmbedding.on_triangles(scheme, mesh.name, mesh.faces, rows.face, rows.weight)


def mediapipe468(mesh: Topology, rows: Rows, points: Int[np.ndarray, " landmarks"]) -> LandmarkEmbedding:
    """MediaPipe's 468 points, those known that FLAME's own file places; the others have reliability 0."""
    face, weight = np.zeros(468, dtype=np.int64), np.tile([1.0, 0.0, 0.0], (468, 1))
    face[points], weight[points] = rows.face, rows.weight
    reliability = np.zeros(468)
    reliability[points] = 1
    scheme = LandmarkScheme("mediapipe468", [f"p{i:03d}" for i in range(468)])
    return LandmarkEmbedding.on_triangles(scheme, mesh.name, mesh.faces, face, weight, reliability)


@attrs.frozen(eq=False)
class YawContour(ContourEmbedding):
    """A contour whose rows are chosen by how far the head is turned to the side, in whole degrees.

    Row 0 is the frontal view, rows 1..39 one turn of so many degrees, rows 40..78 the other; farther turns
    take the last row.

    Attributes:
        direction: 1 if rows 1..39 belong to a head turned to the subject's left, -1 if to the right.
    """

    direction: int = attrs.field(kw_only=True)

    def hash_parts(self) -> tuple[np.ndarray | str, ...]:  # noqa: D102 (inherited)
        return (*ContourEmbedding.hash_parts(self), str(self.direction))

    def choose(  # noqa: D102 (inherited)
        self, model: ParametricModel, x: Float[Tensor, "batch parameters"], camera: Camera
    ) -> Int[Tensor, " batch"]:
        assert isinstance(model, SkinnedModel)
        yaw = torch.nan_to_num(head_yaw(model, x))  # a state that is lost takes the frontal view
        degrees = torch.round(self.direction * torch.rad2deg(yaw)).clamp(-LARGEST_YAW, LARGEST_YAW)
        return torch.where(degrees < 0, LARGEST_YAW - degrees, degrees).long()


def head_yaw(model: SkinnedModel, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, " batch"]:
    """How far the head is turned from the line of sight, radians, positive to the subject's left.

    The head turns by R = R_root R_neck, and its x axis points to the subject's left. With p the unit vector
    from the camera to the middle of the eyes, in the camera frame (OpenCV), the yaw is asin(p . R e_x): 0
    where the head faces the camera, wherever in the picture it is.
    """
    root, neck = rotvec_to_matrix(model.rotvecs(x)[:, :2]).unbind(dim=1)
    left = (root @ neck)[..., 0]
    eyes = model.joints(x)[:, 3:5].mean(dim=1)
    sight = eyes / eyes.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.asin((sight * left).sum(dim=1).clamp(-1, 1))


def _table_direction(
    v_template: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], dynamic: Rows
) -> int:
    """Which way the head turns as the rows of a table go on, see `YawContour.direction`.

    smplx and DECA count the yaw of the same table with opposite signs. The rows decide: at the largest turn
    they lie where the surface is seen edge-on, n . view = 0. If both are alike, it is the direction of smplx.
    """
    normals = topology.vertex_normals(v_template, faces)

    def edge_on(row: int, turn: float) -> float:
        view = np.array([-math.sin(turn), 0.0, math.cos(turn)])  # to the camera, as the turned head sees it
        normal = (normals[faces[dynamic.face[row]]] * dynamic.weight[row][..., None]).sum(axis=1)
        return float(np.abs(normal @ view).sum())

    turn = math.radians(LARGEST_YAW)
    left = edge_on(LARGEST_YAW, turn) + edge_on(2 * LARGEST_YAW, -turn)
    right = edge_on(LARGEST_YAW, -turn) + edge_on(2 * LARGEST_YAW, turn)
    return 1 if left < right else -1


def _ibug68() -> LandmarkScheme:
    mirror = np.arange(68)
    for a, b in _IBUG_PAIRS:
        mirror[[a, b]] = b, a
    return LandmarkScheme("ibug68", [f"p{i:02d}" for i in range(68)], mirror=mirror)
