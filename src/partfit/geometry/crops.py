"""The affine map between a picture and a square, possibly rotated, crop of it.

Convention: pixel (0, 0) is the centre of the top-left pixel, so a picture of width W covers
x in [-0.5, W - 0.5]. Angles are in radians and turn the crop's x axis towards the picture's y axis
(clockwise as seen on screen, since y points down).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped

from partfit.arrays import pair_of_floats
from partfit.errors import InputError, ShapeError

if TYPE_CHECKING:
    from partfit.landmarks import Region


@attrs.frozen
class Crop:
    """A square region of a picture, resampled to `resolution` x `resolution` pixels.

    Attributes:
        center: Centre (x, y) of the region, in picture pixels.
        size: Side of the region, in picture pixels.
        angle: In-plane rotation of the region, radians.
        resolution: Side of the crop, in crop pixels.
        mirror: Whether the crop is flipped left to right.
    """

    center: tuple[float, float] = attrs.field(converter=pair_of_floats)
    size: float = attrs.field(converter=float)
    angle: float = attrs.field(default=0.0, converter=float)
    resolution: int = attrs.field(default=256, kw_only=True)
    mirror: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        values = (*self.center, self.size, self.angle)
        if not all(math.isfinite(v) for v in values) or self.size <= 0 or self.resolution < 1:
            raise InputError(
                f"A crop needs a finite centre and angle, size > 0 and resolution >= 1; found {self}."
            )

    @classmethod
    def around(cls, region: Region, *, scale: float = 1.0, resolution: int = 256) -> Crop:
        """The square crop that encloses a region, `scale` times its longer side."""
        return cls(region.center, max(region.size) * scale, region.angle, resolution=resolution)

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) affine map from crop pixels to picture pixels, float64."""
        step = self.size / self.resolution
        c, s = math.cos(self.angle) * step, math.sin(self.angle) * step
        linear = np.array([[c, -s], [s, c]])
        if self.mirror:
            linear[:, 0] *= -1.0
        middle = np.full(2, (self.resolution - 1) / 2)
        return np.concatenate([linear, (np.array(self.center) - linear @ middle)[:, None]], axis=1)

    def to_image(self, points: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map points (*batch, 2) from crop pixels to picture pixels."""
        m = self.matrix
        return _pairs(points) @ m[:, :2].T + m[:, 2]

    def from_image(self, points: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map points (*batch, 2) from picture pixels to crop pixels."""
        m = self.matrix
        return (_pairs(points) - m[:, 2]) @ np.linalg.inv(m[:, :2]).T

    def scale_to_image(self, scale: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map axis-aligned scales (*batch, 2), standard deviations, from crop to picture pixels.

        A rotated crop turns the axes: the result is the root of the diagonal of A diag(s^2) A^T.
        Infinite scales, of unknown positions, stay infinite.
        """
        return _mapped_scale(self.matrix[:, :2], scale)

    def scale_from_image(self, scale: Shaped[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Map axis-aligned scales (*batch, 2) from picture to crop pixels; see `scale_to_image`."""
        return _mapped_scale(np.linalg.inv(self.matrix[:, :2]), scale)

    def corners(self) -> Float[np.ndarray, "4 2"]:
        """The outer corners of the region in picture pixels, clockwise from the crop's top left."""
        low, high = -0.5, self.resolution - 0.5
        return self.to_image(np.array([[low, low], [high, low], [high, high], [low, high]]))


def extract_crops(
    image: Shaped[torch.Tensor, "channels height width"], crops: Sequence[Crop], *, fill: float = 0.0
) -> Float[torch.Tensor, "crops channels resolution resolution"]:
    """Resample one picture into several crops of equal resolution.

    Bilinear; where a crop reduces the picture by two or more, the picture is first averaged over whole
    blocks, so that fine texture does not alias; the blocks begin at the crop's own corner. Pixels outside
    the picture take `fill`.

    Args:
        image: (C, H, W), any real dtype. uint8 stays in its range 0..255.
        crops: At least one crop; all of the same resolution.
        fill: Value outside the picture, in the units of `image`.

    Returns:
        (N, C, R, R), floating point.

    Raises:
        ShapeError: if `image` is not (C, H, W).
        InputError: if there is no crop or the resolutions differ.
    """
    if image.ndim != 3:
        raise ShapeError("image", "(channels, height, width)", tuple(image.shape))
    resolutions = {crop.resolution for crop in crops}
    if len(resolutions) != 1:
        raise InputError(f"extract_crops needs crops of one resolution, found {sorted(resolutions)}.")
    dtype = image.dtype if image.dtype.is_floating_point else torch.float32
    return torch.cat([_extract_crop(image, crop, fill, dtype) for crop in crops])


def _extract_crop(image: torch.Tensor, crop: Crop, fill: float, dtype: torch.dtype) -> torch.Tensor:
    block = max(1, int(crop.size / crop.resolution))
    window, offset = _window(image, crop, block)
    source = window.contiguous().to(dtype)[None]  # pooling is several times faster on contiguous planes
    if fill != 0:
        source = source - fill  # so that the zeros outside become `fill` below
    if block > 1:
        left, top = np.maximum(-offset, 0).astype(int).tolist()
        source = F.pad(source, (left, 0, top, 0)) if left or top else source
        # a block that ends outside the picture counts zeros there
        source = F.avg_pool2d(source, block, ceil_mode=True, divisor_override=block**2)
    matrix = crop.matrix
    matrix[:, 2] -= offset
    # pixel x of the window lies at (x + 0.5) / block - 0.5 of its block averages
    matrix = matrix / block
    matrix[:, 2] += 0.5 / block - 0.5
    height, width = source.shape[-2:]
    axis = np.arange(crop.resolution)
    column = matrix[0, 0] * axis + matrix[0, 1] * axis[:, None] + matrix[0, 2]
    row = matrix[1, 0] * axis + matrix[1, 1] * axis[:, None] + matrix[1, 2]
    grid = np.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], axis=-1)
    target = torch.from_numpy(grid)[None].to(source)
    sampled = F.grid_sample(source, target, padding_mode="zeros", align_corners=False)
    return sampled + fill if fill != 0 else sampled


