"""Recipes: how the pieces are put together for one body part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import attrs

from partfit.errors import ConfigError
from partfit.fitting.problem import Stage, Weighting


@attrs.frozen
class FitSettings:
    """How a recipe fits.

    Attributes:
        stages: Minimised one after another.
        weighting: `inverse_scale` or `confidence`, see `FitProblem`.
        prior_weights: Factors on the prior cost of single groups, 1 where not named.
        min_confidence: Landmarks of less confidence are left out.
        inflation: How many of the landmarks, whose errors are alike, tell as much as one independent one: for
            uncertainties, see `partfit.fitting.uncertainty.inflation_factor`. By default the landmarker's.
    """

    stages: tuple[Stage, ...]
    weighting: Weighting = "inverse_scale"
    prior_weights: dict[str, float] = attrs.field(factory=dict)
    min_confidence: float = attrs.field(default=0.0)
    inflation: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0))
    )

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence: expected a number in [0, 1], found {self.min_confidence}.")
        for name, weight in self.prior_weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"prior_weights.{name}: expected a finite number >= 0, found {weight}.")


@attrs.frozen
class Recipe:
    """A body part: which components find it, place its landmarks and model it, and how it is fitted.

    Attributes:
        part: The name on the command line, `--part face`.
        detector: Name of the detector.
        landmarker: Name of the landmarker.
        model: Name of the model.
        settings: How it is fitted by default.
        fitter: Name of the fitter.
        presets: Other settings, by name.
        landmarks_on: Where the landmarks lie, if they are to be transferred to a model: on its surface, or
            at its joints and tips.
    """

    part: str
    detector: str
    landmarker: str
    model: str
    settings: FitSettings
    fitter: str = "lm"
    presets: Mapping[str, FitSettings] = attrs.field(factory=dict)
    landmarks_on: Literal["surface", "joints"] = "surface"

    def settings_of(self, preset: str | None) -> FitSettings:
        """The settings of a preset; the default ones for None.

        Raises:
            ConfigError: if there is no such preset.
        """
        if preset is None:
            return self.settings
        if preset not in self.presets:
            known = ", ".join(sorted(self.presets)) or "none"
            raise ConfigError(f"The recipe {self.part!r} has no preset {preset!r}. Presets: {known}.")
        return self.presets[preset]
