"""The recipe `face/flame`: MediaPipe's landmarks on FLAME."""

from __future__ import annotations

from partfit.fitting import Stage
from partfit.recipe import FitSettings, Recipe

_RIGID = ("global_orient", "transl")
_JOINTS = ("neck_pose", "jaw_pose", "leye_pose", "reye_pose")


def face() -> Recipe:
    """How the model `flame` is fitted to faces.

    Frozen: the neck, which a picture of a face cannot tell from the root. The eyes stay near straight ahead,
    the prior's mean, unless landmarks lie on them. Shape and expression coefficients have FLAME's own prior:
    unit variance.

    The preset `thesis` is that of thesis sections 3.4.3 and 4.5: all groups free, residuals in pixels
    weighted by confidence, no robust kernel, 20 iterations a stage, L2 on shape and expression alone. Neck,
    jaw and eyes have no prior then; the limits of their rotvecs stay, which the thesis does not name. Its
    100 shape and 100 expression coefficients are options of the model: `n_betas=100, n_expression=100`.
    """
    return Recipe(
        part="face",
        detector="mediapipe-face",
        landmarker="mediapipe-face",
        model="flame",
        settings=FitSettings(
            stages=(
                Stage(_RIGID, iterations=10, kernel="huber"),
                Stage(
                    ("betas", "expression", "jaw_pose", "leye_pose", "reye_pose", *_RIGID),
                    iterations=20,
                    kernel="huber",
                ),
            ),
        ),
        presets={
            "thesis": FitSettings(
                stages=(
                    Stage(_RIGID, iterations=20),
                    Stage(("betas", "expression", *_JOINTS, *_RIGID), iterations=20),
                ),
                weighting="confidence",
                prior_weights=dict.fromkeys(_JOINTS, 0.0),
            )
        },
    )
