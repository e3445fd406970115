"""The surface of a right foot at rest: closed tubes through cross-sections.

Frame: metres, +y up, toes along +z, +x to the subject's left, which is the inner side of a right foot. The
ankle is above the origin, the sole at y = 0.
"""

from __future__ import annotations

from functools import cache

import attrs
import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator

TOES = ("big_toe", "second_toe", "middle_toe", "fourth_toe", "little_toe")
_AROUND = 24

# From heel to ball: z, half width, height of the sole, height of the upper side.
_BODY = np.array(
    [
        (-0.066, 0.010, 0.018, 0.042),
        (-0.058, 0.024, 0.004, 0.062),
        (-0.030, 0.032, 0.000, 0.078),
        (0.000, 0.033, 0.003, 0.086),
        (0.040, 0.036, 0.012, 0.074),
        (0.080, 0.043, 0.009, 0.055),
        (0.120, 0.049, 0.000, 0.036),
        (0.145, 0.046, 0.002, 0.026),
        (0.156, 0.036, 0.008, 0.019),
    ]
)
# From ankle to shin: y, half width along x, half width along z.
_LEG = np.array([(0.040, 0.022, 0.026), (0.080, 0.035, 0.036), (0.110, 0.031, 0.036), (0.180, 0.034, 0.042)])
# From big to little: x and z of the toe's base, length, radius.
_TOES = np.array(
    [
        (0.031, 0.138, 0.056, 0.0130),
        (0.009, 0.144, 0.050, 0.0095),
        (-0.008, 0.140, 0.045, 0.0090),
        (-0.023, 0.132, 0.040, 0.0085),
        (-0.036, 0.121, 0.036, 0.0085),
    ]
)
_TOE_HEIGHT = 0.013
# Along a toe, in lengths from its base: the radius, in parts of the toe's.
_TOE_PROFILE = np.array([(-0.3, 0.6), (0.0, 1.0), (0.5, 0.9), (0.75, 1.0), (0.93, 0.7), (1.0, 0.25)])


@attrs.frozen(eq=False)
class Tube:
    """A closed surface through n rings, with a pole at each end.

    Attributes:
        vertices: (24 n + 2, 3) ring by ring, then the two poles.
        faces: (F, 3) counter-clockwise from outside.
        along: (24 n + 2,) 0 at the first ring to 1 at the last.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    along: Float[np.ndarray, " vertices"]

    @classmethod
    def through(
        cls,
        centres: Float[np.ndarray, "n 3"],
        across: Float[np.ndarray, "n 3"],
        up: Float[np.ndarray, "n 3"],
    ) -> Tube:
        """Ellipses with the half axes `across` and `up`; across x up points to the last ring."""
        n = len(centres)
        angle = 2 * np.pi * np.arange(_AROUND)[:, None] / _AROUND
        rings = centres[:, None] + across[:, None] * np.cos(angle) + up[:, None] * np.sin(angle)
        a = np.arange(n * _AROUND).reshape(n, _AROUND)
        b, c, d = np.roll(a, -1, axis=1)[:-1], a[1:], np.roll(a, -1, axis=1)[1:]
        sides = np.stack([a[:-1], b, d, a[:-1], d, c], axis=-1).reshape(-1, 3)
        first, last = np.full(_AROUND, n * _AROUND), np.full(_AROUND, n * _AROUND + 1)
        ends = [(first, np.roll(a[0], -1), a[0]), (last, a[-1], np.roll(a[-1], -1))]
        faces = np.concatenate([sides, *(np.stack(end, axis=1) for end in ends)])
        along = np.append(np.repeat(np.linspace(0, 1, n), _AROUND), [0.0, 1.0])
        return cls(np.concatenate([rings.reshape(-1, 3), centres[[0, -1]]]), faces, along)

    def at(self, along: float, degrees: float) -> int:
        """The vertex at a fraction of the way, and at an angle from `across` towards `up`."""
        ring = round(along * (len(self.vertices) - 2 - _AROUND) / _AROUND)
        return ring * _AROUND + round(degrees * _AROUND / 360) % _AROUND


@cache
def parts() -> dict[str, Tube]:
    """The tubes by name, in the order of the vertices; where they meet they lie inside one another."""
    return {"body": _body(), "leg": _leg(), **{name: _toe(index) for index, name in enumerate(TOES)}}


def starts() -> dict[str, int]:
    """The first vertex of each part."""
    counts = [len(tube.vertices) for tube in parts().values()]
    return dict(zip(parts(), np.cumsum([0, *counts]).tolist(), strict=False))


def faces() -> Int[np.ndarray, "faces 3"]:
    """(F, 3) of all parts."""
    return np.concatenate([parts()[name].faces + start for name, start in starts().items()])


def toe_base(index: int) -> Float[np.ndarray, " 3"]:
    """Where a toe, from big (0) to little (4), bends."""
    x, z = _TOES[index, :2]
    return np.array([x, _TOE_HEIGHT, z])


def _body() -> Tube:
    z, width, sole, upper = _refined(_BODY, 26).T
    zero = np.zeros_like(z)
    centres = np.stack([zero, (sole + upper) / 2, z], axis=1)
    return Tube.through(
        centres, np.stack([width, zero, zero], axis=1), np.stack([zero, (upper - sole) / 2, zero], axis=1)
    )


def _leg() -> Tube:
    # `across` points to the inner side, `up` to the heel
    y, width, depth = _refined(_LEG, 12).T
    zero = np.zeros_like(y)
    centres = np.stack([zero, y, zero - 0.012], axis=1)
    return Tube.through(
        centres, np.stack([width, zero, zero], axis=1), np.stack([zero, zero, -depth], axis=1)
    )


def _toe(index: int) -> Tube:
    length, radius = _TOES[index, 2:]
    along, size = _refined(_TOE_PROFILE, 12).T
    zero = np.zeros_like(along)
    centres = toe_base(index) + np.stack([zero, zero, along * length], axis=1)
    across, up = np.stack([size, zero, zero], axis=1) * radius, np.stack([zero, size, zero], axis=1) * radius
    return Tube.through(centres, across, up)


def _refined(sections: Float[np.ndarray, "n k"], count: int) -> Float[np.ndarray, "count k"]:
    """Smoothly interpolated sections, evenly spaced in the first column."""
    position = np.linspace(sections[0, 0], sections[-1, 0], count)
    return np.column_stack([position, PchipInterpolator(sections[:, 0], sections[:, 1:])(position)])
