"""The recipe `hand/mano`: MediaPipe's landmarks on the MANO hand."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")


def hand() -> Recipe:
    """Hands by 21 landmarks, in the picture and in metres, as MANO; one model for each side.

    All is free: the wrist's motion, shape and pose. The file's poses are the prior that keeps fingers from
    bending the wrong way.
    """
    return Recipe(
        part="hand",
        detector="mediapipe-hand",
        landmarker="mediapipe-hand",
        model="mano",
        landmarks_on="joints",
        settings=FitSettings(
            stages=(
                Stage(_RIGID, iterations=10, kernel="huber"),
                Stage(("betas", "hand_pose", *_RIGID), iterations=40, kernel="huber"),
            ),
            prior_weights={"betas": 0.5, "hand_pose": 0.5},
        ),
    )
