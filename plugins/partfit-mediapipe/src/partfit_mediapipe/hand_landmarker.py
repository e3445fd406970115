"""MediaPipe's hand landmarker: 21 points, in the picture and in metres, and the side of the hand.

The network sees a 224 x 224 crop with values in [0, 1], turned so that the hand points up, and answers with
21 points in crop pixels, the presence of a hand, its side, and the same 21 points in metres.

Source: Zhang et al. 2020, "MediaPipe Hands: On-device Real-time Hand Tracking"; MediaPipe 0.10.21,
modules/hand_landmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
from jaxtyping import Float

from partfit.errors import ConfigError
from partfit.geometry.crops import Crop
from partfit.landmarks import Detection, LandmarkScheme, Region
from partfit_mediapipe.crop_landmarker import CropLandmarker, Seen
from partfit_mediapipe.hand_scheme import COUNT, hand21
from partfit_mediapipe.looks import agreement, certainty
from partfit_mediapipe.networks import Backend, load_network

_SIZE = 224  # side of the network's input, pixels

# of the crop for a second look
_STEADY = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]  # wrist, thumb and fingers without their outer halves
_MARGIN = 2.0  # side of the crop, of the steady points' box
_SHIFT = 0.1  # towards the fingers, of the box's height

# how much less certain than the middle joints (pip, dip) of the fingers
_OTHER_SCALE = 1.5  # thumb, knuckles and tips
_WRIST_SCALE = 2.5
_DEPTH_SCALE = 1.3  # z, against x and y of the same point

#: Standard deviation of a coordinate, in pixels as in metres, for each unit of the spread of several looks.
#: benchmarks/calibration.py fits it to points in the picture, for 8 looks and the default `relative_error`.
SPREAD_FACTOR = 1.0

_UNCERTAIN = 0.2  # a scale of this part of the hand's size leaves no confidence


@attrs.frozen(eq=False, kw_only=True)
class _Hand(Seen):
    """A hand that the network was asked about: 21 points.

    Attributes:
        points_3d: (21, 3) metres, along the picture's axes.
        right: In [0, 1], how sure the network is of a right hand.
        spread_3d: (21, 3) of the metric points in several looks, metres; 0 after a single look.
    """

    points_3d: np.ndarray
    right: float
    spread_3d: np.ndarray = attrs.field(factory=lambda: np.zeros((COUNT, 3)))

    @property
    def crop(self) -> Crop:
        """Where to look again, by MediaPipe's rule for the next picture of a video."""
        wrist, index, middle, ring = self.points[[0, 5, 9, 13]]
        x, y = (index + 2 * middle + ring) / 4 - wrist
        angle = math.atan2(x, -y)
        c, s = math.cos(angle), math.sin(angle)
        to_hand = np.array([[c, -s], [s, c]])
        turned = self.points[_STEADY] @ to_hand
        low, high = turned.min(axis=0), turned.max(axis=0)
        center = to_hand @ ((low + high) / 2 - [0, _SHIFT * (high - low)[1]])
        return Crop((center[0], center[1]), _MARGIN * (high - low).max(), angle, resolution=_SIZE)

    @property
    def size(self) -> float:
        """The longer side, along the hand's own axes, of the steady points' box, pixels."""
        return self.crop.size / _MARGIN


