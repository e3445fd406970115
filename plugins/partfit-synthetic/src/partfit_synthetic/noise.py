"""Smooth noise over space that repeats, to be looked up at many points quickly."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

#: Voxels a side of the volume, and the width of its blobs in voxels.
_SIDE, _BLOB = 96, 1.3


@cache
def _volume() -> Float[np.ndarray, " voxels"]:
    noise = np.random.default_rng(1).normal(size=(_SIDE,) * 3).astype(np.float32)
    noise = gaussian_filter(noise, _BLOB, mode="wrap")
    return (noise / noise.std()).ravel()


def noise(
    points: Float[np.ndarray, "n 3"], scale: float | tuple[float, float, float], offset: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Noise (n,) of mean 0 and standard deviation 1, float32.

    Args:
        points: (n, 3) any unit.
        scale: Size of a blob along each axis, in that unit.
        offset: (3,) which part of the noise, in blobs.
    """
    step = (2 * _BLOB / np.broadcast_to(scale, 3)).astype(np.float32)
    shift = (2 * _BLOB * np.asarray(offset) + _SIDE * 64).astype(np.float32)
    cell = (points.astype(np.float32) * step + shift).astype(np.int32) % _SIDE
    return _volume()[(cell[:, 0] * _SIDE + cell[:, 1]) * _SIDE + cell[:, 2]]


def fractal(
    points: Float[np.ndarray, "n 3"], scale: float, offset: np.ndarray, octaves: int = 3
) -> Float[np.ndarray, " n"]:
    """Noise (n,) of several sizes, each half as large and half as strong as the one before."""
    total = noise(points, scale, offset)
    for k in range(1, octaves):
        total = total + 0.5**k * noise(points, scale * 0.5**k, np.asarray(offset) + 7.3 * k)
    return total


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; falls where `low` is the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
