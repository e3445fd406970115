"""Smooth noise over space that repeats, to be looked up at many points quickly."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

#: Voxels a side of the volume, a power of two (1 MiB in all, to stay in a cache), and the width of its blobs
#: in voxels.
_SIDE, _BLOB = 64, 1.3

Real: TypeAlias = float | np.floating[Any] | np.ndarray


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
    x, y, z = (
        (points[:, axis].astype(np.float32, copy=False) * step[axis] + shift[axis]).astype(np.int32)
        for axis in range(3)
    )
    last = _SIDE - 1
    return _volume().take(((x & last) * _SIDE + (y & last)) * _SIDE + (z & last))


def fractal(
    points: Float[np.ndarray, "n 3"], scale: float, offset: np.ndarray, octaves: int = 3
) -> Float[np.ndarray, " n"]:
    """Noise (n,) of several sizes, each half as large and half as strong as the one before."""
    total = noise(points, scale, offset)
    for k in range(1, octaves):
        total += 0.5**k * noise(points, scale * 0.5**k, np.asarray(offset) + 7.3 * k)
    return total


def smoothstep(low: Real, high: Real, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; falls where `low` is the larger."""
    start, end = np.asarray(low, x.dtype), np.asarray(high, x.dtype)  # so that x keeps its type
    t = np.minimum(np.maximum((x - start) / (end - start), 0), 1)
    return t * t * (3 - 2 * t)
