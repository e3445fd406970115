"""What a fit is given and what it returns."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import attrs
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.component import Component
from partfit.errors import InputError, ShapeError
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, LandmarkEmbedding
from partfit.models.base import ParametricModel

Weighting = Literal["inverse_scale", "confidence"]
KernelName = Literal["none", "huber", "cauchy", "geman_mcclure"]


@attrs.frozen
class Stage:
    """One minimisation: which groups are free, for how long, with which robust kernel.

    Attributes:
        free: Names of the free parameter groups.
        iterations: Upper limit.
        kernel: Applied to the length of each landmark's weighted residual.
        kernel_scale: Where the kernel begins to bend, in units of the weighted residual.
    """

    free: tuple[str, ...]
    iterations: int = attrs.field(default=20, validator=attrs.validators.ge(0))
    kernel: KernelName = "none"
    kernel_scale: float = attrs.field(default=3.0, validator=attrs.validators.gt(0))


@attrs.frozen(eq=False)
class FitProblem:
    """A batch of independent fits of one model.

    The cost of an item is 1/2 sum_l rho(|w_l (projection_l - point_l)|^2) + 1/2 |L (x - mean)|^2, where the
    weight w is one over the landmark's scale (`inverse_scale`) or its confidence (`confidence`, thesis
    eq. 3.40), each times the root of the embedding's reliability, and L the prior of the model's groups.

    Attributes:
        model: The parametric model.
        embedding: Where the landmarks lie on it.
        points: (B, L, 2) landmarks in pixels. A landmark that is not finite is left out.
        scale: (B, L, 2) standard deviations in pixels; infinite leaves a coordinate out.
        confidence: (B, L) in [0, 1].
        camera: B cameras.
        stages: Minimised one after another.
        weighting: See above.
        prior_weights: Factors on the prior cost of single groups, 1 where not named.
        start: (B, P) parameter vectors to start from; by default the closed-form start.
    """

    model: ParametricModel
    embedding: LandmarkEmbedding
    points: Tensor
    scale: Tensor
    confidence: Tensor
    camera: Camera
    stages: tuple[Stage, ...]
    weighting: Weighting = "inverse_scale"
    prior_weights: Mapping[str, float] = attrs.field(factory=dict)
    start: Tensor | None = None

    def __attrs_post_init__(self) -> None:
        self.model.check_embedding(self.embedding)
        batch, n = len(self.camera), len(self.embedding.scheme)
        shapes = {"points": (batch, n, 2), "scale": (batch, n, 2), "confidence": (batch, n)}
        if self.start is not None:
            shapes["start"] = (batch, self.model.n_parameters)
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(name, str(shape), tuple(getattr(self, name).shape))
        for name in (*self.prior_weights, *(g for stage in self.stages for g in stage.free)):
            self.model.group(name)
        if bool((self.scale <= 0).any()):
            raise InputError("Scales of landmarks must be > 0 (infinite leaves a landmark out).")

    @classmethod
    def from_detections(
        cls,
        model: ParametricModel,
        embedding: LandmarkEmbedding,
        detections: Sequence[Detection],
        camera: Camera,
        stages: Sequence[Stage],
        **options: Any,
    ) -> FitProblem:
        """The problem of fitting one model to several detections, with the camera's dtype and device.

        Raises:
            InputError: if a detection's scheme is not the embedding's.
        """
        for detection in detections:
            if detection.scheme.hash != embedding.scheme.hash:
                raise InputError(
                    f"The landmarks are of scheme {detection.scheme.name!r} (version "
                    f"{detection.scheme.version}), the {embedding.label} is of version "
                    f"{embedding.scheme.version}. Choose a landmarker and an embedding of one scheme."
                )
        like = camera.focal

        def stacked(name: str) -> Tensor:
            return torch.as_tensor(np.stack([getattr(d, name) for d in detections])).to(like)

        points, scale, confidence = stacked("points"), stacked("scale"), stacked("confidence")
        return cls(model, embedding, points, scale, confidence, camera, stages=tuple(stages), **options)


class FitStatus(enum.StrEnum):
    """How the fit of one item ended."""

    CONVERGED = "converged"
    MAX_ITERATIONS = "max_iterations"
    STALLED = "stalled"
    FAILED = "failed"


@attrs.frozen(eq=False)
class FitResult:
    """The outcome of a FitProblem, item by item.

    Attributes:
        problem: What was fitted.
        x: (B, P) parameter vectors.
        status: One status an item.
        messages: The reason for each status, in words.
        cost: (B,) final cost; infinite for a failed item.
        rms_px: (B,) root mean square distance of projected and given landmarks, pixels; NaN if failed.
        iterations: (B,) iterations of all stages.
    """

    problem: FitProblem
    x: Tensor
    status: tuple[FitStatus, ...]
    messages: tuple[str, ...]
    cost: Tensor
    rms_px: Tensor
    iterations: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Named parameter groups, each (B, size)."""
        return self.problem.model.unpack(self.x)

    def vertices(self) -> Float[Tensor, "batch vertices 3"]:
        """Vertices (B, V, 3) in the camera frame, metres."""
        return self.problem.model.vertices(self.x)

    def landmarks(self, embedding: LandmarkEmbedding | None = None) -> Float[Tensor, "batch landmarks 3"]:
        """Landmarks (B, L, 3) in the camera frame, metres, of the fitted or of another embedding."""
        return self.problem.model.landmarks(embedding or self.problem.embedding, self.x).points(self.x)

    def projected(self, embedding: LandmarkEmbedding | None = None) -> Float[Tensor, "batch landmarks 2"]:
        """Landmarks (B, L, 2) projected into the picture, pixels."""
        return self.problem.camera.to(self.x).project(self.landmarks(embedding))

    def covariance(self, inflation: float = 1.0) -> Float[Tensor, "batch columns columns"]:
        """Covariance of the parameters freed in the last stage, in the order of the parameter vector.

        The inverse of the Gauss-Newton matrix at the solution, with the landmarks' part divided by
        `inflation`: the errors of dense landmarks are correlated, so that L of them say less than L
        independent ones; estimate the factor on held-out residuals.

        Raises:
            InputError: for `confidence` weighting, whose residuals have no unit of probability.
        """
        if self.problem.weighting != "inverse_scale":
            raise InputError(
                "A covariance is defined for weighting='inverse_scale' only: confidences are no scales."
            )
        data, prior = self._information()
        return torch.linalg.inv(data / inflation + prior)

    def unobservable(self, threshold: float = 1e-2) -> list[Float[Tensor, "directions columns"]]:
        """For each item the directions of the last stage's parameters that the landmarks hardly tell.

        Parameters are measured in standard deviations of their prior (1 where there is none); a direction
        counts when the landmarks' information along it is below `threshold`.

        Returns:
            One (n, C) tensor an item, unit rows in those units, the least observable first.
        """
        data, prior = self._information()
        diagonal = prior.diagonal(dim1=1, dim2=2)
        unit = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
        values, vectors = torch.linalg.eigh(unit[:, :, None] * data * unit[:, None, :])
        return [v.T[e < threshold] for e, v in zip(values, vectors, strict=True)]

    def _information(self) -> tuple[Tensor, Tensor]:
        from partfit.fitting.objective import Objective

        objective = Objective(self.problem, self.problem.stages[-1])
        hessian = objective.normal_equations(objective.evaluate(self.x)).hessian.double()
        prior = objective.free_information.double().expand_as(hessian)
        return hessian - prior, prior


class Fitter(Component):
    """Solves fit problems."""

    kind = "fitter"

    @abstractmethod
    def fit(self, problem: FitProblem) -> FitResult:
        """Fit every item of the problem. Items never influence one another.

        An item that cannot be fitted gets `FitStatus.FAILED` and a message; it raises nothing.
        """
