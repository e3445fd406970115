"""Batches of crops, from packed data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.utils.data import Dataset as TorchDataset

from partfit.errors import ConfigError, InputError
from partfit.geometry.camera import Camera
from partfit.learning.augmentation import (
    AugmentationConfig,
    CropGeometry,
    alter_colours,
    cut_out,
    degrade,
    draw_geometry,
    fixed_geometry,
    hide_outside,
    mirror_landmarks,
    sample_crops,
    to_crop_units,
)
from partfit.learning.crops import CropRule
from partfit.learning.distribution import LandmarkTargets
from partfit.learning.packing import UNKNOWN, PackedDataset, PackedSamples

#: What a stream of random numbers is for, so that no two are the same.
_ORDER, _AUGMENTATION, _SHAPES = range(3)


@attrs.frozen(eq=False)
class ModelTruth:
    """The true parameters of the model in some pictures, and their cameras.

    Attributes:
        parameters: (B, P), in the frame of the camera of the data set's picture.
        intrinsics: (B, 3, 3) that camera, pixels of the data set's picture.
    """

    parameters: Float[Tensor, "batch P"]
    intrinsics: Float[Tensor, "batch 3 3"]


@attrs.frozen(eq=False)
class Batch:
    """Crops and the truth about them.

    Attributes:
        images: (B, 3, R, R) RGB in [0, 1].
        targets: The landmarks, crop units.
        ids: Names of the samples.
        index: (B,) indices of the samples in their data set.
        boxes: (B, 4) boxes of the samples, pixels of the data set's pictures.
        matrix: (B, 2, 3) affine maps from crop units to pixels of the data set's pictures; of a flipped crop
            they hold a reflection.
        model: The model that is shown, where the data were packed with it.
    """

    images: Float[Tensor, "batch 3 R R"]
    targets: LandmarkTargets
    ids: tuple[str, ...]
    index: Int[Tensor, " batch"]
    boxes: Float[Tensor, "batch 4"]
    matrix: Float[Tensor, "batch 2 3"]
    model: ModelTruth | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: Any) -> Batch:
        """The same on another device."""
        known = self.targets.visible
        targets = LandmarkTargets(
            self.targets.points.to(device),
            self.targets.weight.to(device),
            None if known is None else known.to(device),
        )
        tensors = {name: getattr(self, name).to(device) for name in ("images", "index", "boxes", "matrix")}
        model = self.model
        if model is not None:
            model = ModelTruth(model.parameters.to(device), model.intrinsics.to(device))
        return attrs.evolve(self, targets=targets, model=model, **tensors)

    @property
    def camera(self) -> Camera:
        """The cameras of the data set's pictures, in their pixels. `size` is that of the crops."""
        K, side = self._truth.intrinsics, self.side
        return Camera(K[:, 0, 0], K[:, :2, 2], side[:, None].expand(-1, 2))

    @property
    def crop_camera(self) -> Camera:
        """The cameras that see the crops, in crop pixels: exact pinholes, for `turn` times camera points.

        With the affine map A u + b from crop to picture pixels, the principal point is A^-1 (c - b), and the
        focal length that of the picture over the scale of A.
        """
        resolution, camera = self.images.shape[-1], self.camera
        principal = to_crop_units(camera.principal[:, None], self.matrix)[:, 0]
        size = torch.full_like(principal, resolution)
        return Camera(camera.focal / self.side * resolution, (principal + 0.5) * resolution - 0.5, size)

    @property
    def turn(self) -> Float[Tensor, "batch 3 3"]:
        """Rotations from the frames of the pictures' cameras to those of the crops', about the optical axis.

        Raises:
            InputError: if a crop is flipped: it shows a mirror image.
        """
        linear = self.matrix[:, :, :2] / self.side[:, None, None]
        if bool((torch.linalg.det(linear) < 0).any()):
            raise InputError("Flipped crops are not seen by a camera; found some.")
        turn = torch.eye(3).to(linear).repeat(len(self), 1, 1)
        turn[:, :2, :2] = linear.mT
        return turn

    @property
    def side(self) -> Float[Tensor, " batch"]:
        """Side of the crops, pixels of the data set's pictures."""
        return torch.linalg.det(self.matrix[:, :, :2]).abs().sqrt()

    @property
    def _truth(self) -> ModelTruth:
        if self.model is None:
            raise InputError("This batch does not know the model: its data were packed without parameters.")
        return self.model

    def to_picture(self, points: Float[Tensor, "batch n 2"]) -> Float[Tensor, "batch n 2"]:
        """Map points from crop units to pixels of the data set's pictures."""
        return points @ self.matrix[:, :, :2].mT + self.matrix[:, None, :, 2]


