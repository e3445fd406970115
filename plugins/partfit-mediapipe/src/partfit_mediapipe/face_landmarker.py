"""MediaPipe's face landmarker: 468 points of the face mesh.

The network sees a 192 x 192 crop with values in [0, 1], 1.5 times as wide as the face and turned so that the
eyes are level, and answers with 468 points in crop pixels and a logit of the presence of a face.

Source: Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs";
MediaPipe 0.10.21, modules/face_landmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8

from partfit.errors import ConfigError, InputError
from partfit.geometry.crops import Crop
from partfit.landmarks import Detection, Landmarker, LandmarkScheme, Region
from partfit_mediapipe.face_scheme import COUNT, contour_points, mediapipe468
from partfit_mediapipe.networks import Backend, load_network
from partfit_mediapipe.pictures import check_picture, network_inputs

_SIZE = 192  # side of the network's input, pixels
_MARGIN = 1.5  # side of a crop, of the face's box
_EYE_CORNERS = 33, 263  # outer corners, right and left

_SAME_FACE = 0.25  # mean distance of two detections of one face, of the face's size
_CONTOUR_SCALE = 2.0  # the outline slides along the silhouette: its points are this much less certain


@attrs.frozen(eq=False)
class _Face:
    """A face that the network was asked about.

    Attributes:
        picture: Index of its picture.
        points: (468, 2) picture pixels.
        presence: In [0, 1].
    """

    picture: int
    points: np.ndarray
    presence: float

    @property
    def size(self) -> float:
        """Geometric mean of the width and height of the points' box, pixels."""
        return math.sqrt(np.ptp(self.points, axis=0).prod())


class FaceLandmarker(Landmarker):
    """Places the 468 points of MediaPipe's face mesh.

    The first crop is 1.5 times the region's longer side, turned by its angle. With `refine`, the network
    looks a second time, at a crop derived from its own first answer in MediaPipe's way for video: turned by
    the line from eye corner to eye corner, 1.5 times the longer side of the points' box in that frame. All
    faces of all pictures go through the network together. A face whose presence is below `threshold` is
    dropped, and so is the less certain of two whose points lie, on average, within a quarter of the face's
    size of each other.

    The network says nothing about its errors. The scale of a point is `relative_error` times the face's size,
    the geometric mean of the width and height of the points' box; twice that for the points of the outline,
    which slide along the silhouette. The default and the factor two were measured on the 9 example
    photographs of dlib with 43 faces labelled with 68 points, about 40 pixels wide: the spread of a
    coordinate around its mean offset was 0.015 inside and 0.03 on the outline, to which labels in whole
    pixels contribute 0.007. `benchmarks/faces.py` measures the landmarks' mean error on such a label file.
    A point's confidence is the face's presence.

    MediaPipe counts pixels from the crop's corner, so that 0.5 is the centre of the first pixel; 0.5 is
    subtracted. Measured: x in a crop and in the flipped crop sum to 191.65 +- 0.09 on average, where 192
    would be exact counting from the corner and 191 from the first pixel's centre.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            threshold: Least presence of a face, in [0, 1].
            refine: Whether to look a second time.
            relative_error: Standard deviation of a coordinate, of the face's size.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        threshold: float = 0.5
        refine: bool = True
        relative_error: float = 0.013
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if not 0 <= self.threshold <= 1:
                raise ConfigError(f"threshold must lie in [0, 1], found {self.threshold}.")
            if not self.relative_error > 0:
                raise ConfigError(f"relative_error must be positive, found {self.relative_error}.")

    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self._network = load_network("face_landmark", self.config.backend, self.config.device)
        self._relative_scale = np.full(COUNT, self.config.relative_error)
        self._relative_scale[contour_points()] *= _CONTOUR_SCALE

    @property
    def scheme(self) -> LandmarkScheme:
        """`mediapipe468`."""
        return mediapipe468()

    def locate(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        """Locate the landmarks of each region; see `partfit.landmarks.Landmarker.locate`.

        Raises:
            InputError: if a picture is not RGB uint8 (H, W, 3), or if there are more or fewer pictures than
                lists of regions.
        """
        if len(images) != len(regions):
            raise InputError(
                f"locate needs one list of regions for each picture, found {len(images)} pictures and "
                f"{len(regions)} lists."
            )
        for image in images:
            check_picture(image)
        crops = [[Crop.around(region, scale=_MARGIN, resolution=_SIZE) for region in own] for own in regions]
        faces = self._look(images, crops)
        if self.config.refine:
            crops = [[] for _ in images]
            for face in faces:
                crops[face.picture].append(_crop_around_points(face.points))
            faces = self._look(images, crops)
        faces = [face for face in faces if face.presence >= self.config.threshold]
        return [
            [self._detection(face) for face in _distinct([f for f in faces if f.picture == index])]
            for index in range(len(images))
        ]

    def _look(self, images: Sequence[np.ndarray], crops: Sequence[Sequence[Crop]]) -> list[_Face]:
        """The network's answers for the crops of each picture, in order."""
        wanted = [(index, crop) for index, own in enumerate(crops) for crop in own]
        if not wanted:
            return []
        inputs = [
            network_inputs(image, own, low=0.0) for image, own in zip(images, crops, strict=True) if own
        ]
        points, logits = self._network(torch.cat(inputs))
        points = points.reshape(-1, COUNT, 3)[..., :2].astype(float) - 0.5  # from the first pixel's centre
        presence = 1 / (1 + np.exp(-logits[:, 0].astype(float)))
        return [
            _Face(index, crop.to_image(own), float(present))
            for (index, crop), own, present in zip(wanted, points, presence, strict=True)
        ]

    def _detection(self, face: _Face) -> Detection:
        scale = np.repeat(self._relative_scale[:, None] * face.size, 2, axis=1)
        return Detection(self.scheme, face.points, scale, np.full(COUNT, face.presence), face.presence)


def _crop_around_points(points: Float[np.ndarray, "468 2"]) -> Crop:
    """The crop for a second look.

    MediaPipe takes the points' box along the picture's axes. Here it lies along the face's own axes, so that
    it does not grow with the head's roll.
    """
    right, left = points[list(_EYE_CORNERS)]
    angle = math.atan2(left[1] - right[1], left[0] - right[0])
    to_face = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = points @ to_face
    low, high = turned.min(axis=0), turned.max(axis=0)
    center = to_face @ ((low + high) / 2)
    return Crop(center, _MARGIN * (high - low).max(), angle, resolution=_SIZE)


def _distinct(faces: Sequence[_Face]) -> list[_Face]:
    """The faces of one picture in their order, without the less certain of two that are the same."""
    kept: list[int] = []
    for index in sorted(range(len(faces)), key=lambda i: -faces[i].presence):
        face = faces[index]
        if all(_distance(face, faces[other]) > _SAME_FACE * face.size for other in kept):
            kept.append(index)
    return [faces[index] for index in sorted(kept)]


def _distance(a: _Face, b: _Face) -> float:
    return float(np.linalg.norm(a.points - b.points, axis=1).mean())
