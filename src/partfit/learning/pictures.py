"""Pictures of predictions."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from partfit.learning.distribution import LandmarkDistribution

#: Side of each crop in the picture, pixels.
TILE = 256
#: Scales, in crop units, that are drawn in the colours of certain and of uncertain landmarks.
CERTAIN, UNCERTAIN = 0.005, 0.08
_COLOURS = np.array([[40, 220, 90], [250, 220, 40], [230, 40, 40]], dtype=float)
_COLUMNS = 4


def draw_samples(
    images: Float[Tensor, "batch 3 R R"], distribution: LandmarkDistribution
) -> UInt8[np.ndarray, "height width 3"]:
    """Crops side by side with their predicted landmarks, from green (certain) over yellow to red.

    The colour goes with the logarithm of the scale, from `CERTAIN` to `UNCERTAIN`, so with the confidence; a
    landmark that is predicted out of sight is a ring.
    """
    tiles = F.interpolate(images, (TILE, TILE), mode="bilinear", align_corners=False)
    pixels = tiles.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    places = ((distribution.mean + 0.5) * TILE - 0.5).cpu().numpy()
    colours = _colours(distribution.log_scale.mean(dim=-1).cpu().numpy())
    seen = distribution.visibility
    hidden = np.zeros(places.shape[:2], dtype=bool) if seen is None else (seen < 0).cpu().numpy()
    rows = math.ceil(len(images) / _COLUMNS)
    sheet = np.full((rows * TILE, min(len(images), _COLUMNS) * TILE, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(pixels):
        y, x = TILE * (k // _COLUMNS), TILE * (k % _COLUMNS)
        sheet[y : y + TILE, x : x + TILE] = _drawn(tile, places[k], colours[k], hidden[k])
    return sheet


def _colours(log_scale: Float[np.ndarray, "batch landmarks"]) -> UInt8[np.ndarray, "batch landmarks 3"]:
    low, high = math.log(CERTAIN), math.log(UNCERTAIN)
    at = np.clip((log_scale - low) / (high - low), 0, 1) * (len(_COLOURS) - 1)
    stops = np.arange(len(_COLOURS))
    return np.stack([np.interp(at, stops, channel) for channel in _COLOURS.T], axis=-1).astype(np.uint8)


def _drawn(
    tile: UInt8[np.ndarray, "height width 3"],
    places: Float[np.ndarray, "landmarks 2"],
    colours: UInt8[np.ndarray, "landmarks 3"],
    hidden: np.ndarray,
) -> UInt8[np.ndarray, "height width 3"]:
    image = Image.fromarray(tile)
    draw = ImageDraw.Draw(image)
    radius = 0.8 if len(places) > 300 else 2.0
    for (x, y), colour, out_of_sight in zip(places.tolist(), colours.tolist(), hidden, strict=True):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, outline=tuple(colour), fill=None if out_of_sight else tuple(colour))
    return np.asarray(image)
