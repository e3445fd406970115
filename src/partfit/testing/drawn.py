"""Fit problems drawn from the prior, how far fits of them are off, and the bound that no estimator beats.

With these a fitter's covariances are checked: errors should be as large as they say, and not smaller than the
information in landmarks and prior permits.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitResult
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding
from partfit.models.skinning import SkinnedModel

#: Means and standard deviations of the rigid motions, which have no prior in a fit: radians and metres.
TURN = (0.0, 0.3)
PLACE = ((0.0, 0.0, 0.9), (0.03, 0.03, 0.1))
#: Step of the central differences of the bound.
_STEP = 1e-5


@attrs.frozen(eq=False)
class Drawn:
    """Fit problems whose truth is known.

    Attributes:
        problem: B problems of independent landmark errors of the stated scale; all groups free.
        states: (B, S) the truth, as `FitProblem.state` has it.
        information: (S, S) of the normal density that it was drawn from.
    """

    problem: FitProblem
    states: Float[Tensor, "batch state"]
    information: Float[Tensor, "state state"]

    @property
    def names(self) -> dict[str, slice]:
        """Where each group lies in the state."""
        last = self.problem.model.n_parameters
        focal = {"log focal": slice(last, last + 1)} if self.problem.focal_deviation > 0 else {}
        return {**self.problem.model.slices, **focal}

    def projected(self, states: Float[Tensor, "batch state"]) -> Float[Tensor, "batch landmarks 2"]:
        """Where states have the landmarks, pixels."""
        problem = self.problem
        x, focal = problem.split(states)
        camera = problem.camera if focal is None else attrs.evolve(problem.camera, focal=focal)
        return camera.project(problem.model.landmarks(problem.embedding, x).points(x))

    def errors(self, result: FitResult) -> Float[Tensor, "batch state"]:
        """Fitted less true states."""
        return self.problem.state(result.x, result.focal) - self.states

    def van_trees_bound(self) -> Float[Tensor, "state state"]:
        """The least mean squared error matrix that any estimator has: the inverse of E[J^T W J] + prior.

        The expectation is over the states drawn, J by central differences.

        Source: van Trees, "Detection, Estimation, and Modulation Theory, Part I", 1968, section 2.4.3.
        """
        rows = []
        for step in _STEP * torch.eye(self.states.shape[1], dtype=self.states.dtype):
            ahead, behind = self.projected(self.states + step), self.projected(self.states - step)
            rows.append((ahead - behind) / (2 * _STEP) / self.problem.scale)
        J = torch.stack(rows, dim=-1).flatten(0, 2)
        return torch.linalg.inv(J.T @ J / len(self.states) + self.information)


def drawn_problem(
    model: SkinnedModel,
    embedding: LandmarkEmbedding,
    batch: int,
    *,
    seed: int = 0,
    noise_px: float = 0.5,
    focal_deviation: float = 0.0,
) -> Drawn:
    """Problems of 256-pixel cameras whose parameters are drawn from the priors of the model's groups.

    Turns and places, of which a model has no prior, are drawn from `TURN` and `PLACE`, the logarithm of the
    focal length from its prior.

    Args:
        model: Without limits.
        embedding: The landmarks.
        batch: Number of problems.
        seed: Of states and noise.
        noise_px: Standard deviation of the landmarks' errors, and their scale.
        focal_deviation: Above 0, the focal length is one of the unknowns.
    """
    rng = np.random.default_rng(seed)
    rigid = {"global_orient": np.broadcast_to(TURN, (3, 2)).T, "transl": np.array(PLACE)}
    draws, roots = [], []
    for group in model.groups:
        if group.name in rigid:
            mean, spread = rigid[group.name]
            draws.append(mean + spread * rng.normal(size=(batch, group.size)))
            roots.append(torch.as_tensor(np.diag(1 / spread**2)))
        else:
            draws.append(group.sample(rng, batch))
            roots.append(torch.as_tensor(group.information))
    x = torch.as_tensor(np.concatenate(draws, axis=1))
    camera = Camera.for_images([(256, 256)] * batch, dtype=torch.float64)
    focal = camera.focal
    if focal_deviation > 0:
        focal = focal * torch.as_tensor(np.exp(focal_deviation * rng.normal(size=batch)))
        roots.append(torch.tensor([[focal_deviation**-2]], dtype=torch.float64))
    exact = attrs.evolve(camera, focal=focal).project(model.landmarks(embedding, x).points(x))
    noise = noise_px * torch.as_tensor(rng.normal(size=exact.shape))
    problem = FitProblem(
        model,
        embedding,
        exact + noise,
        torch.full_like(exact, noise_px),
        torch.ones_like(exact[..., 0]),
        camera,
        stages=(
            Stage(("global_orient", "transl"), 10),
            Stage(tuple(model.slices), 60, focal=focal_deviation > 0),
        ),
        focal_deviation=focal_deviation,
    )
    return Drawn(problem, problem.state(x, focal), torch.block_diag(*roots))


@attrs.frozen
class Calibration:
    """How errors compare with their covariances.

    Attributes:
        ratio: Mean squared error over the mean trace of the covariance; ideally 1.
        ratio_error: Standard error of the ratio.
        coverage: Share of the errors within the region of 90 %.
    """

    ratio: float
    ratio_error: float
    coverage: float


def calibration(
    errors: Float[Tensor, "batch d"] | Float[Tensor, "batch n d"],
    covariances: Float[Tensor, "batch d d"] | Float[Tensor, "batch n d d"],
) -> Calibration:
    """Errors of independent items, each of d coordinates or of n points, beside their covariances.

    Coordinates are covered one by one, points by their ellipsoids. The standard error is that between items.
    """
    traces = covariances.diagonal(dim1=-2, dim2=-1)
    square, trace = (t.flatten(1).sum(1) for t in (errors**2, traces))
    ratio = (square.mean() / trace.mean()).item()
    spread = ((square - ratio * trace).std() / trace.mean()).item() / len(errors) ** 0.5
    if errors.ndim == 2:
        inside = errors**2 <= stats.chi2.ppf(0.9, 1) * traces
    else:
        length = (errors * torch.linalg.solve(covariances, errors)).sum(-1)
        inside = length <= stats.chi2.ppf(0.9, errors.shape[-1])
    return Calibration(ratio, spread, inside.double().mean().item())
