"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The head `spiral`."""
    return [
        ComponentSpec(
            kind="head",
            name="spiral",
            target="partfit_spiralnet.head:SpiralHead",
            summary="SpiralNet++: from few vertices of the landmarks' mesh to all, along spirals",
            api_version=1,
        )
    ]
