"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """A landmarker of faces."""
    return [
        ComponentSpec(
            "landmarker",
            "partfit-dense",
            "partfit_dense.landmarker:DenseLandmarker",
            "2666 points of face, ears and irises, with scale and visibility",
            1,
        )
    ]
