"""The core's own components, declared through the same hook as a plugin's."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The components that need no plugin."""
    return [
        ComponentSpec(
            kind="fitter",
            name="lm",
            target="partfit.fitting.lm:LevenbergMarquardt",
            summary="Batched Levenberg-Marquardt on weighted landmarks and priors",
            api_version=1,
        )
    ]
