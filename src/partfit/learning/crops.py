"""From a box to the crop that a network sees, and from a detector's region to a box."""

from __future__ import annotations

import attrs
import numpy as np
from jaxtyping import Float

from partfit.arrays import pair_of_floats
from partfit.errors import ConfigError
from partfit.geometry.crops import Crop
from partfit.landmarks import Region


@attrs.frozen
class CropRule:
    """How large a crop is around a box: each side extended by a share of itself, then made square.

    Attributes:
        margin: Share of the box's width or height added at each of its sides, in use and in evaluation.
        margin_range: The same in training, drawn for each side by itself; by default within 0.05 of `margin`.
    """

    margin: float = 0.1
    margin_range: tuple[float, float] = attrs.field(converter=pair_of_floats)

    @margin_range.default
    def _about_margin(self) -> tuple[float, float]:
        return round(self.margin - 0.05, 9), round(self.margin + 0.05, 9)

    def __attrs_post_init__(self) -> None:
        low, high = self.margin_range
        if not (-0.5 < low <= high and self.margin > -0.5):
            raise ConfigError(f"crop: margins must be above -0.5 and in order, found {self}.")

    def crop(self, box: Float[np.ndarray, " 4"], resolution: int, angle: float = 0.0) -> Crop:
        """The crop of a box (x0, y0, x1, y1), as in evaluation; `angle` turns it about its middle."""
        x0, y0, x1, y1 = np.asarray(box, dtype=float)
        side = max(x1 - x0, y1 - y0) * (1 + 2 * self.margin)
        return Crop(((x0 + x1) / 2, (y0 + y1) / 2), side, angle, resolution=resolution)


@attrs.frozen
class RegionMap:
    """From a detector's region to the square box of the training data.

    A detector draws its box by its own rule; this is the affine map between the two, in the region's own axes
    and in units of its longer side.

    Attributes:
        scale: Longer side of the training box, of the region's longer side.
        shift: (x, y) from the region's middle to the box's.
        spread: Standard deviations of (log scale, shift x, shift y) over the pictures it was found on: what
            the jitter of training has to cover.
    """

    scale: float = 1.0
    shift: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=pair_of_floats)
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def crop(self, region: Region, rule: CropRule, resolution: int) -> Crop:
        """The crop of a region, as upright as the region is."""
        side = max(region.size)
        c, s = np.cos(region.angle), np.sin(region.angle)
        x, y = side * (np.array([[c, -s], [s, c]]) @ self.shift) + region.center
        half = side * self.scale / 2
        return rule.crop(np.array([x - half, y - half, x + half, y + half]), resolution, region.angle)
