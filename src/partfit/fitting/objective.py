"""The cost of a fit problem in one stage: its value, gradient and Gauss-Newton matrix."""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.kernels import robustify
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.terms import Reprojection, Term, relative_terms
from partfit.models.base import LandmarkFunction, Linearization, ParameterGroup


@attrs.frozen(eq=False)
class Evaluation:
    """The cost at one x, and what its derivative needs.

    Attributes:
        x: (B, S) states, see `FitProblem`.
        cost: (B,); infinite where a landmark that takes part lies behind the camera.
        landmarks: The landmarks there.
        focal: (B,) focal lengths there, None where they are the camera's.
        residuals: (B, L, R) of each term, weighted.
        slopes: (B, L) for each term, the derivative of the robust kernel.
    """

    x: Float[Tensor, "batch state"]
    cost: Float[Tensor, " batch"]
    landmarks: Linearization
    focal: Float[Tensor, " batch"] | None
    residuals: list[Tensor]
    slopes: list[Tensor]


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
        usable: (B, L) landmarks whose reprojection takes part.
    """

    def __init__(self, problem: FitProblem, stage: Stage, landmarks: LandmarkFunction | None = None) -> None:
        model, like = problem.model, problem.points
        self.problem, self.stage = problem, stage
        self.landmarks = landmarks or model.landmarks(problem.embedding, like)
        columns = [*model.columns(stage.free), *([model.n_parameters] if stage.focal else [])]
        self.columns = torch.tensor(columns, dtype=torch.int64, device=like.device)
        self.reprojection = Reprojection(problem)
        self.terms = (self.reprojection, *relative_terms(problem))
        self.usable = self.reprojection.usable

        groups = [*model.groups, *_focal_group(problem)]

        def joined(name: str) -> Tensor:
            values = [torch.as_tensor(getattr(group, name).copy()) for group in groups]
            return torch.cat(values).to(like)

        self.lower, self.upper = joined("lower")[self.columns], joined("upper")[self.columns]
        self.mean = joined("prior_mean")
        blocks = [
            torch.as_tensor(group.information) * problem.prior_weights.get(group.name, 1.0)
            for group in groups
        ]
        self.information = torch.block_diag(*blocks).to(like)
        self.free_information = self.information[self.columns][:, self.columns]

    def evaluate(self, x: Float[Tensor, "batch state"]) -> Evaluation:
        """The cost at states x."""
        parameters, focal = self.problem.split(x)
        landmarks = self.landmarks.linearize(parameters)
        residuals = [term.residual(landmarks.points, focal) for term in self.terms]
        robust = [
            robustify((residual**2).sum(-1), self.stage.kernel, self.stage.kernel_scale)
            for residual in residuals
        ]
        offset = x - self.mean
        prior = ((offset @ self.information) * offset).sum(1)
        cost = 0.5 * (sum(rho.sum(1) for rho, _ in robust) + prior)
        cost = torch.where(cost.isnan(), torch.inf, cost)
        return Evaluation(x, cost, landmarks, focal, residuals, [slope for _, slope in robust])

    def normal_equations(self, at: Evaluation) -> NormalEquations:
        """Gradient and Gauss-Newton matrix where the cost was evaluated."""
        gradient = ((at.x - self.mean) @ self.information)[:, self.columns]
        hessian = self.free_information
        for term, residual, slope in zip(self.terms, at.residuals, at.slopes, strict=True):
            root = slope.sqrt()
            jacobian = self.jacobian(term, at, root)
            # as a row vector times J, which is many times faster than J^T times a column vector
            gradient = gradient + ((residual * root[..., None]).flatten(1)[:, None] @ jacobian)[:, 0]
            hessian = hessian + _gram(jacobian)
        return NormalEquations(gradient, hessian)

    def jacobian(
        self, term: Term, at: Evaluation, root: Float[Tensor, "batch landmarks"]
    ) -> Float[Tensor, "batch rows columns"]:
        """Derivative of a term's residuals, each times its landmark's `root`, by the free parameters."""
        jacobian = term.jacobian(at.landmarks, root, self.stage.free, at.focal)
        if not self.stage.focal:
            return jacobian
        assert at.focal is not None
        column = term.focal_column(at.landmarks.points, root, at.focal)
        return torch.cat([jacobian, column[..., None]], dim=2)

    def held(self, at: Evaluation, equations: NormalEquations) -> Bool[Tensor, "batch columns"]:
        """Free parameters at a limit beyond which the cost would go on falling, (B, C)."""
        values, gradient = at.x[:, self.columns], equations.gradient
        return (values <= self.lower) & (gradient > 0) | (values >= self.upper) & (gradient < 0)

    def rms_px(self, at: Evaluation) -> Float[Tensor, " batch"]:
        """Root mean square distance in pixels over the landmarks that take part."""
        return self.reprojection.rms_px(at.landmarks.points, at.focal)


def _gram(jacobian: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch columns columns"]:
    """J^T J, whose block below the diagonal is taken from the one above."""
    half = jacobian.shape[2] // 2
    left, right = jacobian.split([half, jacobian.shape[2] - half], dim=2)
    above = left.transpose(1, 2) @ jacobian
    below = torch.cat([above[..., half:].transpose(1, 2), right.transpose(1, 2) @ right], dim=2)
    return torch.cat([above, below], dim=1)


def _focal_group(problem: FitProblem) -> list[ParameterGroup]:
    """The logarithm of the focal length over the camera's, where it is not known."""
    if problem.focal_deviation == 0:
        return []
    return [ParameterGroup("focal", 1, sqrt_information=[1 / problem.focal_deviation])]


def hold(
    matrix: Float[Tensor, "batch columns columns"], held: Bool[Tensor, "batch columns"]
) -> Float[Tensor, "batch columns columns"]:
    """The matrix with the rows and columns of held parameters replaced by those of the identity."""
    if not bool(held.any()):
        return matrix
    kept = (~held).to(matrix)
    return matrix * kept[:, :, None] * kept[:, None, :] + torch.diag_embed(1 - kept)