def make_batch(
    packed: PackedDataset, rows: Sequence[int] | np.ndarray, crop: CropRule, resolution: int
) -> Batch:
    """Some samples of a packed data set, cropped as in evaluation and in use."""
    samples = packed.read(rows)
    return _batch(packed, samples, fixed_geometry(crop, torch.from_numpy(samples.boxes)), resolution)


def augmented_batch(
    packed: PackedDataset,
    rows: Sequence[int] | np.ndarray,
    crop: CropRule,
    resolution: int,
    augmentation: AugmentationConfig,
    generator: Generator,
) -> Batch:
    """Some samples of a packed data set, cropped and varied as in training."""
    samples = packed.read(rows)
    geometry = draw_geometry(augmentation, crop, torch.from_numpy(samples.boxes), generator)
    batch = _batch(packed, samples, geometry, resolution)
    images = alter_colours(batch.images, augmentation, generator)
    targets = cut_out(images, batch.targets, augmentation, generator)
    return attrs.evolve(batch, images=degrade(images, augmentation, generator), targets=targets)


def _batch(packed: PackedDataset, samples: PackedSamples, geometry: CropGeometry, resolution: int) -> Batch:
    matrix = geometry.matrix
    scale, offset = _stored_to_picture(samples)
    to_picture = matrix.double() * scale[:, None]
    to_picture[:, :, 2] += offset
    corners = torch.from_numpy(samples.boxes).double().unflatten(1, (2, 2))
    return Batch(
        images=sample_crops(torch.from_numpy(samples.images), matrix, resolution),
        targets=_targets(packed, samples, geometry),
        ids=samples.ids,
        index=torch.from_numpy(samples.index),
        boxes=(corners * scale[:, None] + offset[:, None]).flatten(1).float(),
        matrix=to_picture.float(),
        model=_model(samples),
    )


def _model(samples: PackedSamples) -> ModelTruth | None:
    if samples.parameters is None or samples.intrinsics is None:
        return None
    return ModelTruth(*(torch.from_numpy(a).float() for a in (samples.parameters, samples.intrinsics)))


def _stored_to_picture(samples: PackedSamples) -> tuple[Float[Tensor, "batch 1"], Float[Tensor, "batch 2"]]:
    """Scale and offset of the map from stored pixels to pixels of the data set's pictures, float64."""
    side = samples.images.shape[-1]
    center, size = torch.from_numpy(samples.regions).split([2, 1], dim=1)
    scale = size / side
    return scale, center - scale * (side - 1) / 2


def _targets(packed: PackedDataset, samples: PackedSamples, geometry: CropGeometry) -> LandmarkTargets:
    mirror = packed.scheme.mirror
    points = to_crop_units(torch.from_numpy(samples.points), geometry.matrix)
    targets = LandmarkTargets.of_points(mirror_landmarks(points, geometry.flipped, mirror))
    if not packed.knows_visibility:
        return targets
    visible = torch.from_numpy(samples.visible).float()
    visible = visible.masked_fill(visible == UNKNOWN, torch.nan)
    return hide_outside(attrs.evolve(targets, visible=mirror_landmarks(visible, geometry.flipped, mirror)))


class BatchSampler:
    """The rows of each batch: each epoch goes once through the samples in its own random order.

    The batch of a step follows from (n, batch_size, seed, step) alone. What is left at the end of an epoch,
    less than a batch, is left out.

    Attributes:
        size: Samples in each batch.
        steps_per_epoch: Batches in an epoch.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        """Of n samples; if they are fewer than a batch, each batch holds all of them."""
        if n < 1 or batch_size < 1:
            raise ConfigError(f"Expected samples and a batch size >= 1, found {n} and {batch_size}.")
        self.n, self.size, self.seed = n, min(n, batch_size), seed
        self.steps_per_epoch = n // self.size
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def batch(self, step: int) -> Int[np.ndarray, " batch"]:
        """The rows of the batch of a step, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(self.n, generator=seeded(self.seed, _ORDER, epoch)).numpy()
            self._epoch = epoch
        return self._order[position * self.size : (position + 1) * self.size]


