"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The foot, its stickers, what finds them, and the recipe."""
    return [
        ComponentSpec("model", "foot", "partfit_foot.foot:Foot", "Left or right foot, made in code", 1),
        ComponentSpec(
            "detector",
            "foot-stickers",
            "partfit_foot.stickers:StickerDetector",
            "Box of coloured stickers",
            1,
        ),
        ComponentSpec(
            "landmarker",
            "foot-stickers",
            "partfit_foot.stickers:StickerLandmarker",
            "12 stickers on a foot, by their colours",
            1,
        ),
        *(
            ComponentSpec(
                "embedding",
                f"foot-{side}/foot-markers",
                f"partfit_foot.markers:{side}_markers",
                f"The stickers on the {side} foot",
                1,
            )
            for side in ("left", "right")
        ),
        ComponentSpec("recipe", "foot", "partfit_foot.recipe:FOOT", "Feet with 12 coloured stickers", 1),
    ]
