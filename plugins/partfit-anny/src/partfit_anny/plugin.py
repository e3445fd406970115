"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The head model, its landmark embeddings and the recipe for faces."""
    embeddings = {
        "mediapipe468": "MediaPipe's 468 face landmarks",
        "ibug68": "the 68 points of iBUG (300-W)",
        "anny-face-dense": "the vertices of the face, one-hot",
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
        ComponentSpec("recipe", "face", "partfit_anny.recipe:face", "Faces: MediaPipe 468 and Anny head", 1),
    ]
