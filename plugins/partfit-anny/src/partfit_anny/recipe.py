"""The recipe `face`: MediaPipe's landmarks on the Anny head."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")
_ALL = ("betas", "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl")


def face() -> Recipe:
    """Faces by 468 landmarks.

    Frozen: the neck, which a picture of a face cannot tell from the root; the jaw bone, which imitates
    the action `jawOpen`; the eyes, which no landmark of the scheme rests on.

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
                Stage(("betas", "expression", *_RIGID), iterations=20, kernel="huber"),
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