class HandLandmarker(CropLandmarker[_Hand]):
    """Places the 21 points of a hand, and tells its side.

    The first crop is the region, made square: a detector gives the part of the picture to look at, see
    `partfit_mediapipe.hand_detector.HandDetector`. With `refine`, the network looks a second time, at a crop
    derived from its own first answer by MediaPipe's rule for video: turned by the line from the wrist to the
    middle of the knuckles, twice the longer side of the box, along the hand's own axes, of the wrist, the
    thumb's and the fingers' inner halves, moved towards the fingers by a tenth of its height. That side is
    the hand's size in what follows: it hardly depends on what the fingers do. All hands of all pictures go
    through the network together. A hand whose presence is below `threshold` is dropped, and so is the less
    certain of two whose points lie, on average, within a fifth of the hand's size of each other, whatever
    their sides: looks at one hand through regions that are moved, turned and scaled a little differ by less,
    and palms of two hands that are as near are not told apart by the detector.

    The network says nothing about its errors. The scale of a point is `relative_error` times the hand's size,
    and that of a metric coordinate `error_3d`, for the middle joints (pip, dip) of the fingers; 1.5 times
    as much for the thumb, the knuckles and the tips, 2.5 times for the wrist, and 1.3 times more for z. These
    figures were chosen on 49 photographs of one left hand with 21 labelled points, such that errors are about
    as large as their scales in the mean square, for the full network after a second look. They include what
    labels and network mean by a point: the network's wrist lies 5% of the hand's box nearer to the elbow
    than the labels'. Where the back of the hand is turned to the camera, errors are twice as large.
    `benchmarks/hands.py` measures errors, and their ratio to the scales, on such a label file. A point's
    confidence is the hand's presence.

    MediaPipe's documentation speaks of handedness in mirrored pictures. The output itself is above one half
    for a right hand in a picture that is not mirrored: it is below for all 49 left hands of those
    photographs, and above for all of them flipped.

    With `looks` above 1 the final crop of each hand is seen that many times, a little shifted, zoomed, turned
    and flipped (see `partfit_mediapipe.looks`). A point is then the median of the answers, and its
    scale, for each coordinate,

        sqrt((SPREAD_FACTOR * spread)^2 + (what it is for a single look)^2)

    and likewise for metric points, in metres. The factor makes regions that should hold 90% of the distances
    from the labels in the picture hold 90% of them, on the same photographs of one left hand. It is loosely
    known: where the fixed part is about right, the spread matters little. Metric points get the same factor:
    their fixed part alone already holds more than 90% of their errors, and the spread tells the certain ones
    from the uncertain ones a little better. `benchmarks/calibration.py` fits the factor, and reports how much
    the regions hold on pictures that were left out of the fit, and the milliseconds.

    The confidence falls from the presence to 0 as the scale in the picture, the root mean square of both
    coordinates, grows from 0 to a fifth of the hand's size (after thesis eq. 3.22, C = 1 - sigma). The side
    is that of the mean of the looks; the score is the presence in the first, unchanged look. The cost is
    `looks` runs of the network a hand instead of one, besides the first run of `refine`.

    `points_3d` are the network's metric points, turned from the crop's axes to the picture's; z is
    away from the camera. Their size is that of a hand of usual size, whatever the size of the hand in the
    picture.

    MediaPipe counts pixels from the crop's corner, so that 0.5 is the centre of the first pixel; 0.5 is
    subtracted: x in a crop and in the flipped crop sum to nearly the crop's 224 pixels, not to 223.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            variant: The network: `full`, or `lite`, which is faster and less exact.
            threshold: Least presence of a hand, in [0, 1].
            refine: Whether to look a second time. On the photographs named above it lowers the mean error
                from 4.6 to 4.3% of the hand's box, by putting right what a poor region has spoilt.
            relative_error: Standard deviation of a coordinate of a middle joint, of the hand's size.
            error_3d: Standard deviation of x and y of a middle joint in `points_3d`, metres.
            looks: How often the network looks at the final crop of a hand: 1, or 8 for median points and for
                scales and confidences that tell certain points from uncertain ones. Each look is one run.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        variant: Literal["full", "lite"] = "full"
        threshold: float = 0.5
        refine: bool = True
        relative_error: float = 0.026
        error_3d: float = 0.0055
        looks: int = 1
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if self.variant not in ("full", "lite"):
                raise ConfigError(f"variant must be 'full' or 'lite', found {self.variant!r}.")
            if not 0 <= self.threshold <= 1:
                raise ConfigError(f"threshold must lie in [0, 1], found {self.threshold}.")
            if not self.relative_error > 0:
                raise ConfigError(f"relative_error must be positive, found {self.relative_error}.")
            if not self.error_3d > 0:
                raise ConfigError(f"error_3d must be positive, found {self.error_3d}.")
            if self.looks < 1:
                raise ConfigError(f"looks must be at least 1, found {self.looks}.")

    same_part = 0.2
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        name = f"hand_landmark_{self.config.variant}"
        self._network = load_network(name, self.config.backend, self.config.device)
        self._factor = _uncertainty()

    @property
    def scheme(self) -> LandmarkScheme:
        """`hand21`."""
        return hand21()

    @property
    def inflation(self) -> float:
        """That on 49 labelled photographs of one person's hand, see `benchmarks/inflation.py`."""
        return 3.5

    def _first_crop(self, region: Region) -> Crop:
        return Crop.around(region, resolution=_SIZE)

    def _seen(self, picture: int, crop: Crop, *outputs: np.ndarray) -> _Hand:
        points, presence, right, metric = outputs
        points = points.reshape(COUNT, 3)[:, :2].astype(float) - 0.5  # from the first pixel's centre
        return _Hand(
            picture=picture,
            points=crop.to_image(points),
            presence=float(presence[0]),
            points_3d=_in_picture(metric.reshape(COUNT, 3).astype(float), crop),
            right=float(1 - right[0] if crop.mirror else right[0]),
        )

    def _agreed(self, looks: Sequence[_Hand]) -> _Hand:
        """See `CropLandmarker`.

        Metric points have no common origin from look to look: those of each are moved to the middle of the
        first.
        """
        points, spread = agreement(np.stack([hand.points for hand in looks]))
        metric = np.stack([hand.points_3d for hand in looks])
        middles = metric.mean(axis=1, keepdims=True)
        points_3d, spread_3d = agreement(metric - (middles - middles[0]))
        right = sum(hand.right for hand in looks) / len(looks)
        return attrs.evolve(
            looks[0], points=points, points_3d=points_3d, right=right, spread=spread, spread_3d=spread_3d
        )

    def _detection(self, hand: _Hand) -> Detection:
        factor = self._factor[:, None]
        scale = np.hypot(SPREAD_FACTOR * hand.spread, self.config.relative_error * hand.size * factor)
        floor_3d = self.config.error_3d * factor * [1, 1, _DEPTH_SCALE]
        return Detection(
            self.scheme,
            hand.points,
            scale,
            hand.presence * certainty(scale, _UNCERTAIN * hand.size, self.config.looks),
            hand.presence,
            side="right" if hand.right >= 0.5 else "left",
            points_3d=hand.points_3d,
            scale_3d=np.hypot(SPREAD_FACTOR * hand.spread_3d, floor_3d),
        )


def _uncertainty() -> Float[np.ndarray, " 21"]:
    """How uncertain each point is, against the middle joints of the fingers."""
    names = hand21().names
    factor = np.full(len(names), _OTHER_SCALE)
    factor[[name.endswith(("_pip", "_dip")) for name in names]] = 1.0
    factor[names.index("wrist")] = _WRIST_SCALE
    return factor


def _in_picture(points: Float[np.ndarray, "21 3"], crop: Crop) -> Float[np.ndarray, "21 3"]:
    """Points in a crop's axes, in those of its picture."""
    c, s = math.cos(crop.angle), math.sin(crop.angle)
    return points * [-1 if crop.mirror else 1, 1, 1] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
