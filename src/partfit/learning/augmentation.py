"""Augmentation: random crops of stored pictures, with their colours, blur, noise and cut-outs.

Everything random is drawn from the generator that is passed in, never from a global one. All that moves a
picture (crop, jitter, rotation, scale, shift, flips) is one affine map a sample: the picture is looked up
once by it, and the landmarks go through the very same map.

Convention: crop units as in `distribution`: a crop spans [-0.5, 0.5] along x and y. Stored pixels have (0, 0)
at the centre of the top-left pixel. Angles turn the crop's x axis towards the picture's y axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

from partfit.arrays import pair_of_floats
from partfit.errors import ConfigError, InputError
from partfit.landmarks import LandmarkScheme
from partfit.learning.crops import CropRule
from partfit.learning.datasets import Sample
from partfit.learning.distribution import LandmarkTargets

#: The jitter of a detector's boxes is drawn from normal distributions cut off at so many deviations.
CUT_OFF = 2.0
#: Weights of red, green and blue in the luma of a pixel. Source: ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)


@attrs.frozen
class AugmentationConfig:
    """How training crops vary. Ranges are uniform; a strength of 0 turns a variation off.

    Attributes:
        horizontal_flip, vertical_flip: Probabilities. A vertical flip is a horizontal one and half a turn.
        rotation: The crop is turned by up to this angle either way, radians.
        scale: The part is shown larger by a factor of this range, log-uniform.
        shift: The crop is moved by up to this share of its side, along x and along y.
        region_spread: Standard deviations of (log scale, shift x, shift y) of a detector's boxes about those
            of the data, in longer sides of the latter; `RegionMap.spread` over `RegionMap.scale` for shifts.
            Drawn from normal distributions cut off at two deviations.
        brightness, contrast, saturation: Factors are drawn from 1 - strength to 1 + strength.
        hue: Colours are turned about the grey axis by up to this angle, radians.
        gamma: The exponent is drawn from 1 / (1 + strength) to 1 + strength, log-uniform.
        grey: Probability of a picture without colours.
        blur: Probability of a Gaussian blur; `blur_sigma` is its range, in shares of the crop's side.
        noise: Probability of pixel noise; `noise_sigma` is the largest standard deviation, of the full scale.
        cutout: Probability that a rectangle is painted over; `cutout_size` is the range of its sides, in
            shares of the crop's side.
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 0.35
    scale: tuple[float, float] = attrs.field(default=(0.9, 1.15), converter=pair_of_floats)
    shift: float = 0.05
    region_spread: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.1
    gamma: float = 0.25
    grey: float = 0.05
    blur: float = 0.15
    blur_sigma: tuple[float, float] = attrs.field(default=(0.002, 0.008), converter=pair_of_floats)
    noise: float = 0.25
    noise_sigma: float = 0.04
    cutout: float = 0.2
    cutout_size: tuple[float, float] = attrs.field(default=(0.1, 0.4), converter=pair_of_floats)

    def __attrs_post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "grey", "blur", "noise", "cutout"):
            self._expect(name, "a probability in [0, 1]", lambda p: 0 <= p <= 1)
        self._expect("rotation", "an angle in [0, pi]", lambda angle: 0 <= angle <= math.pi)
        self._expect("scale", "0 < low <= high", lambda pair: 0 < pair[0] <= pair[1] < math.inf)
        self._expect("region_spread", "finite deviations >= 0", lambda s: all(0 <= v < math.inf for v in s))
        for name in ("brightness", "contrast", "saturation", "noise_sigma"):
            self._expect(name, "a strength in [0, 1]", lambda strength: 0 <= strength <= 1)
        for name in ("shift", "hue", "gamma"):
            self._expect(name, "a strength >= 0", lambda strength: 0 <= strength < math.inf)
        for name in ("blur_sigma", "cutout_size"):
            self._expect(name, "0 < low <= high <= 1", lambda pair: 0 < pair[0] <= pair[1] <= 1)

    def _expect(self, name: str, expected: str, holds: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if not holds(value):
            raise ConfigError(f"augmentation.{name}: expected {expected}, found {value}.")

    @property
    def flips(self) -> bool:
        """Whether any picture may be flipped."""
        return self.horizontal_flip > 0 or self.vertical_flip > 0

    def check_scheme(self, scheme: LandmarkScheme) -> None:
        """Raise ConfigError if pictures may be flipped whose scheme a flip does not map onto itself."""
        own = scheme.mirror_scheme in (None, scheme.name)
        if self.flips and (scheme.mirror is None or not own):
            reason = "has no mirror" if own else f"shows {scheme.mirror_scheme!r} when flipped"
            raise ConfigError(
                f"augmentation: the landmark scheme {scheme.name!r} {reason}, so that pictures cannot be "
                "flipped. Set horizontal_flip and vertical_flip to 0."
            )

    def largest_side(self, rule: CropRule) -> float:
        """Side of the largest crop of a box, in units of the box's longer side."""
        jitter = math.exp(CUT_OFF * self.region_spread[0])
        return (1 + 2 * rule.margin_range[1]) * jitter / self.scale[0]

    def extent(self, rule: CropRule) -> float:
        """Side of the upright square around a box that holds every crop, in units of the box's longer side.

        The square lies about the middle of the box. The crop's half side times |cos| + |sin| of its angle is
        how far its corners reach; the jitter of its middle comes on top.
        """
        low, high = rule.margin_range
        shifts = [CUT_OFF * deviation for deviation in self.region_spread[1:]]
        side = self.largest_side(rule)
        angle = min(self.rotation, math.pi / 4)
        reach = side * (math.cos(angle) + math.sin(angle)) / 2
        reach += (high - low) / 2 + max(shifts) + self.shift * side
        return 2 * max(reach, 0.5 + rule.margin)


@attrs.frozen(eq=False)
class CropGeometry:
    """Where the crops of a batch lie in their stored pictures.

    Attributes:
        center: (B, 2) middle, stored pixels.
        side: (B,) stored pixels.
        angle: (B,) radians.
        flipped: (B,) whether the crop is mirrored: its x axis runs the other way.
    """

    center: Float[Tensor, "batch 2"]
    side: Float[Tensor, " batch"]
    angle: Float[Tensor, " batch"]
    flipped: Bool[Tensor, " batch"]

    @property
    def matrix(self) -> Float[Tensor, "batch 2 3"]:
        """The affine map from crop units to stored pixels."""
        c, s = self.angle.cos() * self.side, self.angle.sin() * self.side
        sign = 1 - 2 * self.flipped.to(c)
        rows = [sign * c, -s, self.center[:, 0], sign * s, c, self.center[:, 1]]
        return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


def draw_geometry(
    config: AugmentationConfig, rule: CropRule, boxes: Float[Tensor, "batch 4"], generator: Generator
) -> CropGeometry:
    """Random crops around boxes (x0, y0, x1, y1), stored pixels, as in training."""
    n = len(boxes)
    low, high = rule.margin_range
    size = boxes[:, 2:] - boxes[:, :2]
    longer = size.amax(dim=1)
    margins = _uniform((n, 4), low, high, generator).to(boxes) * size.repeat(1, 2)
    corners = boxes + margins * boxes.new_tensor([-1, -1, 1, 1])
    jitter = torch.randn((n, 3), generator=generator).clamp(-CUT_OFF, CUT_OFF)
    jitter = (jitter * torch.tensor(config.region_spread)).to(boxes)
    scale = _log_uniform((n,), *config.scale, generator).to(boxes)
    side = (corners[:, 2:] - corners[:, :2]).amax(dim=1) * jitter[:, 0].exp() / scale
    shift = _uniform((n, 2), -config.shift, config.shift, generator).to(boxes) * side[:, None]
    center = (corners[:, :2] + corners[:, 2:]) / 2 + jitter[:, 1:] * longer[:, None] + shift
    angle = _uniform((n,), -config.rotation, config.rotation, generator).to(boxes)
    horizontal = torch.rand(n, generator=generator) < config.horizontal_flip
    vertical = torch.rand(n, generator=generator) < config.vertical_flip
    angle = angle + math.pi * vertical.to(angle)
    return CropGeometry(center, side, angle, (horizontal ^ vertical).to(boxes.device))


def fixed_geometry(rule: CropRule, boxes: Float[Tensor, "batch 4"]) -> CropGeometry:
    """The crops of boxes as in evaluation and in use: `CropRule.crop`."""
    side = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) * (1 + 2 * rule.margin)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return CropGeometry(center, side, torch.zeros_like(side), torch.zeros_like(side, dtype=torch.bool))


