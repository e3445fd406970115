"""The embeddings `anny-head/<scheme>` and `anny-hand-<side>/hand21`."""

from __future__ import annotations

import numpy as np

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit_anny.hand_assets import Side, hand_arrays
from partfit_anny.head_assets import dense_face, dense_face_and_ears, embed

#: Pairs of iBUG's 68 points that a left-right flip exchanges; the others lie in the middle.
_IBUG_PAIRS = (
    *((i, 16 - i) for i in range(8)),
    *((17 + i, 26 - i) for i in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (59, 55), (58, 56)),
    *((60, 64), (61, 63), (67, 65)),
)


def mediapipe468() -> LandmarkEmbedding:
    """MediaPipe's 468 face landmarks."""
    return embed(LandmarkScheme("mediapipe468", [f"p{i:03d}" for i in range(468)]))


def mediapipe478() -> LandmarkEmbedding:
    """MediaPipe's 468 face landmarks and five points of each iris."""
    return embed(LandmarkScheme("mediapipe478", [f"p{i:03d}" for i in range(478)]))


def ibug68() -> LandmarkEmbedding:
    """The 68 points of iBUG (300-W)."""
    mirror = np.arange(68)
    for a, b in _IBUG_PAIRS:
        mirror[[a, b]] = b, a
    return embed(LandmarkScheme("ibug68", [f"p{i:02d}" for i in range(68)], mirror=mirror))


def ibug51() -> LandmarkEmbedding:
    """The points 17 to 67 of iBUG, without the outline: where the face is, whichever way it looks."""
    whole = ibug68()
    assert whole.scheme.mirror is not None
    scheme = LandmarkScheme("ibug51", whole.scheme.names[17:], mirror=whole.scheme.mirror[17:] - 17)
    rows = (whole.indices[17:], whole.weights[17:], whole.reliability[17:])
    return LandmarkEmbedding(scheme, whole.topology, *rows)


def anny_face_dense() -> LandmarkEmbedding:
    """The vertices of the face, one-hot."""
    return dense_face()


def anny_face_ears() -> LandmarkEmbedding:
    """The vertices of the face, the ears and the irises, one-hot."""
    return dense_face_and_ears()


def hand21_right() -> LandmarkEmbedding:
    """The 21 hand landmarks on a right hand."""
    return _hand21("right")


def hand21_left() -> LandmarkEmbedding:
    """The 21 hand landmarks on a left hand."""
    return _hand21("left")


def _hand21(side: Side) -> LandmarkEmbedding:
    """The virtual points of the model `anny-hand`, one-hot."""
    hand = hand_arrays(side)
    scheme = LandmarkScheme("hand21", hand.landmark_names, mirror=np.arange(len(hand.landmark_names)))
    rows = len(hand.v_template) + np.arange(len(scheme))
    return LandmarkEmbedding.of_vertices(scheme, f"anny-hand-{side}", rows.tolist())
