"""The recipes `face` and `hand`: MediaPipe's landmarks on the Anny head and the Anny hand."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")
_ALL = ("betas", "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl")


def face() -> Recipe:
    """Faces by 468 landmarks.

    Frozen: the neck, which a picture of a face cannot tell from the root; the jaw bone, which imitates
    the action `jawOpen`. The eyes are free: without landmarks on the irises they look straight ahead, the
    prior's mean, to half a degree (the lids ride on them a little); with the landmarker
    `mediapipe-face-iris` they follow.

    The priors weigh half: of the factors tried on the 9 example photographs of dlib with 43 faces labelled
    with 68 points, this met the landmarks best while identities stayed within the population (root mean
    square of `betas` below 1). `benchmarks/faces.py` measures both on a label file.

    The preset `thesis` is that of thesis sections 3.4.3 and 4.5: all groups free, residuals in pixels
    weighted by confidence, no robust kernel, 20 iterations a stage.
    """
    return Recipe(
        part="face",
        detector="mediapipe-face",
        landmarker="mediapipe-face",
        model="anny-head",
        settings=FitSettings(
            stages=(
                Stage(_RIGID, iterations=10, kernel="huber"),
                Stage(
                    ("betas", "expression", "leye_pose", "reye_pose", *_RIGID), iterations=20, kernel="huber"
                ),
            ),
            prior_weights={"betas": 0.5, "expression": 0.5},
        ),
        presets={
            "thesis": FitSettings(
                stages=(Stage(_RIGID, iterations=20), Stage(_ALL, iterations=20)),
                weighting="confidence",
            )
        },
    )


def hand() -> Recipe:
    """Hands by 21 landmarks, in the picture and in metres; one model for each side.

    All is free: the wrist's motion, identity and the angles of the fingers, which stay within the limits of
    the model's joints.

    The priors weigh half, as for faces: between a quarter and once, the errors on 49 labelled photographs of
    a hand differ by less than 4% (`benchmarks/hands.py --prior-weight`).
    """
    return Recipe(
        part="hand",
        detector="mediapipe-hand",
        landmarker="mediapipe-hand",
        model="anny-hand",
        landmarks_on="joints",
        settings=FitSettings(
            stages=(
                Stage(_RIGID, iterations=10, kernel="huber"),
                Stage(("betas", "hand_pose", *_RIGID), iterations=40, kernel="huber"),
            ),
            prior_weights={"betas": 0.5, "hand_pose": 0.5},
        ),
    )
