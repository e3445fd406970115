"""The core's own components, declared through the same hook as a plugin's."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The components that need no plugin."""
    return [
        ComponentSpec(
            "fitter",
            "lm",
            "partfit.fitting.lm:LevenbergMarquardt",
            "Batched Levenberg-Marquardt on weighted landmarks and priors",
            1,
        ),
        ComponentSpec(
            "landmarker",
            "checkpoint",
            "partfit.learning.landmarker:CheckpointLandmarker",
            "A trained network, from the file that `partfit train` writes",
            1,
        ),
        ComponentSpec(
            "head", "linear", "partfit.learning.heads:LinearHead", "One linear map of the features", 1
        ),
        ComponentSpec("head", "mlp", "partfit.learning.heads:MLPHead", "A multi-layer perceptron", 1),
        ComponentSpec(
            "loss",
            "visibility",
            "partfit.learning.losses:VisibilityLoss",
            "Cross-entropy of which landmarks are in sight",
            1,
        ),
    ]
