"""MediaPipe's iris landmarker: the face mesh and five points on each iris.

The network sees a 64 x 64 crop of a right eye with values in [0, 1], 2.3 times as wide as the eye and turned
so that the eye's corners are level; a left eye is shown to it flipped. It answers with 71 points of the lids
and the brow and with 5 points of the iris, in crop pixels.

Source: Ablavatski et al. 2020, "Real-time Pupil Tracking from Monocular Video for Digital Puppetry";
MediaPipe 0.10.21, modules/iris_landmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8

from partfit.geometry.crops import Crop
from partfit.landmarks import Detection, Landmarker, LandmarkScheme, Region
from partfit_mediapipe.face_landmarker import FACE_INFLATION, FaceLandmarker
from partfit_mediapipe.face_scheme import mediapipe478
from partfit_mediapipe.networks import load_network
from partfit_mediapipe.pictures import network_inputs

_SIZE = 64  # side of the network's input, pixels
_MARGIN = 2.3  # side of a crop, of the eye's width

# of the network's points of the lids: the corners, and the middles of the lower and the upper lid
_CORNERS, _LIDS = (0, 8), (4, 12)

_IRIS_ERROR = 0.05  # standard deviation of a coordinate, of the wider eye's width
_CLOSED = 0.15  # an eye that is open by less than this part of its width hides its iris


@attrs.frozen
class _Eye:
    """One eye.

    Attributes:
        corners: Its corners among the landmarks, from left to right in the picture.
        mirror: Whether the network wants to see it flipped.
        order: For each of its iris points in the scheme's order, the network's. The network's order is:
            centre, towards the nose, top, away from the nose, bottom.
    """

    corners: tuple[int, int]
    mirror: bool
    order: tuple[int, ...]

    def width(self, points: Float[np.ndarray, "n 2"]) -> float:
        """Distance of its corners, pixels."""
        return math.dist(*points[list(self.corners)])

    def crop(self, points: Float[np.ndarray, "n 2"]) -> Crop:
        """What the network is to see of it."""
        first, last = points[list(self.corners)]
        angle = math.atan2(last[1] - first[1], last[0] - first[0])
        side = _MARGIN * self.width(points)
        return Crop((first + last) / 2, side, angle, resolution=_SIZE, mirror=self.mirror)


_RIGHT = _Eye((33, 133), mirror=False, order=(0, 1, 2, 3, 4))
_LEFT = _Eye((362, 263), mirror=True, order=(0, 3, 2, 1, 4))


class FaceIrisLandmarker(Landmarker):
    """Places the 468 points of MediaPipe's face mesh and five points on each iris.

    The mesh is that of `FaceLandmarker`, with its options. The iris network then looks once at each eye. Its
    points of the lids tell only whether the eye is closed: the mesh keeps its own lids, so that its points
    mean the same with and without irises.

    The network says nothing about its errors. The scale of an iris point is a twentieth of the width of the
    face's wider eye, about a quarter of an iris' radius: so far do the points of eyes of less than 10 pixels
    move when the same face is resampled (`benchmarks/calibration.py`). Those of larger eyes move several
    times less, but how wrong the network is about all of them alike is not known. The wider eye is taken
    because an eye that is turned away looks narrow, but is not seen better. The confidence is the face's
    presence. The iris of a closed eye, whose lids are less than 0.15 of its width apart, is not known: its
    scale is infinite and its confidence 0.
    """

    Config = FaceLandmarker.Config
    config: FaceLandmarker.Config

    def __init__(self, config: FaceLandmarker.Config | None = None) -> None:
        super().__init__(config)
        self._faces = FaceLandmarker(self.config)
        self._network = load_network("iris_landmark", self.config.backend, self.config.device)

    @property
    def scheme(self) -> LandmarkScheme:
        """`mediapipe478`."""
        return mediapipe478()

    @property
    def inflation(self) -> float:
        """That of 468 landmarks on 43 labelled photographs, see `benchmarks/inflation.py`."""
        return FACE_INFLATION

    def locate(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        """Locate the landmarks of each region; see `FaceLandmarker.locate`."""
        faces = self._faces.locate(images, regions)
        if not any(faces):
            return faces
        crops = [[eye.crop(face.points) for face in own for eye in (_RIGHT, _LEFT)] for own in faces]
        inputs = [
            network_inputs(image, own, low=0.0) for image, own in zip(images, crops, strict=True) if own
        ]
        # of each face two eyes, of each eye points in crop pixels, counted from the first pixel's centre
        lids, irises = (
            answer.reshape(-1, 2, answer.shape[1] // 3, 3)[..., :2].astype(float) - 0.5
            for answer in self._network(torch.cat(inputs))
        )
        answers = zip(lids, irises, strict=True)
        return [[self._with_irises(face, *next(answers)) for face in own] for own in faces]

    def _with_irises(
        self, face: Detection, lids: Float[np.ndarray, "2 71 2"], irises: Float[np.ndarray, "2 5 2"]
    ) -> Detection:
        """A detection of the mesh completed by the network's answers for its right and its left eye."""
        error = _IRIS_ERROR * max(eye.width(face.points) for eye in (_RIGHT, _LEFT))
        points, scale, confidence = [face.points], [face.scale], [face.confidence]
        for eye, lid, iris in zip((_RIGHT, _LEFT), lids, irises, strict=True):
            closed = math.dist(*lid[list(_LIDS)]) < _CLOSED * math.dist(*lid[list(_CORNERS)])
            points.append(eye.crop(face.points).to_image(iris[list(eye.order)]))
            scale.append(np.full((5, 2), math.inf if closed else error))
            confidence.append(np.full(5, 0.0 if closed else face.score))
        return Detection(
            self.scheme,
            np.concatenate(points),
            np.concatenate(scale),
            np.concatenate(confidence),
            face.score,
            box=face.box,
        )
