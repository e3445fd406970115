"""A posed head as those see it who dress it: its surface, and where the features of its face are."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
from jaxtyping import Float

#: Rows of iBUG's 68 points. Left and right are the subject's; rows run as the scheme has them.
JAW = np.arange(0, 17)
RIGHT_BROW, LEFT_BROW = np.arange(17, 22), np.arange(22, 27)
NOSE_BRIDGE, NOSTRILS = np.arange(27, 31), np.arange(31, 36)
RIGHT_EYE, LEFT_EYE = np.arange(36, 42), np.arange(42, 48)
OUTER_LIPS, INNER_LIPS = np.arange(48, 60), np.arange(60, 68)


@attrs.frozen(eq=False)
class FaceAnchors:
    """A posed head.

    Two frames: the camera's (OpenCV, metres), and the head's own: y up, z to the front, x to the subject's
    left, the origin midway between the eyes. Both have the size of this head.

    Attributes:
        vertices: (V, 3) the head's surface, camera frame.
        normals: (V, 3) outward unit normals, camera frame.
        faces: (F, 3) vertex indices, counter-clockwise from outside.
        regions: Named vertex index sets, such as `skin`, `ears`, `left_eyeball`; it depends on the model
            which there are.
        canonical: (V, 3) where each vertex lies on the mean head at rest, in the frame of that head: the
            same for every sample, so that static maps may be computed from it once.
        landmarks: (68, 3) iBUG's points, camera frame.
        canonical_landmarks: (68, 3) the same on the mean head at rest.
        rotation: (3, 3) from the head's frame to the camera's: p_camera = rotation @ p_head + origin.
        origin: (3,) midway between the eyes, camera frame.
        size: This head's distance between the outer eye corners over the mean head's.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    regions: Mapping[str, np.ndarray]
    canonical: np.ndarray
    landmarks: np.ndarray
    canonical_landmarks: np.ndarray
    rotation: np.ndarray
    origin: np.ndarray
    size: float

    def to_camera(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points (n, 3) of the head's frame in the camera's."""
        return points @ self.rotation.T + self.origin

    def to_head(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points (n, 3) of the camera's frame in the head's."""
        return (points - self.origin) @ self.rotation

    def region(self, name: str) -> np.ndarray:
        """Vertex indices of a region; empty where the model has none of that name."""
        return self.regions.get(name, np.zeros(0, dtype=np.int64))
