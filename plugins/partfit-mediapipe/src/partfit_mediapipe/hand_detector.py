"""MediaPipe's palm detector.

The network sees a 192 x 192 picture with values in [0, 1] and answers twice for each of 24 x 24 cells, 8
pixels wide, and six times for each of 12 x 12 cells, 16 pixels wide: with the box of a palm, seven keypoints
and a score. Palms are boxed, rather than hands, because their boxes are nearly square and overlap less.

Source: Zhang et al. 2020, "MediaPipe Hands"; MediaPipe 0.10.21, modules/palm_detection.
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

_HAND = 2.6  # side of a hand's region, of the palm's box
_SHIFT = 0.5  # from the palm's middle towards the fingers, of the palm's box


class HandDetector(Detector):
    """Finds hands with MediaPipe's palm detector.

    Every picture is searched as a whole, and a larger one in tiles too, for palms of up to a fifth of its
    longer side L; see `partfit_mediapipe.search.BoxNetwork.search`.

    A region is the square that MediaPipe crops for its hand landmarker: 2.6 times as wide as the palm's box,
    turned so that the line from the wrist to the knuckle of the middle finger points up, and shifted along
    it by half a palm's box. It has no side: the landmarker tells left from right.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            threshold: Least score of a palm, between 0 and 1. MediaPipe's own 0.5 loses one of 49
                photographs of hands, a fist that has 0.37, and some of the smallest hands. What 0.3 finds too
                much, the landmarker refuses.
            tiles: Whether to look for small hands in tiles.
            backend: `auto`, `torch` or `litert`; see `partfit_mediapipe.networks.load_network`.
            device: Torch device of the network.
        """

        threshold: float = 0.3
        tiles: bool = True
        backend: Backend = "auto"
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if not 0 < self.threshold < 1:
                raise ConfigError(f"threshold must lie between 0 and 1, found {self.threshold}.")

    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        network = load_network("palm_detection", self.config.backend, self.config.device)
        cells = np.concatenate([cell_middles(8, answers=2), cell_middles(16, answers=6)])
        self._boxes = BoxNetwork(network, cells, low=0.0)

    def detect(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[list[Region]]:
        """Find the hands in each picture, best score first; see `partfit.landmarks.Detector.detect`.

        Raises:
            InputError: if a picture is not RGB uint8 (H, W, 3).
        """
        found = self._boxes.search(images, self.config.threshold, self.config.tiles)
        return [[_region(palm) for palm in palms] for palms in found]


def _region(palm: Found) -> Region:
    """The keypoints are: wrist, knuckles of index, middle, ring and little finger, thumb's cmc and mcp."""
    low, high, wrist, _, middle_knuckle = palm.points[:5]
    side = float((high - low).max())
    x, y = middle_knuckle - wrist
    angle = math.atan2(x, -y)
    center = (low + high) / 2 + _SHIFT * side * np.array([math.sin(angle), -math.cos(angle)])
    return Region((float(center[0]), float(center[1])), (_HAND * side, _HAND * side), angle, palm.score)
