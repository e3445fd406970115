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
    return _embedding("fake-made")


def _embedding(scheme: str) -> LandmarkEmbedding:
    return LandmarkEmbedding.of_vertices(LandmarkScheme(scheme, ("left", "right")), "fake-topology", [3, 5])


EMBEDDING = _embedding("fake-object")
