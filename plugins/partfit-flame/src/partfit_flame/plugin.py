"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The head model of the user's own file, and the recipe that fits it to faces."""
    return [
        ComponentSpec(
            "model",
            "flame",
            "partfit_flame.head:FlameHead",
            "FLAME head, from the official file that you hold",
            1,
        ),
        ComponentSpec(
            "recipe", "face/flame", "partfit_flame.recipe:face", "Faces: MediaPipe 468 and FLAME", 1
        ),
    ]
