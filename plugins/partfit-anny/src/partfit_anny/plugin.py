"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The head and hand models, their landmark embeddings and the recipes for faces and hands."""
    embeddings = {
        "mediapipe468": "MediaPipe's 468 face landmarks",
        "mediapipe478": "MediaPipe's 468 face landmarks and the irises",
        "ibug68": "the 68 points of iBUG (300-W)",
        "ibug51": "those of iBUG's points that are not on the outline",
        "anny-face-dense": "the vertices of the face, one-hot",
        "anny-face-ears": "the vertices of the face, the ears and the irises, one-hot",
    }
    return [
        ComponentSpec(
            "model", "anny-head", "partfit_anny.head:AnnyHead", "Head with identity and 52 expressions", 1
        ),
        *(
            ComponentSpec(
                "embedding",
                f"anny-head/{scheme}",
                f"partfit_anny.embeddings:{scheme.replace('-', '_')}",
                f"{summary}, on the Anny head",
                1,
            )
            for scheme, summary in embeddings.items()
        ),
        ComponentSpec(
            "model", "anny-hand", "partfit_anny.hand:AnnyHand", "Left or right hand, posed by named angles", 1
        ),
        *(
            ComponentSpec(
                "embedding",
                f"anny-hand-{side}/hand21",
                f"partfit_anny.embeddings:hand21_{side}",
                f"The 21 hand landmarks, on the {side} Anny hand",
                1,
            )
            for side in ("right", "left")
        ),
        ComponentSpec("recipe", "face", "partfit_anny.recipe:face", "Faces: MediaPipe 468 and Anny head", 1),
        ComponentSpec("recipe", "hand", "partfit_anny.recipe:hand", "Hands: MediaPipe 21 and Anny hand", 1),
    ]
