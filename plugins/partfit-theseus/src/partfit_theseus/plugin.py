"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The fitter `theseus`."""
    return [
        ComponentSpec(
            kind="fitter",
            name="theseus",
            target="partfit_theseus.fitter:TheseusFitter",
            summary="theseus-ai: Levenberg-Marquardt, Gauss-Newton, Dogleg; closed-form Jacobian or autodiff",
            api_version=1,
        )
    ]
