"""Pixel coordinates of resized pictures, by the convention that pixel (0, 0) is a pixel's centre."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped


def resize_points(points: Shaped[np.ndarray, "*batch"], factor: float) -> Float[np.ndarray, "*batch"]:
    """Coordinates in a picture resized by `factor`: x' = (x + 0.5) factor - 0.5.

    Args:
        points: Pixel coordinates, of any shape: x and y are treated alike.
        factor: New size over old.
    """
    return (np.asarray(points, dtype=float) + 0.5) * factor - 0.5
