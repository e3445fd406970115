from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from partfit.landmarks import Detector, LandmarkEmbedding, LandmarkScheme, Region


class Box(Detector):
    @attrs.frozen
    class Config:
        fraction: float = 0.5

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Region]]:
        return [[self._middle(*image.shape[:2])] for image in images]

    def _middle(self, height: int, width: int) -> Region:
        size = (width * self.config.fraction, height * self.config.fraction)
        return Region(((width - 1) / 2, (height - 1) / 2), size)


class Needy(Box):
    @attrs.frozen
    class Config:
        path: Path
        fraction: float = 0.5


def make_embedding() -> LandmarkEmbedding:
    scheme = LandmarkScheme("fake2", ("left", "right"))
    return LandmarkEmbedding.of_vertices(scheme, "fake-topology", [3, 5])


EMBEDDING = make_embedding()