def sample_crops(
    pictures: UInt8[Tensor, "batch 3 S S"], matrix: Float[Tensor, "batch 2 3"], resolution: int
) -> Float[Tensor, "batch 3 R R"]:
    """The crops (B, 3, R, R) in [0, 1] of stored pictures: one bilinear look-up; black outside.

    There is no averaging: pictures are stored at about the resolution of the crops, so that no crop reduces
    them by more than two, see `PackRule.for_training`.
    """
    side = pictures.shape[-1]
    # affine_grid counts from -1 to 1 in both spaces: crop units times 2, and (2 p + 1) / side - 1 for pixel p
    linear, offset = matrix[:, :, :2] / side, (2 * matrix[:, :, 2:] + 1) / side - 1
    theta = torch.cat([linear, offset], dim=2)
    grid = F.affine_grid(theta, [len(pictures), 3, resolution, resolution], align_corners=False)
    crops = [  # one by one, so that a picture in floating point fits a processor's cache: three times faster
        F.grid_sample(picture[None].to(grid), where[None], padding_mode="zeros", align_corners=False)
        for picture, where in zip(pictures, grid, strict=True)
    ]
    return torch.cat(crops).mul_(1 / 255)


def to_crop_units(
    points: Float[Tensor, "batch n 2"], matrix: Float[Tensor, "batch 2 3"]
) -> Float[Tensor, "batch n 2"]:
    """Map points from stored pixels to crop units, by the inverse of a matrix of `CropGeometry`."""
    A = matrix[:, :, :2]
    return torch.linalg.solve(A, (points - matrix[:, None, :, 2]).mT).mT


