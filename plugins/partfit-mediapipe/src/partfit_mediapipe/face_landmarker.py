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

from partfit.errors import ConfigError
from partfit.geometry.crops import Crop
from partfit.landmarks import Detection, LandmarkScheme, Region
from partfit_mediapipe.crop_landmarker import CropLandmarker, Seen
from partfit_mediapipe.face_scheme import COUNT, contour_points, mediapipe468
from partfit_mediapipe.looks import agreement, certainty
from partfit_mediapipe.networks import Backend, load_network

_SIZE = 192  # side of the network's input, pixels
_MARGIN = 1.5  # side of a crop, of the face's box
_EYE_CORNERS = 33, 263  # outer corners, right and left

_CONTOUR_SCALE = 2.0  # the outline slides along the silhouette: its points are this much less certain

#: Standard deviation of a coordinate for each unit of the spread of several looks. benchmarks/calibration.py
#: fits it, for 8 looks and the default `relative_error`.
SPREAD_FACTOR = 1.6

FACE_INFLATION = 260.0  # see `Landmarker.inflation`

_UNCERTAIN = 0.1  # a scale of this part of the face's size leaves no confidence


@attrs.frozen(eq=False, kw_only=True)
class _Face(Seen):
    """A face that the network was asked about: 468 points."""

    @property
    def size(self) -> float:
        """Geometric mean of the width and height of the points' box, pixels."""
        return math.sqrt(np.ptp(self.points, axis=0).prod())

    @property
    def crop(self) -> Crop:
        """Where to look again.

        MediaPipe takes the points' box along the picture's axes. Here it lies along the face's own axes, so
        that it does not grow with the head's roll.
        """
        right, left = self.points[list(_EYE_CORNERS)]
        angle = math.atan2(left[1] - right[1], left[0] - right[0])
        to_face = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = self.points @ to_face
        low, high = turned.min(axis=0), turned.max(axis=0)
        center = to_face @ ((low + high) / 2)
        return Crop(center, _MARGIN * (high - low).max(), angle, resolution=_SIZE)


class FaceLandmarker(CropLandmarker[_Face]):
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
    A point's confidence is the face's presence. These scales leave out what labels and network define
    differently: distances from the labels are larger, and `benchmarks/calibration.py` tells by how much.

    With `looks` above 1 the final crop of each face is seen that many times, a little shifted, zoomed, turned
    and flipped (see `partfit_mediapipe.looks`). A point is then the median of the answers, and its scale,
    for each coordinate,

        sqrt((SPREAD_FACTOR * spread)^2 + (relative_error * size)^2)

    with `relative_error` doubled on the outline as before. The factor makes regions that should hold 90% of
    the distances from the labels hold 90% of them: those include what the labels define differently, and
    their rounding to whole pixels. The script fits it, and reports how much the regions hold on pictures that
    were left out of the fit. The confidence falls from the presence to 0 as the scale, the root mean square
    of both coordinates, grows from 0 to a tenth of the face's size (after thesis eq. 3.22, C = 1 - sigma).
    The score is the presence in the first, unchanged look. The cost is `looks` runs of the network a face
    instead of one, besides the first run of `refine`; the script reports the milliseconds.

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
            looks: How often the network looks at the final crop of a face: 1, or 8 for median points and for
                scales and confidences that tell certain points from uncertain ones. Each look is one run.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        threshold: float = 0.5
        refine: bool = True
        relative_error: float = 0.013
        looks: int = 1
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if not 0 <= self.threshold <= 1:
                raise ConfigError(f"threshold must lie in [0, 1], found {self.threshold}.")
            if not self.relative_error > 0:
                raise ConfigError(f"relative_error must be positive, found {self.relative_error}.")
            if self.looks < 1:
                raise ConfigError(f"looks must be at least 1, found {self.looks}.")

    same_part = 0.25
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

    @property
    def inflation(self) -> float:
        """That of 468 landmarks on 43 labelled photographs, see `benchmarks/inflation.py`."""
        return FACE_INFLATION

    def _first_crop(self, region: Region) -> Crop:
        return Crop.around(region, scale=_MARGIN, resolution=_SIZE)

    def _seen(self, picture: int, crop: Crop, *outputs: np.ndarray) -> _Face:
        points, logit = outputs
        points = points.reshape(COUNT, 3)[:, :2].astype(float) - 0.5  # from the first pixel's centre
        if crop.mirror:
            points = points[self.scheme.mirror]
        presence = 1 / (1 + math.exp(-float(logit[0])))
        return _Face(picture=picture, points=crop.to_image(points), presence=presence)

    def _agreed(self, looks: Sequence[_Face]) -> _Face:
        points, spread = agreement(np.stack([face.points for face in looks]))
        return attrs.evolve(looks[0], points=points, spread=spread)

    def _detection(self, face: _Face) -> Detection:
        scale = np.hypot(SPREAD_FACTOR * face.spread, self._relative_scale[:, None] * face.size)
        confidence = face.presence * certainty(scale, _UNCERTAIN * face.size, self.config.looks)
        return Detection(self.scheme, face.points, scale, confidence, face.presence)
