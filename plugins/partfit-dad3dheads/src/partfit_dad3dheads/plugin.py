"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The data set of the user's own folder."""
    return [
        ComponentSpec(
            "dataset",
            "dad3dheads",
            "partfit_dad3dheads.dataset:Dad3DHeads",
            "DAD-3DHeads, or data in its format: heads in photographs with fitted meshes",
            1,
        )
    ]
