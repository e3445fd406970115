"""The terms of a fit's cost that rest on landmarks: their reprojection, and their relative 3D positions.

A term turns landmarks X (B, L, 3), in the camera frame, into weighted residuals (B, L, R) and carries the
landmarks' derivative on to these. Residuals are counted in standard deviations of what was measured. Focal
lengths (B,) are given where they are not the camera's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.problem import FitProblem
from partfit.geometry.camera import project_points, projection_jacobian
from partfit.models.base import Linearization


class Term(ABC):
    """One kind of residuals, R of them a landmark."""

    @abstractmethod
    def residual(
        self, points: Float[Tensor, "batch landmarks 3"], focal: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch landmarks rows"]:
        """The weighted residuals of landmarks; 0 for those that do not take part."""

    @abstractmethod
    def jacobian(
        self,
        at: Linearization,
        root: Float[Tensor, "batch landmarks"],
        groups: Sequence[str],
        focal: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch rows_of_all columns"]:
        """Derivative of the residuals, each times its landmark's `root`, by the columns of some groups."""

    @abstractmethod
    def focal_column(
        self,
        points: Float[Tensor, "batch landmarks 3"],
        root: Float[Tensor, "batch landmarks"],
        focal: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch rows_of_all"]:
        """The same by the logarithm of the focal length."""


class Reprojection(Term):
    """The distance of projected and given landmarks, thesis eq. 3.39: w (project(X) - point).

    Attributes:
        usable: (B, L) landmarks that take part.
    """

    def __init__(self, problem: FitProblem) -> None:
        self._camera = problem.camera.to(problem.points)
        self._weights = landmark_weights(problem)
        self.usable: Bool[Tensor, "batch landmarks"] = (self._weights > 0).any(dim=-1)
        self._target = torch.where(self.usable[..., None], problem.points, 0)

    def residual(self, points: Tensor, focal: Tensor | None = None) -> Tensor:
        """See `Term`. NaN where a landmark that takes part lies behind the camera."""
        return self._weights * self._distance(points, focal)

    def jacobian(
        self, at: Linearization, root: Tensor, groups: Sequence[str], focal: Tensor | None = None
    ) -> Tensor:
        """See `Term`."""
        focal = self._camera.focal if focal is None else focal
        projection = projection_jacobian(self._seen(at.points), focal)
        return at.jacobian(projection * (self._weights * root[..., None])[..., None], groups)

    def focal_column(self, points: Tensor, root: Tensor, focal: Tensor) -> Tensor:
        """See `Term`: u = f x / z + c changes by u - c."""
        away = self._projected(points, focal) - self._camera.principal[:, None]
        return (self._weights * root[..., None] * away).flatten(1)

    def rms_px(
        self, points: Float[Tensor, "batch landmarks 3"], focal: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Root mean square distance in pixels over the landmarks that take part."""
        square = torch.where(self.usable, self._distance(points, focal).square().sum(-1), 0)
        return (square.sum(1) / self.usable.sum(1)).sqrt()

    def _distance(self, points: Tensor, focal: Tensor | None) -> Tensor:
        return self._projected(points, focal) - self._target

    def _projected(self, points: Tensor, focal: Tensor | None) -> Tensor:
        focal = self._camera.focal if focal is None else focal
        return project_points(self._seen(points), focal, self._camera.principal)

    def _seen(self, points: Tensor) -> Tensor:
        """The points (B, L, 3), with those of landmarks left out moved to where nothing is undefined."""
        neutral = torch.tensor([0.0, 0.0, 1.0]).to(points)
        return torch.where(self.usable[..., None], points, neutral)


class RelativePoints(Term):
    """The difference of landmarks and given 3D points, whose common origin is not known: w (d - mean d).

    d = X - point, and the mean of each coordinate is weighted by w^2. This is the origin that fits best: the
    residuals are those of the best translation (the least-squares root), and no choice of a root landmark
    matters. The derivative is w (dX - mean dX). A robust kernel bends the residuals, not the origin: one
    wild point still shifts it.
    """

    def __init__(self, problem: FitProblem) -> None:
        self._weights = relative_weights(problem)
        square = self._weights**2
        self._share = square / square.sum(1, keepdim=True).clamp(min=torch.finfo(square.dtype).tiny)
        assert problem.points_3d is not None
        self._target = torch.where(self._weights > 0, problem.points_3d, 0)

    def residual(self, points: Tensor, focal: Tensor | None = None) -> Tensor:
        """See `Term`."""
        difference = points - self._target
        return self._weights * (difference - (self._share * difference).sum(1, keepdim=True))

    def focal_column(self, points: Tensor, root: Tensor, focal: Tensor) -> Tensor:
        """See `Term`: metres do not depend on the camera."""
        return torch.zeros_like(points).flatten(1)

    def jacobian(
        self, at: Linearization, root: Tensor, groups: Sequence[str], focal: Tensor | None = None
    ) -> Tensor:
        """See `Term`."""
        batch, n_landmarks, _ = at.points.shape
        eye = torch.eye(3).to(at.points).expand(batch, n_landmarks, 3, 3)
        moved = at.jacobian(eye, groups).unflatten(1, (n_landmarks, 3))
        moved = moved - (self._share[..., None] * moved).sum(1, keepdim=True)
        return (moved * (self._weights * root[..., None])[..., None]).flatten(1, 2)


def relative_terms(problem: FitProblem) -> tuple[Term, ...]:
    """The term of the relative 3D points; none where they are not given."""
    return () if problem.points_3d is None else (RelativePoints(problem),)


def landmark_weights(problem: FitProblem) -> Float[Tensor, "batch landmarks 2"]:
    """Weights of the reprojection, thesis eq. 3.40 or one over the scale; 0 for landmarks left out.

    Left out is what has no finite position, no finite positive scale, too little confidence, or a weight
    that overflows.
    """
    known = torch.isfinite(problem.points).all(-1, keepdim=True) & _confident(problem)
    usable = known & torch.isfinite(problem.scale) & (problem.scale > 0)
    if problem.weighting == "confidence":
        weights = problem.confidence[..., None].expand_as(problem.points)
    else:
        weights = 1 / torch.where(usable, problem.scale, 1)
    return _reliable(problem, torch.where(usable, weights, 0))


def relative_weights(problem: FitProblem) -> Float[Tensor, "batch landmarks 3"]:
    """Weights of the relative 3D points: one over the scale; 0 for coordinates left out, all without any."""
    if problem.points_3d is None or problem.scale_3d is None:
        return problem.points.new_zeros(*problem.points.shape[:2], 3)
    scale = problem.scale_3d
    usable = torch.isfinite(problem.points_3d) & torch.isfinite(scale) & (scale > 0) & _confident(problem)
    return _reliable(problem, torch.where(usable, 1 / torch.where(usable, scale, 1), 0))


def _confident(problem: FitProblem) -> Bool[Tensor, "batch landmarks 1"]:
    return (problem.confidence >= problem.min_confidence)[..., None]


def _reliable(problem: FitProblem, weights: Tensor) -> Tensor:
    reliability = torch.as_tensor(problem.embedding.reliability.copy()).to(weights)
    weights = weights * reliability.sqrt()[:, None]
    return weights.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)
