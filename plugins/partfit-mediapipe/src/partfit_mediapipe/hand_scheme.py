"""The landmark scheme `hand21`: wrist, finger joints and finger tips.

The order is the usual one of MediaPipe and of most data sets of hands. One scheme serves both hands: a left
hand in a flipped picture shows the same points of a right hand.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from partfit.landmarks import LandmarkScheme

#: Number of landmarks.
COUNT = 21

#: Names of each finger's points, from the wrist outwards.
FINGERS = {
    "thumb": ("cmc", "mcp", "ip", "tip"),
    **dict.fromkeys(("index", "middle", "ring", "little"), ("mcp", "pip", "dip", "tip")),
}


@cache
def hand21() -> LandmarkScheme:
    """The scheme: the wrist, then the points of each finger; edges run along the fingers from the wrist."""
    names = ("wrist", *(f"{finger}_{point}" for finger, points in FINGERS.items() for point in points))
    chains = [[0, *range(first, first + 4)] for first in range(1, COUNT, 4)]
    edges = [pair for chain in chains for pair in pairwise(chain)]
    return LandmarkScheme("hand21", names, edges=np.array(edges), mirror=np.arange(COUNT))
