"""The cost of a fit problem in one stage: its value, gradient and Gauss-Newton matrix."""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.kernels import robustify
from partfit.fitting.problem import FitProblem, Stage
from partfit.geometry.camera import projection_jacobian
from partfit.models.base import LandmarkFunction, Linearization


@attrs.frozen(eq=False)
class Evaluation:
    """The cost at one x, and what its derivative needs.

    Attributes:
        x: (B, P).
        cost: (B,); infinite where a landmark that takes part lies behind the camera.
        landmarks: The landmarks there.
        residual: (B, L, 2), weighted.
        slope: (B, L), the derivative of the robust kernel.
    """

    x: Float[Tensor, "batch parameters"]
    cost: Float[Tensor, " batch"]
    landmarks: Linearization
    residual: Float[Tensor, "batch landmarks 2"]
    slope: Float[Tensor, "batch landmarks"]


@attrs.frozen(eq=False)
class NormalEquations:
    """The quadratic model of the cost around x, in the free parameters.

    Attributes:
        gradient: (B, C), J^T r.
        hessian: (B, C, C), J^T J, priors included (thesis eq. 3.29).
    """

    gradient: Float[Tensor, "batch columns"]
    hessian: Float[Tensor, "batch columns columns"]


class Objective:
    """The cost of `FitProblem` with the kernel and the free groups of one stage.

    Attributes:
        columns: (C,) indices of the free parameters.
        lower, upper: (C,) their limits.
        usable: (B, L) landmarks that take part.
    """

    def __init__(self, problem: FitProblem, stage: Stage, landmarks: LandmarkFunction | None = None) -> None:
        model, like = problem.model, problem.points
        self.problem, self.stage = problem, stage
        self.landmarks = landmarks or model.landmarks(problem.embedding, like)
        self.camera = problem.camera.to(like)
        self.columns = torch.tensor(model.columns(stage.free), dtype=torch.int64, device=like.device)
        self.weights = landmark_weights(problem)
        self.usable: Bool[Tensor, "batch landmarks"] = (self.weights > 0).any(dim=-1)
        self.target = torch.where(self.usable[..., None], problem.points, 0)

        def joined(name: str) -> Tensor:
            values = [torch.as_tensor(getattr(group, name).copy()) for group in model.groups]
            return torch.cat(values).to(like)

        self.lower, self.upper = joined("lower")[self.columns], joined("upper")[self.columns]
        self.mean = joined("prior_mean")
        blocks = [
            torch.as_tensor(group.information) * problem.prior_weights.get(group.name, 1.0)
            for group in model.groups
        ]
        self.information = torch.block_diag(*blocks).to(like)
        self.free_information = self.information[self.columns][:, self.columns]

    def evaluate(self, x: Float[Tensor, "batch parameters"]) -> Evaluation:
        """The cost at x."""
        landmarks = self.landmarks.linearize(x)
        residual = self.weights * (self.camera.project(self._seen(landmarks.points)) - self.target)
        rho, slope = robustify((residual**2).sum(-1), self.stage.kernel, self.stage.kernel_scale)
        offset = x - self.mean
        prior = ((offset @ self.information) * offset).sum(1)
        cost = 0.5 * (rho.sum(1) + prior)
        cost = torch.where(cost.isnan(), torch.inf, cost)
        return Evaluation(x, cost, landmarks, residual, slope)

    def normal_equations(self, at: Evaluation) -> NormalEquations:
        """Gradient and Gauss-Newton matrix where the cost was evaluated."""
        root = at.slope.sqrt()[..., None]
        projection = projection_jacobian(self._seen(at.landmarks.points), self.camera.focal)
        projection = projection * (self.weights * root)[..., None]
        jacobian = at.landmarks.jacobian(projection, self.stage.free)
        prior = ((at.x - self.mean) @ self.information)[:, self.columns]
        # as a row vector times J, which is many times faster than J^T times a column vector
        gradient = ((at.residual * root).flatten(1)[:, None] @ jacobian)[:, 0] + prior
        return NormalEquations(gradient, jacobian.transpose(1, 2) @ jacobian + self.free_information)

    def held(self, at: Evaluation, equations: NormalEquations) -> Bool[Tensor, "batch columns"]:
        """Free parameters at a limit beyond which the cost would go on falling, (B, C)."""
        values, gradient = at.x[:, self.columns], equations.gradient
        return (values <= self.lower) & (gradient > 0) | (values >= self.upper) & (gradient < 0)

    def rms_px(self, x: Float[Tensor, "batch parameters"]) -> Float[Tensor, " batch"]:
        """Root mean square distance in pixels over the landmarks that take part."""
        distance = self.camera.project(self.landmarks.points(x)) - self.target
        square = torch.where(self.usable, (distance**2).sum(-1), 0)
        return (square.sum(1) / self.usable.sum(1)).sqrt()

    def _seen(self, points: Tensor) -> Tensor:
        """The points (B, L, 3), with those of landmarks left out moved to where nothing is undefined."""
        neutral = torch.tensor([0.0, 0.0, 1.0]).to(points)
        return torch.where(self.usable[..., None], points, neutral)


def landmark_weights(problem: FitProblem) -> Float[Tensor, "batch landmarks 2"]:
    """Weights of the residuals, thesis eq. 3.40 or one over the scale; 0 for landmarks left out.

    Left out is what has no finite position, no finite positive scale, or a weight that overflows.
    """
    known = torch.isfinite(problem.points).all(-1, keepdim=True)
    usable = known & torch.isfinite(problem.scale) & (problem.scale > 0)
    if problem.weighting == "confidence":
        weights = problem.confidence[..., None].expand_as(problem.points)
    else:
        weights = 1 / problem.scale
    reliability = torch.as_tensor(problem.embedding.reliability.copy()).to(problem.points)
    weights = torch.where(usable, weights, 0) * reliability.sqrt()[:, None]
    return weights.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)


def hold(
    matrix: Float[Tensor, "batch columns columns"], held: Bool[Tensor, "batch columns"]
) -> Float[Tensor, "batch columns columns"]:
    """The matrix with the rows and columns of held parameters replaced by those of the identity."""
    if not bool(held.any()):
        return matrix
    kept = (~held).to(matrix)
    return matrix * kept[:, :, None] * kept[:, None, :] + torch.diag_embed(1 - kept)
