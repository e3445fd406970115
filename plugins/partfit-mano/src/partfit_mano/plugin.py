"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The hand model and the recipe that fits it."""
    return [
        ComponentSpec(
            "model", "mano", "partfit_mano.hand:ManoHand", "Left or right MANO hand, from your file", 1
        ),
        ComponentSpec(
            "recipe", "hand/mano", "partfit_mano.recipe:hand", "Hands: MediaPipe 21 and MANO hand", 1
        ),
    ]
