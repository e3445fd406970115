"""Bake the landmark embeddings into `src/partfit_anny/assets/anny_head_embeddings.npz`.

Run as `python tools/bake_embeddings.py` after `bake_head.py`; needs numpy and open3d.

`mediapipe468` starts from `mediapipe468_points.npz`, which `locate_mediapipe468.py` made from renders. Here
the points are made exactly left-right symmetric on the face's visible skin.

`ibug68` takes, for each of its points, the mediapipe468 point at the same place (`IBUG68`). The jaw line,
points 0 to 16, follows the silhouette in pictures and so is marked unreliable.

`mediapipe478` is `mediapipe468` and five points of each iris, which lie on the eyeballs as they look at rest.

`anny-face-dense` is every vertex of the visible skin of the face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from surface import closest_on_surface, distances_to_surface

TOOLS = Path(__file__).parent
ASSETS = TOOLS.parent / "src/partfit_anny/assets"

#: The mediapipe468 point at the place of each ibug68 point.
# fmt: off
IBUG68 = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)
#: mediapipe468 points that follow the silhouette of the face and not a place on the skin.
SILHOUETTE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
#: The ring of vertices of the base mesh around the front pole of the left eyeball.
POLE = (14598, 14607, 14616, 14625, 14634, 14643, 14652, 14661)
#: Radius of an iris, metres: "11.7 +- 0.5 mm" across in a wide population, Google AI Blog, 6 August 2020,
#: "MediaPipe Iris: Real-time Iris Tracking & Depth Estimation".
IRIS_RADIUS = 11.7e-3 / 2
#: Of the points of a left iris in their order (centre, outer, top, inner, bottom) those of the right one.
RIGHT_IRIS = (0, 3, 2, 1, 4)
#: Spread over the renders at which a landmark counts half, metres.
HALF_SPREAD = 3e-3
#: Reliability of silhouette points.
UNCERTAIN = 0.2


def main() -> None:
    """Bake and save the embeddings."""
    with np.load(ASSETS / "anny_head.npz") as head, np.load(TOOLS / "mediapipe468_points.npz") as points:
        mediapipe = embed_mediapipe(head, points)
        dense, irises = dense_face(head), embed_irises(head)
    full = {name: np.concatenate([mediapipe[name], irises[name]]) for name in irises}
    ibug = {name: mediapipe[name][list(IBUG68)] for name in ("face", "barycentric", "reliability")}
    arrays = {
        **{f"mediapipe468_{name}": values for name, values in mediapipe.items()},
        **{f"mediapipe478_{name}": values for name, values in full.items()},
        **{f"ibug68_{name}": values for name, values in ibug.items()},
        **{f"face_dense_{name}": values for name, values in dense.items()},
    }
    path = ASSETS / "anny_head_embeddings.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {len(dense['vertices'])} dense points")


def embed_mediapipe(head: np.lib.npyio.NpzFile, points: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Symmetric rows of the 468 landmarks on the face's visible skin."""
    vertices, faces = head["v_template"].astype(float), head["faces"]
    mirror, partner = head["mirror"], points["mirror"]
    corners = np.searchsorted(head["base_index"], points["triangles"])
    found = np.einsum("lkd,lk->ld", vertices[corners], points["barycentric"])
    symmetric = (found + found[partner] * [-1.0, 1.0, 1.0]) / 2
    on_face = np.isin(faces, head["region_face"]).all(axis=1)
    left = np.flatnonzero(on_face & (vertices[faces, 0].min(axis=1) >= 0))
    nearest, barycentric = closest_on_surface(symmetric, vertices, faces[left])
    face = left[nearest]
    _snap_to_middle(face, barycentric, faces, mirror, np.flatnonzero(partner == np.arange(468)))
    right = symmetric[:, 0] < 0
    face[right], barycentric[right] = _mirrored_rows(
        face[partner][right], barycentric[partner][right], faces, mirror
    )
    moved = np.linalg.norm(np.einsum("lkd,lk->ld", vertices[faces[face]], barycentric) - found, axis=1)
    print(f"mediapipe468 points moved by {moved.mean() * 1e3:.2f} mm, {moved.max() * 1e3:.2f} mm at most")
    return {
        "face": face.astype(np.int32),
        "barycentric": barycentric,
        "reliability": _reliability(points),
        "mirror": partner,
    }


