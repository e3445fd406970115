"""Finding coloured stickers in a photograph."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from partfit.landmarks import Detection, Detector, Landmarker, Region
from partfit_foot.markers import SCHEME


@attrs.frozen
class StickerConfig:
    """What counts as a sticker.

    Attributes:
        saturation: Least (max - min) / max of the linear colour; skin is below it.
        brightness: Least maximum of the linear colour.
        min_pixels: Least size of a sticker.
        min_stickers: A foot shows at least so many.
    """

    saturation: float = attrs.field(default=0.88, validator=attrs.validators.le(1))
    brightness: float = attrs.field(default=0.04, validator=attrs.validators.le(1))
    min_pixels: int = attrs.field(default=12, validator=attrs.validators.ge(1))
    min_stickers: int = attrs.field(default=8, validator=attrs.validators.ge(4))


class StickerDetector(Detector):
    """The detector `foot-stickers`: the box of all stickers of a picture, which shows one foot."""

    Config = StickerConfig

    def detect(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[list[Region]]:  # noqa: D102
        return [self._region(image) for image in images]

    def _region(self, image: UInt8[np.ndarray, "_ _ 3"]) -> list[Region]:
        places = _stickers(image, self.config)
        if len(places) < self.config.min_stickers:
            return []
        points = np.array([place for place, _ in places.values()])
        low, high = points.min(axis=0), points.max(axis=0)
        size = 1.3 * (high - low) + 1
        return [
            Region(tuple(((low + high) / 2).tolist()), tuple(size.tolist()), score=len(places) / len(SCHEME))
        ]


class StickerLandmarker(Landmarker):
    """The landmarker `foot-stickers`: the middle of the largest spot of each sticker's colour.

    A sticker that is not seen is not a number, with confidence 0 and an infinite scale. The side follows
    from the order of the shin, the big and the little toe, which must be seen.
    """

    Config = StickerConfig
    scheme = SCHEME

    def locate(  # noqa: D102
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        found = [
            [self._stickers_in(image, region) for region in own]
            for image, own in zip(images, regions, strict=True)
        ]
        return [[detection for detection in detections if detection is not None] for detections in found]

    def _stickers_in(self, image: UInt8[np.ndarray, "_ _ 3"], region: Region) -> Detection | None:
        places = _stickers(image, self.config, _inside(region, image.shape[:2]))
        if len(places) < self.config.min_stickers:
            return None
        n = len(SCHEME)
        points, scale = np.full((n, 2), np.nan), np.full((n, 2), np.inf)
        for index, (place, diameter) in places.items():
            # a foreshortened or partly hidden sticker is off by a part of its size
            points[index], scale[index] = place, 0.2 + 0.05 * diameter
        side = _side(points)
        if side is None:
            return None
        known = np.isfinite(points[:, 0])
        return Detection(SCHEME, points, scale, known.astype(float), score=float(known.mean()), side=side)


def _stickers(
    image: UInt8[np.ndarray, "height width 3"],
    config: StickerConfig,
    within: Bool[np.ndarray, "height width"] | None = None,
) -> dict[int, tuple[Float[np.ndarray, " 2"], float]]:
    """The middle (x, y) and the diameter in pixels of each sticker that is seen, by its index."""
    colors = sticker_of_pixels(image, config)
    if within is not None:
        colors[~within] = -1
    places = {}
    for index in range(len(SCHEME)):
        spots, n_spots = ndimage.label(colors == index)
        sizes = np.bincount(spots.ravel())[1:]
        if n_spots and sizes.max() >= config.min_pixels:
            y, x = ndimage.center_of_mass(spots, spots, sizes.argmax() + 1)
            places[index] = (np.array([x, y]), 2 * float(np.sqrt(sizes.max() / np.pi)))
    return places


def sticker_of_pixels(
    image: UInt8[np.ndarray, "height width 3"], config: StickerConfig
) -> Int[np.ndarray, "height width"]:
    """(H, W) the index of the sticker whose colour a pixel has, or -1.

    The hue of linear light does not depend on how brightly a sticker is lit.
    """
    linear = decode_srgb(image / 255)
    red, green, blue = np.moveaxis(linear, -1, 0)
    most = linear.max(axis=2)
    vivid = (most - linear.min(axis=2) >= config.saturation * most) & (most >= config.brightness)
    hue = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360
    step = 360 / len(SCHEME)
    return np.where(vivid, np.rint(hue / step).astype(int) % len(SCHEME), -1)


def decode_srgb(values: np.ndarray) -> np.ndarray:
    """SRGB values in [0, 1] as linear light. Source: IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _inside(region: Region, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Which pixels lie in an oriented box."""
    rows, columns = np.indices(size)
    x, y = columns - region.center[0], rows - region.center[1]
    c, s = np.cos(region.angle), np.sin(region.angle)
    return (np.abs(c * x + s * y) <= region.size[0] / 2) & (np.abs(c * y - s * x) <= region.size[1] / 2)


def _side(points: Float[np.ndarray, "12 2"]) -> str | None:
    """From above, big and little toe follow one another clockwise about the shin on a right foot."""
    shin, big, little = (points[SCHEME.names.index(name)] for name in ("shin", "big_toe", "little_toe"))
    turn = np.linalg.det([big - shin, little - shin])
    return ("right" if turn > 0 else "left") if np.isfinite(turn) else None