def _window(image: torch.Tensor, crop: Crop, block: int) -> tuple[torch.Tensor, np.ndarray]:
    """The part of the picture that a crop can touch, and where it begins (x, y).

    It begins a whole number of blocks before the crop's corner: less than a block outside the picture where
    the crop reaches beyond the left or the top; those columns and rows are not part of what is returned.
    """
    height, width = image.shape[1:]
    corners = crop.corners()
    margin = 2 + crop.size / crop.resolution
    # crops laid on the pixel grid have their corner at k - 0.5: pixel k, whatever the rounding errors
    low = np.floor(corners.min(axis=0) + 0.75).astype(int) - block * math.ceil(margin / block)
    low = np.where(low < 0, -(-low % block), low)
    high = np.ceil(corners.max(axis=0) + margin).astype(int) + 1
    x0, x1 = np.clip([low[0], high[0]], 0, width)
    y0, y1 = np.clip([low[1], high[1]], 0, height)
    if x1 <= x0 or y1 <= y0:
        return image[:, :1, :1], np.zeros(2)  # the crop lies outside: every sample falls on the fill
    return image[:, y0:y1, x0:x1], low.astype(float)


def _mapped_scale(A: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The root of the diagonal of A diag(s^2) A^T; an infinite s counts only where A is not 0."""
    scale = _pairs(scale)[..., None, :]
    terms = np.multiply(A, scale, where=A != 0, out=np.zeros(np.broadcast_shapes(A.shape, scale.shape)))
    return np.sqrt((terms**2).sum(axis=-1))


def _pairs(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ShapeError("points", "(..., 2)", points.shape)
    return points