def mirror_landmarks(
    values: Tensor, flipped: Bool[Tensor, " batch"], mirror: Int[np.ndarray, " landmarks"] | None
) -> Tensor:
    """Values (B, L, ...) of landmarks, reordered by the mirror of their scheme where a crop is flipped."""
    if mirror is None or not flipped.any():
        return values
    order = torch.from_numpy(np.array(mirror)).to(values.device)
    return torch.where(flipped.reshape(-1, *[1] * (values.ndim - 1)), values[:, order], values)


def hide_outside(targets: LandmarkTargets) -> LandmarkTargets:
    """Landmarks outside the crop are not in sight, where visibility is known; they stay targets."""
    inside = (targets.points.abs() <= 0.5).all(dim=-1)
    return _hide(targets, ~inside)


def alter_colours(
    images: Float[Tensor, "batch 3 R R"], config: AugmentationConfig, generator: Generator
) -> Float[Tensor, "batch 3 R R"]:
    """Random brightness, contrast, saturation, hue, grey and gamma; in [0, 1] again.

    All but gamma are linear in RGB: they are one affine map a picture, applied in one pass.
    """
    n = len(images)
    brightness = _uniform((n, 1, 1), 1 - config.brightness, 1 + config.brightness, generator)
    contrast = _uniform((n, 1, 1), 1 - config.contrast, 1 + config.contrast, generator)
    saturation = _uniform((n, 1, 1), 1 - config.saturation, 1 + config.saturation, generator)
    saturation = saturation * (torch.rand((n, 1, 1), generator=generator) >= config.grey)
    hue = _uniform((n,), -config.hue, config.hue, generator)
    gamma = _log_uniform((n, 1, 1), 1 / (1 + config.gamma), 1 + config.gamma, generator)

    luma = torch.tensor(LUMA)
    to_grey = luma.expand(3, 3)
    colours = saturation * torch.eye(3) + (1 - saturation) * to_grey
    colours = colours @ _hue_rotation(hue)
    linear = (brightness * contrast * colours).to(images)
    mean = images.mean(dim=(2, 3), keepdim=True)[..., 0]
    middle = (luma[None, None].to(images) @ mean) * ((1 - contrast) * brightness).to(images)
    altered = torch.baddbmm(middle, linear, images.flatten(2)).clamp_(0, 1)
    if config.gamma > 0:
        # x^gamma, with the vectorised exp and log
        altered = altered.clamp_min_(1e-6).log_().mul_(gamma.to(images)).exp_()
    return altered.view_as(images)


