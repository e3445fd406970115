"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The head model and the recipe that fits it."""
    return [
        ComponentSpec(
            "model", "gnm-head", "partfit_gnm.head:GnmHead", "Google's GNM head, from your file", 1
        ),
        ComponentSpec(
            "recipe", "face/gnm-head", "partfit_gnm.recipe:face", "Faces: MediaPipe 468 and GNM head", 1
        ),
    ]
