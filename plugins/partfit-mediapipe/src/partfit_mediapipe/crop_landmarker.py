"""How MediaPipe's landmarkers of faces and of hands look at a part: at the region, then at what they saw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import attrs
import numpy as np
import torch
from jaxtyping import UInt8

from partfit.errors import InputError
from partfit.geometry.crops import Crop
from partfit.landmarks import Detection, Landmarker, Region
from partfit_mediapipe.looks import look_around
from partfit_mediapipe.networks import Network
from partfit_mediapipe.pictures import check_picture, network_inputs


@attrs.frozen(eq=False, kw_only=True)
class Seen(ABC):
    """A part that a network was asked about.

    Attributes:
        picture: Index of its picture.
        points: (L, 2) picture pixels.
        presence: In [0, 1], how sure the network is that the part is there.
        spread: (L, 2) of the points in several looks, picture pixels; 0 after a single look.
    """

    picture: int
    points: np.ndarray
    presence: float
    spread: np.ndarray = attrs.field()

    @spread.default
    def _of_a_single_look(self) -> np.ndarray:
        return np.zeros_like(self.points)

    @property
    @abstractmethod
    def size(self) -> float:
        """Of the part, pixels; errors are counted in parts of it."""

    @property
    @abstractmethod
    def crop(self) -> Crop:
        """Where to look again."""


SeenT = TypeVar("SeenT", bound=Seen)


class CropLandmarker(Landmarker, Generic[SeenT]):
    """A landmarker whose network sees crops with values in [0, 1].

    With the option `refine` it looks first at the regions, and then at the crops that follow from its own
    answers; with `looks`, that often at each final crop (see `partfit_mediapipe.looks`). All parts of all
    pictures go through the network together. A part whose presence is below `threshold` is dropped, and so is
    the less certain of two whose points lie, on average, within `same_part` times the part's size of each
    other.

    Attributes:
        same_part: See above.
    """

    same_part: ClassVar[float]
    config: Any
    _network: Network

    @abstractmethod
    def _first_crop(self, region: Region) -> Crop:
        """Where to look first."""

    @abstractmethod
    def _seen(self, picture: int, crop: Crop, *outputs: np.ndarray) -> SeenT:
        """What the outputs of the network for one crop, one row each, say of the picture."""

    @abstractmethod
    def _agreed(self, looks: Sequence[SeenT]) -> SeenT:
        """One part from several looks at it, the first of them unchanged."""

    @abstractmethod
    def _detection(self, seen: SeenT) -> Detection:
        """The landmarks of a part that is accepted."""

    def locate(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], regions: Sequence[Sequence[Region]]
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
        crops = [[self._first_crop(region) for region in own] for own in regions]
        if self.config.refine:
            first = self._look(images, crops)
            crops = [[seen.crop for seen in first if seen.picture == index] for index in range(len(images))]
        agreed = map(self._agreed, look_around(partial(self._look, images), crops, self.config.looks))
        accepted = [seen for seen in agreed if seen.presence >= self.config.threshold]
        return [
            [self._detection(seen) for seen in self._distinct([s for s in accepted if s.picture == index])]
            for index in range(len(images))
        ]

    def _look(self, images: Sequence[np.ndarray], crops: Sequence[Sequence[Crop]]) -> list[SeenT]:
        """The network's answers for the crops of each picture, in order."""
        wanted = [(index, crop) for index, own in enumerate(crops) for crop in own]
        if not wanted:
            return []
        inputs = [
            network_inputs(image, own, low=0.0) for image, own in zip(images, crops, strict=True) if own
        ]
        rows = zip(*self._network(torch.cat(inputs)), strict=True)
        return [
            self._seen(index, crop, *outputs) for (index, crop), outputs in zip(wanted, rows, strict=True)
        ]

    def _distinct(self, seen: Sequence[SeenT]) -> list[SeenT]:
        """The parts of one picture in their order, without the less certain of two that are the same."""
        kept: list[int] = []
        for index in sorted(range(len(seen)), key=lambda i: -seen[i].presence):
            one = seen[index]
            if all(_distance(one, seen[other]) > self.same_part * one.size for other in kept):
                kept.append(index)
        return [seen[index] for index in sorted(kept)]


def _distance(a: Seen, b: Seen) -> float:
    return float(np.linalg.norm(a.points - b.points, axis=1).mean())
