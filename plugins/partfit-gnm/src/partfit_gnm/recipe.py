"""The recipe `face/gnm-head`: MediaPipe's landmarks on the GNM head."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")


def face() -> Recipe:
    """Faces by 468 landmarks, as the GNM head.

    Where these lie on the head no file says: landmark transfer finds out, once, when a fit needs it. Frozen:
    neck and head joint, which a picture of a face cannot tell from the root. The eyes are free, as in the
    recipe `face`.
    """
    return Recipe(
        part="face",
        detector="mediapipe-face",
        landmarker="mediapipe-face",
        model="gnm-head",
        settings=FitSettings(
            stages=(
                Stage(_RIGID, iterations=10, kernel="huber"),
                Stage(
                    ("betas", "expression", "leye_pose", "reye_pose", *_RIGID), iterations=20, kernel="huber"
                ),
            ),
            prior_weights={"betas": 0.5, "expression": 0.5},
        ),
    )
