"""Several looks at one crop: the uncertainty of a network that says nothing about its errors.

The network sees a crop and small changes of it: shifted, zoomed, turned, half of them flipped left to right.
The median of its answers is a little better than each of them, and where they disagree they are often wrong.
What a landmarker does:

1. `look_around` shows it small changes of each crop, which `jittered` makes. The network answers for all of
   them together, and the landmarker maps each answer back by its own crop (`Crop.to_image` undoes a flip too;
   what remains is the order of the points, the scheme's `mirror`, the side, and x of metric points);
2. `agreement` gives the median and the spread of the answers;
3. `certainty` is the confidence that the scales of several looks leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import numpy as np
from jaxtyping import Float

from partfit.geometry.crops import Crop

# Largest change of a crop: shift along its own x and y (of its side), zoom (logarithm), turn (radians). Wider
# looks find more of the errors, and narrower ones lower the error of the median more.
_AMPLITUDE = np.array([0.1, 0.1, 0.1, 0.3])

# Steps of the additive sequence that fills the unit cube of four dimensions evenly: powers of 1 / g, where g
# is the root of g^5 = g + 1.
# Source: Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences".
_STEPS = 1.1673039782614187 ** -np.arange(1.0, 5.0)

Answer = TypeVar("Answer")


def look_around(
    look: Callable[[list[list[Crop]]], Sequence[Answer]], crops: Sequence[Sequence[Crop]], looks: int
) -> list[Sequence[Answer]]:
    """The answers to `looks` looks at each crop, in the order of the crops.

    Args:
        look: The network: given the crops of each picture, one answer a crop, in order.
        crops: Of each picture.
        looks: How many, at least 1.

    Returns:
        For each crop of all pictures its `looks` answers, the first of them to the crop itself.
    """
    answers = look([[one for crop in own for one in jittered(crop, looks)] for own in crops])
    return [answers[first : first + looks] for first in range(0, len(answers), looks)]


def jittered(crop: Crop, looks: int) -> list[Crop]:
    """`looks` crops: the crop itself first, then small changes of it; every second one is flipped.

    The changes are the same for every crop, and the first ones do not depend on how many follow: shifts of up
    to a tenth of the side along each axis, zooms of up to a tenth, turns of up to 0.3 radians.
    """
    cube = np.mod(0.5 + np.arange(looks)[:, None] * _STEPS, 1.0)
    changes = (2 * cube - 1) * _AMPLITUDE
    return [_changed(crop, change, flip=bool(index % 2)) for index, change in enumerate(changes.tolist())]


def _changed(crop: Crop, change: Sequence[float], flip: bool) -> Crop:
    x, y, zoom, turn = change
    c, s = math.cos(crop.angle) * crop.size, math.sin(crop.angle) * crop.size
    center = crop.center[0] + c * x - s * y, crop.center[1] + s * x + c * y
    return attrs.evolve(
        crop,
        center=center,
        size=crop.size * math.exp(zoom),
        angle=crop.angle + turn,
        mirror=crop.mirror != flip,
    )


def agreement(
    answers: Float[np.ndarray, "looks ..."],
) -> tuple[Float[np.ndarray, "*answer"], Float[np.ndarray, "*answer"]]:
    """The median of the answers (looks, ...) to several looks, and their spread around it.

    The spread is the mean distance from the median times sqrt(pi / 2), the factor that makes it a standard
    deviation where answers are normally distributed. One failed look among eight disturbs it less than a
    standard deviation. A single look has spread 0.
    """
    median = np.median(answers, axis=0)
    return median, math.sqrt(math.pi / 2) * np.abs(answers - median).mean(axis=0)


def certainty(scale: Float[np.ndarray, "n 2"], limit: float, looks: int) -> Float[np.ndarray, " n"]:
    """How certain points are: it falls from 1 to 0 as their scale grows from 0 to `limit`.

    A single look cannot tell points apart: all are certain.

    Args:
        scale: (n, 2) standard deviations; their root mean square, divided by `limit`, is sigma.
        limit: Scale of a point that nothing is known of, in the same unit.
        looks: How many looks the scales come from.

    Source: after thesis eq. 3.22, C = 1 - sigma.
    """
    if looks == 1:
        return np.ones(len(scale))
    return (1 - np.sqrt((scale**2).mean(axis=1)) / limit).clip(0, 1)
