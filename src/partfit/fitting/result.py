"""What a fit returns."""

from __future__ import annotations

import enum
from functools import cached_property

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.errors import InputError
from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.objective import Objective, hold
from partfit.fitting.problem import FitProblem
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding
from partfit.models.contour import landmark_points


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
        problem: What was fitted, with the scales of the last stage.
        x: (B, P) parameter vectors.
        status: One status an item.
        messages: The reason for each status, in words.
        cost: (B,) final cost; infinite for a failed item.
        rms_px: (B,) root mean square distance of projected and given landmarks, pixels; NaN if failed.
        iterations: (B,) iterations of all stages.
        focal: (B,) estimated focal lengths, pixels; None where they were known.
    """

    problem: FitProblem
    x: Tensor
    status: tuple[FitStatus, ...]
    messages: tuple[str, ...]
    cost: Tensor
    rms_px: Tensor
    iterations: Tensor
    focal: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Named parameter groups, each (B, size)."""
        return self.problem.model.unpack(self.x)

    @cached_property
    def camera(self) -> Camera:
        """The cameras, with the focal lengths that were estimated."""
        camera = self.problem.camera
        return camera if self.focal is None else attrs.evolve(camera, focal=self.focal.to(camera.focal))

    def vertices(self) -> Float[Tensor, "batch vertices 3"]:
        """Vertices (B, V, 3) in the camera frame, metres."""
        return self.problem.model.vertices(self.x)

    def landmarks(self, embedding: LandmarkEmbedding | None = None) -> Float[Tensor, "batch landmarks 3"]:
        """Landmarks (B, L, 3) in the camera frame, metres, of the fitted or of another embedding.

        NaN where the embedding does not know the place of a landmark.
        """
        problem = self.problem
        return landmark_points(problem.model, embedding or problem.embedding, self.x, self.camera)

    def projected(self, embedding: LandmarkEmbedding | None = None) -> Float[Tensor, "batch landmarks 2"]:
        """Landmarks (B, L, 2) projected into the picture, pixels."""
        return self.camera.to(self.x).project(self.landmarks(embedding))

    def covariance(self, inflation: float = 1.0) -> Float[Tensor, "batch columns columns"]:
        """Covariance of the parameters freed in the last stage, in the order of the parameter vector.

        A focal length that was estimated comes last, as its logarithm.

        The inverse of the Gauss-Newton matrix at the solution, with the landmarks' part divided by
        `inflation`: the errors of dense landmarks are correlated, so that L of them say less than L
        independent ones; estimate the factor on held-out residuals. A parameter held at a limit has
        variance 0. An item that failed, or in which landmarks and priors leave a direction
        undetermined, is NaN.

        Raises:
            InputError: for `confidence` weighting, whose residuals have no unit of probability, and
                without stages.
        """
        if self.problem.weighting != "inverse_scale":
            raise InputError(
                "A covariance is defined for weighting='inverse_scale' only: confidences are no scales."
            )
        data, prior, held = self._information()
        kept = (~held).to(data)
        inverse, singular = torch.linalg.inv_ex(hold(data / inflation + prior, held))
        inverse = inverse * kept[:, :, None] * kept[:, None, :]
        return torch.where(((singular == 0) & ~self._failed)[:, None, None], inverse, torch.nan)

    def unobservable(self, threshold: float = 1e-2) -> list[Float[Tensor, "directions columns"]]:
        """For each item the directions of the last stage's parameters that the landmarks hardly tell.

        Parameters are measured in standard deviations of their prior (1 where there is none); a direction
        counts when the landmarks' information along it is below `threshold`. A failed item has none.

        Returns:
            One (n, C) tensor an item, unit rows in those units, the least observable first.

        Raises:
            InputError: without stages.
        """
        data, prior, _ = self._information()
        diagonal = prior.diagonal(dim1=1, dim2=2)
        unit = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
        scaled = torch.where(self._failed[:, None, None], 0.0, unit[:, :, None] * data * unit[:, None, :])
        values, vectors = torch.linalg.eigh(scaled)
        few = (values < threshold) & ~self._failed[:, None]
        return [v.T[below] for below, v in zip(few, vectors, strict=True)]

    @property
    def _failed(self) -> Bool[Tensor, " batch"]:
        failed = [status is FitStatus.FAILED for status in self.status]
        return torch.tensor(failed, device=self.x.device)

    def _information(self) -> tuple[Tensor, Tensor, Tensor]:
        """Information of landmarks and of priors (B, C, C), float64, and what is held at limits (B, C)."""
        if not self.problem.stages:
            raise InputError("A problem without stages frees no parameters.")
        state = self.problem.state(self.x, self.focal)
        objective = Objective(with_contour_frozen(self.problem, state), self.problem.stages[-1])
        here = objective.evaluate(state)
        equations = objective.normal_equations(here)
        hessian = equations.hessian.double()
        prior = objective.free_information.double().expand_as(hessian)
        return hessian - prior, prior, objective.held(here, equations)