def degrade(
    images: Float[Tensor, "batch 3 R R"], config: AugmentationConfig, generator: Generator
) -> Float[Tensor, "batch 3 R R"]:
    """Random blur, then random noise, each of its share of the pictures; in place, in [0, 1] again."""
    n, resolution = len(images), images.shape[-1]
    blurred = (torch.rand(n, generator=generator) < config.blur).nonzero()[:, 0]
    sigma = _uniform((n, 1), *config.blur_sigma, generator)[blurred].to(images) * resolution
    if len(blurred):
        from kornia.filters import gaussian_blur2d

        window = 2 * math.ceil(2.5 * config.blur_sigma[1] * resolution) + 1
        images[blurred] = gaussian_blur2d(images[blurred], window, sigma.expand(-1, 2), "replicate")
    noisy = (torch.rand(n, generator=generator) < config.noise).nonzero()[:, 0]
    sigma = _uniform((n, 1, 1, 1), 0.0, config.noise_sigma, generator)[noisy].to(images)
    if len(noisy):
        noise = torch.randn((len(noisy), *images.shape[1:]), generator=generator).to(images)
        images[noisy] = images[noisy].addcmul_(noise, sigma).clamp_(0, 1)
    return images


def cut_out(
    images: Float[Tensor, "batch 3 R R"],
    targets: LandmarkTargets,
    config: AugmentationConfig,
    generator: Generator,
) -> LandmarkTargets:
    """Paint over a random rectangle of some pictures, in place, with a random colour and grain.

    Returns:
        The targets, in which the landmarks under a rectangle are not in sight, where visibility is known.
    """
    n, resolution = len(images), images.shape[-1]
    chosen = torch.rand(n, generator=generator) < config.cutout
    size = _uniform((n, 2), *config.cutout_size, generator)
    low = torch.rand((n, 2), generator=generator) * (1 - size) - 0.5
    edges = ((torch.stack([low, low + size], dim=1) + 0.5) * resolution).round().long()
    colour = torch.rand((n, 3), generator=generator)
    grain = 0.2 * torch.rand(n, generator=generator)
    for i in chosen.nonzero()[:, 0].tolist():
        (x0, y0), (x1, y1) = edges[i].tolist()
        noise = torch.randn((3, y1 - y0, x1 - x0), generator=generator) * grain[i]
        images[i, :, y0:y1, x0:x1] = (colour[i][:, None, None] + noise).clamp_(0, 1).to(images)
    bounds = (edges / resolution - 0.5).to(targets.points)
    above, below = targets.points >= bounds[:, None, 0], targets.points <= bounds[:, None, 1]
    under = (above & below).all(dim=-1) & chosen[:, None].to(targets.points.device)
    return _hide(targets, under)


