"""MediaPipe's full-range face detector.

The network sees a 192 x 192 picture with values in [-1, 1] and answers for each of 48 x 48 cells, 4 pixels
wide, with a box, six keypoints and a score. It finds faces from about 1/20 of the picture's longer side; a
larger picture is therefore searched a second time, in overlapping tiles, for smaller ones.

Source: Bazarevsky et al. 2019, "BlazeFace"; MediaPipe 0.10.21, modules/face_detection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from jaxtyping import UInt8

from partfit.errors import ConfigError
from partfit.landmarks import Detector, Region
from partfit_mediapipe.networks import Backend, load_network
from partfit_mediapipe.search import BoxNetwork, Found, cell_middles

_STRIDE = 4  # side of a cell, pixels


class FaceDetector(Detector):
    """Finds faces with MediaPipe's full-range network.

    Every picture is searched as a whole, and a larger one in tiles too, for faces of up to a fifth of its
    longer side L; see `partfit_mediapipe.search.BoxNetwork.search`.

    A region is the network's box, upright and square; its angle is that of the line from the subject's right
    eye to the left eye.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            threshold: Least score of a face, between 0 and 1. MediaPipe's own 0.6 loses some of the smallest
                faces; what a lower one finds too much, the landmarker refuses.
            tiles: Whether to look for small faces in tiles.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        threshold: float = 0.5
        tiles: bool = True
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if not 0 < self.threshold < 1:
                raise ConfigError(f"threshold must lie between 0 and 1, found {self.threshold}.")

    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        network = load_network("face_detection", self.config.backend, self.config.device)
        self._boxes = BoxNetwork(network, cell_middles(_STRIDE), low=-1.0)

    def detect(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[list[Region]]:
        """Find the faces in each picture, best score first; see `partfit.landmarks.Detector.detect`.

        Raises:
            InputError: if a picture is not RGB uint8 (H, W, 3).
        """
        found = self._boxes.search(images, self.config.threshold, self.config.tiles)
        return [[_region(face) for face in faces] for faces in found]


def _region(face: Found) -> Region:
    """The keypoints are: right eye, left eye, nose tip, mouth, right ear, left ear; the subject's right."""
    low, high, right_eye, left_eye = face.points[:4]
    (x, y), (width, height) = (low + high) / 2, high - low
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    return Region((float(x), float(y)), (float(width), float(height)), angle, face.score)
