"""The landmark scheme `foot-markers`: 12 stickers, and where they are stuck."""

from __future__ import annotations

from typing import Literal

import numpy as np

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit_foot import shape

#: Each sticker's part, how far along it and at which angle it sits (see `Tube.at`), in the order of the
#: wheel of colours: red, orange, yellow, yellow-green, green, blue-green, cyan, azure, blue, violet, magenta,
#: rose.
PLACES = {
    **{toe: (toe, 0.85, 90) for toe in shape.TOES},
    "big_knuckle": ("body", 0.86, 60),
    "little_knuckle": ("body", 0.82, 135),
    "instep": ("body", 0.56, 90),
    "inner_arch": ("body", 0.52, 30),
    "inner_ankle": ("leg", 0.36, -45),
    "outer_ankle": ("leg", 0.36, 225),
    "shin": ("leg", 0.9, -90),
}

_EDGES = [("big_toe", "big_knuckle"), ("big_knuckle", "instep"), ("little_toe", "little_knuckle")]
_EDGES += [("little_knuckle", "instep"), ("instep", "shin"), ("big_knuckle", "inner_arch")]
_EDGES += [("inner_arch", "inner_ankle"), ("inner_ankle", "shin"), ("shin", "outer_ankle")]
_EDGES += list(zip(shape.TOES[:-1], shape.TOES[1:], strict=True))

#: One scheme for both sides: a flipped left foot shows the same stickers of a right one.
SCHEME = LandmarkScheme(
    "foot-markers",
    list(PLACES),
    edges=[[list(PLACES).index(name) for name in edge] for edge in _EDGES],
    mirror=range(len(PLACES)),
)

#: (12, 3) colours of the stickers, linear light: 12 steps round the wheel from red by green and blue.
COLORS = np.clip(np.abs((np.arange(12)[:, None] + [0, 8, 4]) % 12 - 6) / 2 - 1, 0, 1)


def left_markers() -> LandmarkEmbedding:
    """The embedding `foot-left/foot-markers`."""
    return _markers("left")


def right_markers() -> LandmarkEmbedding:
    """The embedding `foot-right/foot-markers`."""
    return _markers("right")


def _markers(side: Literal["left", "right"]) -> LandmarkEmbedding:
    tubes, starts = shape.parts(), shape.starts()
    vertices = [starts[part] + tubes[part].at(along, degrees) for part, along, degrees in PLACES.values()]
    return LandmarkEmbedding.of_vertices(SCHEME, f"foot-{side}", vertices)