class TrainingBatches(TorchDataset[Batch]):
    """Augmented batches by step: item k is the batch of step k, which (seed, k) alone determine.

    For `DataLoader(batches, batch_size=None, sampler=range(first, last))`. Processes that train together
    take different steps: process r of n the steps n k + r.
    """

    def __init__(
        self,
        packed: PackedDataset,
        batch_size: int,
        resolution: int,
        crop: CropRule,
        augmentation: AugmentationConfig,
        seed: int,
    ) -> None:
        """Batches of `batch_size` crops of `resolution` x `resolution` pixels.

        Raises:
            ConfigError: if pictures may be flipped whose scheme has no mirror, or the stored pictures do not
                hold all that the augmentation asks for.
        """
        augmentation.check_scheme(packed.scheme)
        needed = augmentation.extent(crop)
        if packed.rule.extent < needed - 1e-6:
            raise ConfigError(
                f"augmentation: expected stored pictures of at least {needed:.3f} box sides, found "
                f"{packed.rule.extent}. Pack the data set again, for this augmentation."
            )
        self.packed, self.resolution, self.crop = packed, resolution, crop
        self.augmentation, self.seed = augmentation, seed
        self.sampler = BatchSampler(len(packed), batch_size, seed)

    def __len__(self) -> int:
        return self.sampler.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, which may lie in a later epoch than the first."""
        generator = seeded(self.seed, _AUGMENTATION, step)
        rows = self.sampler.batch(step)
        return augmented_batch(self.packed, rows, self.crop, self.resolution, self.augmentation, generator)


class EvaluationBatches(TorchDataset[Batch]):
    """All samples in their order, cropped as in use; the last batch may be smaller."""

    def __init__(self, packed: PackedDataset, batch_size: int, resolution: int, crop: CropRule) -> None:
        self.packed, self.batch_size, self.resolution, self.crop = packed, batch_size, resolution, crop

    def __len__(self) -> int:
        return -(-len(self.packed) // self.batch_size)

    def __getitem__(self, k: int) -> Batch:
        if not 0 <= k < len(self):
            raise IndexError(f"Expected a batch in 0..{len(self) - 1}, found {k}.")
        rows = range(k * self.batch_size, min(len(self.packed), (k + 1) * self.batch_size))
        return make_batch(self.packed, rows, self.crop, self.resolution)

    def on(self, device: Any) -> Iterator[Batch]:
        """All batches in their order, on a device."""
        return (self[k].to(device) for k in range(len(self)))


def shape_statistics(
    packed: PackedDataset,
    crop: CropRule,
    augmentation: AugmentationConfig,
    directions: int,
    *,
    samples: int = 2048,
    seed: int = 0,
) -> tuple[Float[Tensor, "landmarks 2"], Float[Tensor, "directions landmarks 2"]]:
    """Mean and principal directions of the training shapes in their crops, for `HeadModule.initialise`.

    Args:
        packed: The data set.
        crop: The crops' rule.
        augmentation: How they vary.
        directions: K, how many at most.
        samples: How many are looked at, at most; spread evenly over the data set.
        seed: Of the variation.

    Returns:
        Mean (L, 2) and directions (K, L, 2) times their standard deviations, the largest first; crop units.
        A landmark whose place is unknown counts as the mean; one that is never known has mean 0.
    """
    rows = np.unique(np.linspace(0, len(packed) - 1, min(samples, len(packed))).round().astype(np.int64))
    generator = seeded(seed, _SHAPES, 0)
    geometry = draw_geometry(augmentation, crop, torch.from_numpy(packed.boxes[rows]), generator)
    points = to_crop_units(torch.from_numpy(packed.points[rows]), geometry.matrix)
    points = mirror_landmarks(points, geometry.flipped, packed.scheme.mirror)
    shapes = points.double().flatten(1)
    mean = torch.nan_to_num(shapes.nanmean(dim=0))
    X = torch.nan_to_num(shapes - mean)
    n = len(X)
    count = min(directions, n - 1, X.shape[1])
    if count < 1:
        return mean.float().unflatten(0, (-1, 2)), points.new_zeros((0, *points.shape[1:]))
    # X^T v / sqrt(n) is a direction times its deviation for each eigenvector v of X X^T
    _, vectors = scipy.linalg.eigh((X @ X.T / n).numpy(), subset_by_index=[n - count, n - 1])
    scaled = torch.from_numpy(vectors.T[::-1].copy()) @ X / n**0.5
    largest = scaled.gather(1, scaled.abs().argmax(dim=1, keepdim=True))
    scaled = scaled * torch.where(largest < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    return mean.float().unflatten(0, (-1, 2)), scaled.float().unflatten(1, (-1, 2))


def seeded(*numbers: int) -> Generator:
    """A generator that follows from some numbers >= 0, and is unlike that of any others."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(state) >> 1)