def mirror_vertices(
    vertices: Float[np.ndarray, "vertices 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    image_map: Float[np.ndarray, "3 3"],
    mirror: Int[np.ndarray, " vertices"],
) -> tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "3 3"]]:
    """The vertices and the camera of a picture that an affine map with a reflection was applied to.

    The reflection M of the picture becomes one of space, D = diag(-1, 1, 1), or diag(1, -1, 1) where M turns
    the picture upside down and not left to right, so that what is left of the camera, M K D, has positive
    focal lengths: M K X = (M K D)(D X).

    Args:
        vertices: X, camera frame.
        intrinsics: K, pixels.
        image_map: M, homogeneous, from pixels of the picture to those of the mirrored one.
        mirror: Vertices in the order in which the mirrored part shows them.
    """
    D = np.diag([-1.0, 1.0, 1.0] if image_map[0, 0] < 0 else [1.0, -1.0, 1.0])
    return vertices[mirror] @ D, image_map @ intrinsics @ D


def flip_sample(
    sample: Sample,
    scheme: LandmarkScheme,
    *,
    vertical: bool = False,
    vertex_mirror: Int[np.ndarray, " vertices"] | None = None,
) -> Sample:
    """A sample flipped left to right, or upside down: picture, landmarks, box, vertices and camera.

    Both reverse handedness, so that landmarks are reordered by the mirror of the scheme in both.

    Args:
        sample: Without parameters: those of the mirrored part are not known.
        scheme: Of its landmarks.
        vertical: Whether upside down.
        vertex_mirror: (V,) for each vertex its mirror image on the model. Without it the flipped sample has
            no vertices and no camera, since their order would be wrong.

    Raises:
        InputError: if the sample has parameters.
        ConfigError: if the scheme is not its own mirror.
    """
    AugmentationConfig(horizontal_flip=1.0).check_scheme(scheme)
    if sample.parameters is not None:
        raise InputError(
            f"Sample {sample.id!r}: expected a sample without model parameters, since those of a mirrored "
            "part are not known; found some. Do not flip it, or leave them out."
        )
    axis = 1 if vertical else 0  # of points; axis 1 - axis of pictures
    extent = sample.image.shape[1 - axis]
    M = np.eye(3)
    M[axis, axis], M[axis, 2] = -1, extent - 1
    mirror = scheme.mirror
    points, box = sample.points.copy(), sample.box.reshape(2, 2).copy()
    points[:, axis] = extent - 1 - points[:, axis]
    box[:, axis] = extent - 1 - box[::-1, axis]
    vertices = intrinsics = None
    if vertex_mirror is not None and sample.vertices is not None and sample.intrinsics is not None:
        vertices, intrinsics = mirror_vertices(sample.vertices, sample.intrinsics, M, vertex_mirror)
    return attrs.evolve(
        sample,
        image=np.ascontiguousarray(np.flip(sample.image, 1 - axis)),
        points=points[mirror],
        box=box.reshape(4),
        visible=None if sample.visible is None else sample.visible[mirror],
        occlusion=None if sample.occlusion is None else np.flip(sample.occlusion, 1 - axis),
        vertices=vertices,
        intrinsics=intrinsics,
    )


def _hide(targets: LandmarkTargets, hidden: Bool[Tensor, "batch landmarks"]) -> LandmarkTargets:
    """The targets with some landmarks out of sight, where their visibility is known."""
    if targets.visible is None:
        return targets
    visible = targets.visible.masked_fill(hidden & targets.visible.isfinite(), 0.0)
    return attrs.evolve(targets, visible=visible)


def _hue_rotation(angle: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    """Rotations (B, 3, 3) of RGB about the grey axis, by Rodrigues' formula."""
    axis = 1 / math.sqrt(3)
    K = torch.tensor([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return torch.eye(3) + s * K + (1 - c) * (K @ K)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _log_uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return _uniform(shape, math.log(low), math.log(high), generator).exp()
