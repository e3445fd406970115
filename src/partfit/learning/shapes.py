"""Shapes in the plane up to a similarity: one that is laid on points, and one that is typical of many."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float, Int

from partfit.errors import InputError
from partfit.learning.augmentation import fixed_geometry, to_crop_units
from partfit.learning.crops import CropRule
from partfit.learning.packing import PackedDataset

#: Rounds of a Procrustes mean; it changes by less than a thousandth after three or four.
_ROUNDS = 10


def similarity(
    shape: Float[np.ndarray, "n 2"], points: Float[np.ndarray, "n 2"], weight: Float[np.ndarray, " n"]
) -> complex:
    """Scale and turn of the similarity that takes a shape to points, by weighted least squares.

    It is a of z -> a z + b in complex numbers x + i y: |a| is the scale, its angle the turn of the x axis
    towards the y axis. It is 1 where all weight lies on one point.

    Source: Umeyama 1991, in the plane.
    """
    m, p = _complex(shape), _complex(points)
    w = weight + 1e-9  # where nothing is certain, all is the same
    return complex(_fits(m[None], p[None], w[None])[0][0])


def box_of(points: Float[np.ndarray, "*batch n 2"]) -> tuple[Float[np.ndarray, "*batch 2"], Any]:
    """Middle and longer side of the upright box around points, those that are NaN left out."""
    low, high = np.nanmin(points, axis=-2), np.nanmax(points, axis=-2)
    return (low + high) / 2, (high - low).max(axis=-1)


def typical_shape(
    points: Float[np.ndarray, "samples n 2"], boxed: Int[np.ndarray, " boxed"] | None = None
) -> Float[np.ndarray, "n 2"]:
    """The shape that is typical of samples: neither turned nor larger nor shifted, compared with most.

    It is their Procrustes mean, so that turns among the samples do not shrink it. It is laid so that the mean
    turn of the samples is 0, and that its box (see `box_of`) has the median middle and the median longer side
    of theirs.

    Args:
        points: NaN where a place is not known. A point that is never known comes to lie in the middle of the
            others.
        boxed: Indices of the points whose box is meant; by default all.

    Raises:
        InputError: if no sample has two points that are known, one of them boxed.
    """
    known = np.isfinite(points).all(axis=-1)
    inner = slice(None) if boxed is None else boxed
    enough = (known.sum(axis=1) >= min(2, points.shape[1])) & known[:, inner].any(axis=1)
    if not enough.any():
        raise InputError(
            "A typical shape needs a sample in which two points are known, one of them within the box; "
            "found none."
        )
    points, w = points[enough], known[enough].astype(float)
    z = np.where(w > 0, _complex(points), 0)
    mean = _mean(z, w)
    for _ in range(_ROUNDS):
        a, b = _fits(z, np.broadcast_to(mean, z.shape), w)
        mean = _mean(a[:, None] * z + b[:, None], w)
        mean = mean / (np.linalg.norm(mean - mean.mean()) or 1.0)  # or it shrinks from round to round
    a, _ = _fits(np.broadcast_to(mean, z.shape), z, w)
    mean = mean * np.exp(1j * np.angle((a / abs(a)).mean()))
    shape = np.stack([mean.real, mean.imag], axis=-1)
    (middle, side), (middles, sides) = box_of(shape[inner]), box_of(points[:, inner])
    return (shape - middle) * (np.median(sides) / (side or 1.0)) + np.median(middles, axis=0)


def crop_shapes(
    packed: PackedDataset, crop: CropRule, samples: int = 2048
) -> Float[np.ndarray, "samples landmarks 2"]:
    """The landmarks of a data set in crops as in use, crop units; NaN where not known.

    Args:
        packed: The data set.
        crop: The crops' rule.
        samples: How many are looked at, at most; spread evenly over the data set.
    """
    rows = np.unique(np.linspace(0, len(packed) - 1, min(samples, len(packed))).round().astype(np.int64))
    geometry = fixed_geometry(crop, torch.from_numpy(packed.boxes[rows]))
    return to_crop_units(torch.from_numpy(packed.points[rows]), geometry.matrix).double().numpy()


def _complex(points: Float[np.ndarray, "*batch 2"]) -> Complex[np.ndarray, "*batch"]:
    return points[..., 0] + 1j * points[..., 1]


def _mean(
    z: Complex[np.ndarray, "samples n"], w: Float[np.ndarray, "samples n"]
) -> Complex[np.ndarray, " n"]:
    """The mean of each point over the samples that know it; where none does, the middle of the others."""
    count = w.sum(axis=0)
    mean = (w * z).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean())


def _fits(
    source: Complex[np.ndarray, "samples n"],
    target: Complex[np.ndarray, "samples n"],
    w: Float[np.ndarray, "samples n"],
) -> tuple[Complex[np.ndarray, " samples"], Complex[np.ndarray, " samples"]]:
    """Factors a and shifts b of the similarities that take sources to targets, by weighted least squares."""
    w = w / w.sum(axis=1, keepdims=True)
    s0, t0 = ((w * z).sum(axis=1, keepdims=True) for z in (source, target))
    spread = (w * abs(source - s0) ** 2).sum(axis=1)
    product = (w * (source - s0).conj() * (target - t0)).sum(axis=1)
    a = np.where(spread > 0, product / np.where(spread > 0, spread, 1.0), 1.0 + 0j)
    return a, t0[:, 0] - a * s0[:, 0]
