"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The data set of rendered pictures."""
    return [
        ComponentSpec(
            "dataset",
            "synthetic",
            "partfit_synthetic.dataset:SyntheticDataset",
            "Pictures of a model, rendered with exact landmarks",
            1,
        )
    ]
