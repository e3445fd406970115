"""Trained networks as landmarkers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from partfit.errors import ConfigError, InputError
from partfit.geometry.crops import Crop, extract_crops
from partfit.landmarks import Detection, Landmarker, LandmarkScheme, Region, Start
from partfit.learning.checkpoint import Checkpoint, load_checkpoint
from partfit.learning.devices import check_device
from partfit.learning.shapes import box_of, similarity

_OTHER_SIDE = {"left": "right", "right": "left"}

#: A further crop is at least this part, and at most this many times, as large as the one before.
_GROWTH = (0.5, 2.0)


@attrs.frozen(eq=False)
class _Look:
    """A crop to look at.

    Attributes:
        picture: Index of its picture.
        crop: The crop; flipped if it shows the other side of the part than the network knows.
        side: Of the part, `left`, `right` or None.
    """

    picture: int
    crop: Crop
    side: str | None


@attrs.frozen(eq=False)
class _Seen:
    """What the network says of a crop.

    Attributes:
        look: The crop.
        points: (L, 2) positions, crop units.
        deviation: (L, 2) standard deviations of their coordinates, crop units.
        confidence: (L,) in [0, 1].
        start: Where the fit of a model may begin, if the network says so.
    """

    look: _Look
    points: np.ndarray
    deviation: np.ndarray
    confidence: np.ndarray
    start: Start | None

    @property
    def typical_deviation(self) -> float:
        """The median standard deviation, crop units."""
        return float(np.median(self.deviation))


class NetworkLandmarker(Landmarker):
    """Places the landmarks that a network was trained for.

    The first crop is the region's, by way of the region map and the crop rule of the checkpoint. With
    `refine`, the next crop lies to the box around the points that were found as the crops of training lie to
    theirs. It is turned as the part is: by the angle of the similarity that takes the checkpoint's shape to
    the points, by least squares weighted by their confidence. So roll is taken out, and what a region lacks
    in precision.

    Position and scale are the network's, the scale as the calibration of the checkpoint makes standard
    deviations of it: where visibility is predicted, hidden landmarks have larger ones. The confidence is
    1 - sigma, clipped (thesis eq. 3.22, crop units), times the probability that the landmark is in sight, if
    the network predicts it: it is high for what is seen and certain.

    The score is the usual standard deviation in crops that show the part, see `Calibration.usual`, over that
    in the last crop, at most 1: a network is less sure where the part is not. It is 1 for a checkpoint
    that was never calibrated. Parts of a score below `min_score` are dropped.

    A network that was trained with a fit also says where that of its model may begin: of crops that are not
    flipped, by the last look, without averaging.

    With `flips` the answer is the mean of both looks; its variance is the mean of the two variances, which is
    cautious. It needs a scheme that is its own mirror, and a part without sides.

    A network that was trained on one side of a part sees the other one flipped, if its scheme is its own
    mirror. Of a region that does not tell its side it looks at both, and takes the one of which it is more
    sure.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            refine: How often to look again, each time at a crop that is aligned with what was seen before.
            flips: Whether each crop is also seen flipped, and both answers averaged.
            min_score: Least score of a part that is accepted, in [0, 1].
            batch_size: Crops that go through the network together.
            device: Torch device of the network.
        """

        refine: int = 1
        flips: bool = False
        min_score: float = 0.4
        batch_size: int = 16
        device: str = "cpu"

        def __attrs_post_init__(self) -> None:
            if self.refine < 0:
                raise ConfigError(f"refine: expected a whole number from 0, found {self.refine}.")
            if not 0 <= self.min_score <= 1:
                raise ConfigError(f"min_score: expected a number in [0, 1], found {self.min_score}.")
            if self.batch_size < 1:
                raise ConfigError(f"batch_size: expected a whole number above 0, found {self.batch_size}.")

    config: Config

    def __init__(self, config: Config | None = None) -> None:
        """Load the network.

        Raises:
            ConfigError: if `flips` is asked for and cannot be, or this machine has no such device.
            InputError: as `load_checkpoint`.
        """
        super().__init__(config)
        check_device(self.config.device)
        self.checkpoint = self._load()
        if self.config.flips and (not self._is_own_mirror or self.checkpoint.side is not None):
            raise ConfigError(
                f"flips: expected a scheme that is its own mirror, and a part without sides; found "
                f"{self.scheme.name!r}, which is not. Leave it out."
            )
        self._network = self.checkpoint.network.eval().to(self.config.device)
        self._resolution = self._network.config.resolution
        with torch.no_grad():
            self._residual = self._network.likelihood.deviation()

    @abstractmethod
    def _load(self) -> Checkpoint:
        """The network with all that its use needs."""

    @property
    def detector(self) -> str | None:
        """See `Landmarker.detector`."""
        return self.checkpoint.detector

    @property
    def inflation(self) -> float:
        """That of the held-out samples on which the network was calibrated."""
        return self.checkpoint.calibration.inflation

    @property
    def scheme(self) -> LandmarkScheme:
        """The scheme that the network was trained for."""
        return self.checkpoint.scheme

    @property
    def _is_own_mirror(self) -> bool:
        return self.scheme.mirror is not None and self.scheme.mirror_scheme in (None, self.scheme.name)

    def locate(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        """Locate the landmarks of each region; see `partfit.landmarks.Landmarker.locate`.

        Raises:
            InputError: if there are more or fewer pictures than lists of regions, or a region is of a side
                that the network cannot see.
        """
        if len(images) != len(regions):
            raise InputError(
                f"locate needs one list of regions for each picture, found {len(images)} pictures and "
                f"{len(regions)} lists."
            )
        looks = [self._looks(k, region) for k, own in enumerate(regions) for region in own]
        answers = iter(self._see(images, [look for own in looks for look in own]))
        seen = [min([next(answers) for _ in own], key=lambda one: one.typical_deviation) for own in looks]
        for _ in range(self.config.refine):
            seen = self._see(images, [attrs.evolve(one.look, crop=self._aligned(one)) for one in seen])
        found: list[list[Detection]] = [[] for _ in images]
        for one in seen:
            detection = self._detection(one)
            if detection.score >= self.config.min_score:
                found[one.look.picture].append(detection)
        return found

    def _looks(self, picture: int, region: Region) -> list[_Look]:
        """The crops to look at first: one, or one for each side that the region may show."""
        own = self.checkpoint.side
        if own is None:
            return [_Look(picture, self._first_crop(region, mirror=False), region.side)]
        if region.side not in (None, own) and not self._is_own_mirror:
            raise InputError(
                f"This network knows {own} parts, and the landmarks {self.scheme.name!r} have no mirror of "
                f"their own; found a region of the side {region.side!r}."
            )
        undecided = region.side is None and self._is_own_mirror
        sides = (own, _OTHER_SIDE[own]) if undecided else (region.side or own,)
        return [_Look(picture, self._first_crop(region, mirror=side != own), side) for side in sides]

    def _first_crop(self, region: Region, mirror: bool) -> Crop:
        rule, regions = self.checkpoint.crop, self.checkpoint.regions
        if mirror:
            x, y = regions.shift
            regions = attrs.evolve(regions, shift=(-x, y))
        return attrs.evolve(regions.crop(region, rule, self._resolution), mirror=mirror)

    def _aligned(self, seen: _Seen) -> Crop:
        """The crop that training would have taken around what was found, had it been upright."""
        shape, crop = self.checkpoint.shape, seen.look.crop
        angle = np.angle(similarity(shape, seen.points, seen.confidence))
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s], [s, c]])  # from the axes of the upright part to those of the crop
        boxed = slice(None) if self.checkpoint.boxed is None else self.checkpoint.boxed
        middle, side = box_of(seen.points[boxed] @ turn)
        usual_middle, usual_side = box_of(shape[boxed])
        scale = np.clip(side / usual_side, *_GROWTH) if usual_side > 0 else 1.0
        center = crop.to_image(_crop_pixels(turn @ (middle - scale * usual_middle), self._resolution))
        turned = crop.angle - angle if crop.mirror else crop.angle + angle
        return attrs.evolve(crop, center=center, size=crop.size * scale, angle=turned)

    def _see(self, images: Sequence[np.ndarray], looks: Sequence[_Look]) -> list[_Seen]:
        """What the network says of some crops, those of a picture beside each other."""
        crops = [
            extract_crops(_planes(image), [look.crop for look in looks if look.picture == k])
            for k, image in enumerate(images)
            if any(look.picture == k for look in looks)
        ]
        if not crops:
            return []
        answers = [self._answers(batch / 255) for batch in torch.cat(crops).split(self.config.batch_size)]
        *arrays, numbers = (torch.cat(parts).double().cpu() for parts in zip(*answers, strict=True))
        starts = self._starts(numbers, [look.crop for look in looks])
        rows = zip(looks, *(array.numpy() for array in arrays), starts, strict=True)
        return [_Seen(look, *values) for look, *values in rows]

    @torch.no_grad()
    def _starts(self, numbers: Float[Tensor, "looks N"], crops: list[Crop]) -> list[Start | None]:
        """Where fits may begin, by the raw numbers that the network says of crops."""
        head = self._network.start
        return [None] * len(crops) if head is None else head.starts(numbers, crops)

    @torch.no_grad()
    def _answers(self, crops: Float[Tensor, "batch 3 R R"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions (B, L, 2), deviations (B, L, 2), confidences (B, L), numbers of the start (B, N)."""
        crops = crops.to(self.config.device)
        mean, deviation, confidence, start = self._answers_once(crops)
        if not self.config.flips:
            return mean, deviation, confidence, start
        mirror = torch.from_numpy(np.array(self.scheme.mirror)).to(mean.device)
        flipped = [values[:, mirror] for values in self._answers_once(crops.flip(3))[:3]]
        mean = (mean + flipped[0] * mean.new_tensor([-1, 1])) / 2
        deviation = ((deviation**2 + flipped[1] ** 2) / 2).sqrt()
        return mean, deviation, (confidence + flipped[2]) / 2, start

    def _answers_once(self, crops: Float[Tensor, "batch 3 R R"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        distribution = self._network(crops)
        deviation = self.checkpoint.calibration.deviation(distribution, self._residual)
        confidence = distribution.confidence
        if distribution.visibility is not None:
            confidence = confidence * distribution.visibility.sigmoid()
        nothing = deviation.new_zeros(len(crops), 0)
        start = nothing if distribution.start is None else distribution.start
        return distribution.mean, deviation, confidence, start

    def _detection(self, seen: _Seen) -> Detection:
        usual, crop = self.checkpoint.calibration.usual, seen.look.crop
        order: Any = self.scheme.mirror if crop.mirror else slice(None)
        return Detection(
            self.scheme,
            crop.to_image(_crop_pixels(seen.points[order], self._resolution)),
            crop.scale_to_image(seen.deviation[order] * self._resolution),
            seen.confidence[order],
            1.0 if usual is None else min(1.0, usual / seen.typical_deviation),
            side=seen.look.side,
            start=seen.start,
        )


class CheckpointLandmarker(NetworkLandmarker):
    """A network of a file that `partfit train` wrote; `checkpoint:PATH` for short."""

    @attrs.frozen
    class Config(NetworkLandmarker.Config):
        """Options, beside those of every network.

        Attributes:
            path: The file that `partfit train` wrote.
        """

        path: Path = attrs.field(
            kw_only=True,
            metadata={"hint": "The file of a trained network, which `partfit train` writes."},
        )

    config: Config

    def _load(self) -> Checkpoint:
        return load_checkpoint(self.config.path)


def _planes(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    # torch takes only writable arrays with positive strides
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def _crop_pixels(points: Float[np.ndarray, "*batch 2"], resolution: int) -> Float[np.ndarray, "*batch 2"]:
    """Points in crop units as crop pixels."""
    return (points + 0.5) * resolution - 0.5