def embed_irises(head: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Rows of the ten iris landmarks on the eyeballs, the right eye's, which are mirrored, first."""
    vertices, faces, centre = head["v_template"].astype(float), head["faces"], head["joints"][3].astype(float)
    eyeball = np.flatnonzero(np.isin(faces, head["region_left_eyeball"]).all(axis=1))
    gaze = _unit(vertices[np.isin(head["base_index"], POLE)].mean(axis=0) - centre)
    across = _unit(np.cross([0.0, 1.0, 0.0], gaze))
    up = np.cross(gaze, across)
    outwards = np.stack([0 * gaze, across, up, -across, -up])
    forward = np.ones(5)
    for _ in range(10):
        directions = _unit(forward[:, None] * gaze + IRIS_RADIUS * outwards)
        reach = distances_to_surface(vertices, faces[eyeball], centre, directions)
        forward = np.sqrt(reach**2 - (IRIS_RADIUS * (np.arange(5) > 0)) ** 2)
    points = centre + reach[:, None] * directions
    radii = np.linalg.norm(np.cross(points - centre, gaze), axis=1)
    print(f"irises: radius {radii[1:].min() * 1e3:.2f} to {radii[1:].max() * 1e3:.2f} mm, ", end="")
    print(f"on eyeballs of radius {reach.mean() * 1e3:.1f} mm, gaze {np.round(gaze, 3)} at rest")
    nearest, barycentric = closest_on_surface(points, vertices, faces[eyeball])
    face, order = eyeball[nearest], list(RIGHT_IRIS)
    right = _mirrored_rows(face[order], barycentric[order], faces, head["mirror"])
    return {
        "face": np.concatenate([right[0], face]).astype(np.int32),
        "barycentric": np.concatenate([right[1], barycentric]),
        "reliability": np.ones(10),
    }


def dense_face(head: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """The vertices of the face region, the triangles between them and their mirror permutation."""
    faces, chosen = head["faces"], head["region_face"]
    inside = np.isin(faces, chosen).all(axis=1)
    return {
        "vertices": chosen,
        "triangles": np.searchsorted(chosen, faces[inside]).astype(np.int32),
        "mirror": np.searchsorted(chosen, head["mirror"][chosen]).astype(np.int32),
    }


def _snap_to_middle(
    face: np.ndarray, barycentric: np.ndarray, faces: np.ndarray, mirror: np.ndarray, middle: np.ndarray
) -> None:
    """Put the landmarks `middle` on the mid-line: only the corners that lie on it keep their weight."""
    on_line = faces[face[middle]] == mirror[faces[face[middle]]]
    weights = np.where(on_line, barycentric[middle], 0.0)
    if (weights.sum(axis=1) < 0.5).any():
        raise SystemExit("A landmark of the mid-line lies far from the mid-line of the mesh.")
    barycentric[middle] = weights / weights.sum(axis=1, keepdims=True)


def _mirrored_rows(
    face: np.ndarray, barycentric: np.ndarray, faces: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The triangles on the other side, and the barycentric coordinates in their order of corners."""
    number = {tuple(sorted(corners)): index for index, corners in enumerate(faces.tolist())}
    corners = mirror[faces[face]]
    other = np.array([number[tuple(sorted(triple))] for triple in corners.tolist()])
    order = (faces[other][:, :, None] == corners[:, None, :]).argmax(axis=2)
    return other, np.take_along_axis(barycentric, order, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _reliability(points: np.lib.npyio.NpzFile) -> np.ndarray:
    """(468,) in (0, 1]: small where the landmark spread in the renders or is not a place on the skin."""
    reliability = 1 / (1 + (points["spread"].astype(float) / HALF_SPREAD) ** 2)
    reliability[list(SILHOUETTE)] = UNCERTAIN
    return (reliability + reliability[points["mirror"]]) / 2


if __name__ == "__main__":
    main()
