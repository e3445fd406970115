"""A fit as a layer of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from partfit.fitting.base import Fitter
from partfit.fitting.gradients import IMPLICIT, Backward
from partfit.fitting.problem import FitProblem, Stage, Weighting
from partfit.fitting.result import FitResult
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding
from partfit.models.base import ParametricModel


class FitLayer(nn.Module):
    """Landmarks, their scales and cameras in; parameters and vertices out; gradients from these to those.

    It has no weights. What it is made of stays where it is: inputs of any device and dtype are taken.
    """

    def __init__(
        self,
        model: ParametricModel,
        embedding: LandmarkEmbedding,
        stages: Sequence[Stage],
        fitter: Fitter | None = None,
        backward: Backward = IMPLICIT,
        weighting: Weighting = "inverse_scale",
    ) -> None:
        """Put the layer together.

        Args:
            model: The parametric model.
            embedding: Where the landmarks lie on it.
            stages: As in `FitProblem`.
            fitter: By default `lm`.
            backward: How gradients pass through.
            weighting: As in `FitProblem`.
        """
        super().__init__()
        from partfit.fitting.lm import LevenbergMarquardt

        self.model, self.embedding, self.stages = model, embedding, tuple(stages)
        self.fitter = LevenbergMarquardt() if fitter is None else fitter
        self.backward_rule, self.weighting = backward, weighting

    def forward(
        self,
        points: Float[Tensor, "batch landmarks 2"],
        scale: Float[Tensor, "batch landmarks 2"],
        camera: Camera,
        confidence: Float[Tensor, "batch landmarks"] | None = None,
        prior_weights: Mapping[str, float | Tensor] | None = None,
        start: Float[Tensor, "batch parameters"] | None = None,
    ) -> FitResult:
        """Fit the landmarks. `x`, `parameters`, `vertices()`, `landmarks()` of the result have derivatives.

        Args:
            points: (B, L, 2), pixels.
            scale: (B, L, 2), standard deviations, pixels.
            camera: B cameras.
            confidence: (B, L) in [0, 1]; by default 1.
            prior_weights: Factors on the prior cost of groups; numbers or tensors of one element.
            start: (B, P) where the fit starts; by default the closed-form start.
        """
        confidence = torch.ones_like(points[..., 0]) if confidence is None else confidence
        problem = FitProblem(
            self.model,
            self.embedding,
            points,
            scale,
            confidence,
            camera,
            self.stages,
            self.weighting,
            prior_weights or {},
            start=start,
        )
        return self.fitter.fit_with_gradients(problem, self.backward_rule)
