"""Pictures of noise to make surfaces from: tiles without seams, made once per process from fixed seeds."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

#: Side of a tile in cells.
TILE = 512
#: How many tiles of fractal noise there are.
TILES = 6


@cache
def fractal_tile(index: int) -> Float[np.ndarray, "tile tile"]:
    """Noise of all scales, as clouds and stains have it: mean 0, deviation 1.

    Args:
        index: Which, from 0 to `TILES` - 1; the higher the rougher.
    """
    across, along = _frequencies()
    roughness = 2.0 - 0.9 * index / (TILES - 1)
    return _tile(100 + index, np.maximum(np.hypot(across, along), 1) ** -roughness)


@cache
def strand_tile() -> Float[np.ndarray, "tile tile"]:
    """Noise drawn out along the second axis, as strands of hair: mean 0, deviation 1."""
    across, along = _frequencies()
    clumps = 1 / (1 + (np.abs(across) / 40) ** 1.2)
    return _tile(200, clumps * np.exp(-((along / 9) ** 2)))


@cache
def curl_tile() -> Float[np.ndarray, "tile tile"]:
    """Noise of one size, about 12 cells, as curls have it: mean 0, deviation 1."""
    across, along = _frequencies()
    return _tile(300, np.exp(-(((np.hypot(across, along) - 40) / 22) ** 2)))


def at(tile: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Values of a tile at places in cells, between cells by linear interpolation; the tile repeats."""
    row, column = np.floor(across), np.floor(along)
    right = (across - row).astype(np.float32, copy=False)
    down = (along - column).astype(np.float32, copy=False)
    last = TILE - 1  # a power of two less one: what is left of a division by `TILE`
    i, j = row.astype(np.int64) & last, column.astype(np.int64) & last
    i2, j2 = (i + 1) & last, (j + 1) & last
    i, i2, flat = i * TILE, i2 * TILE, tile.ravel()
    upper = flat[i + j] * (1 - down) + flat[i + j2] * down
    lower = flat[i2 + j] * (1 - down) + flat[i2 + j2] * down
    return upper * (1 - right) + lower * right


def smooth_curve(rng: np.random.Generator, places: np.ndarray, waves: int, period: float) -> np.ndarray:
    """A random curve over places, of that period and number of waves; its deviation is about 1."""
    order = np.arange(1, waves + 1)
    amplitude = rng.normal(size=waves) / np.sqrt(order)
    phase = rng.uniform(0, 2 * np.pi, waves)
    waves_at = np.cos(2 * np.pi * order * np.asarray(places)[..., None] / period + phase)
    return (waves_at * amplitude).sum(-1) * np.sqrt(2 / (1 / order).sum())


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    waves = np.fft.fftfreq(TILE, 1 / TILE)
    return waves[:, None], waves[None, :]


def _tile(seed: int, spectrum: np.ndarray) -> Float[np.ndarray, "tile tile"]:
    white = np.random.default_rng(seed).standard_normal((TILE, TILE))
    spectrum = spectrum[:, : TILE // 2 + 1].copy()
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(np.fft.rfft2(white) * spectrum)
    return (tile / tile.std()).astype(np.float32)
