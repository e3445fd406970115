"""What a fit does not know: covariances of vertices and landmarks, and how far residuals belong together.

All covariances follow to first order from that of the parameters, `FitResult.covariance`: C = J S J^T. They
count what landmarks and priors leave open in the parameters that the last stage frees; parameters that are
frozen, held at a limit, or not of the model count as known.

Source: Hartley & Zisserman, "Multiple View Geometry", section 5.2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.fitting.result import FitResult
from partfit.geometry.camera import projection_jacobian
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme


def vertex_covariance(
    result: FitResult, inflation: float = 1.0, frame: Literal["camera", "model"] = "camera"
) -> Float[Tensor, "batch vertices 3 3"]:
    """Covariance of each vertex's position, square metres.

    Args:
        result: Of a fit with stages.
        inflation: See `FitResult.covariance`.
        frame: `camera`: where the vertices are, distance included, which one picture tells least; `model`:
            the shape alone, in the model's own frame, whatever the rigid motion.

    Returns:
        (B, V, 3, 3); NaN where the parameters' is.
    """
    problem, stage = result.problem, result.problem.stages[-1]
    model, covariance = problem.model, result.covariance(inflation)
    groups = [group for group in model.groups if group.name in stage.free]
    kept = [g.name for g in groups if frame == "camera" or not g.rigid]
    # the columns of the covariance that belong to the groups kept; a focal length moves no vertex
    wanted = set(model.columns(kept))
    chosen = [k for k, column in enumerate(model.columns(stage.free)) if column in wanted]
    x = result.x if frame == "camera" else model.without_rigid_motion(result.x)
    at = model.landmarks(_every_vertex(model.topology.name, model.topology.n_vertices), x).linearize(x)
    eye = torch.eye(3).to(x).expand(*at.points.shape[:2], 3, 3)
    J = at.jacobian(eye, kept).unflatten(1, (-1, 3)).double()
    return _carried(J, covariance[:, chosen][:, :, chosen]).to(x)


def landmark_covariance(result: FitResult, inflation: float = 1.0) -> Float[Tensor, "batch landmarks 2 2"]:
    """Covariance of each fitted landmark's position in the picture, square pixels.

    It is that of where the fitted model has the landmark, not of what a landmarker says: the smaller, the
    better the other landmarks and the priors tell its place. Landmarks that take no part have one, too.

    Returns:
        (B, L, 2, 2); NaN where the parameters' is.
    """
    problem, stage = result.problem, result.problem.stages[-1]
    at = problem.model.landmarks(problem.embedding, result.x).linearize(result.x)
    camera = result.camera.to(result.x)
    J = at.jacobian(projection_jacobian(at.points, camera.focal), stage.free).unflatten(1, (-1, 2))
    if stage.focal:  # u = f x / z + c changes by u - c with log f
        away = camera.project(at.points) - camera.principal[:, None]
        J = torch.cat([J, away[..., None]], dim=-1)
    return _carried(J.double(), result.covariance(inflation)).to(result.x)


def deviation(covariance: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
    """Root mean square distance from the mean that covariances mean: the root of their traces."""
    return covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()


def inflation_factor(residuals: Float[np.ndarray, "items landmarks d"]) -> float:
    """How many correlated landmarks say as much as one independent one: `inflation` for covariances.

    The errors of neighbours are alike, so that L landmarks tell a common shift less well than L independent
    ones. Of standardised errors r = (landmark - truth) / scale, found on held-out pictures, the factor is
    L Var(mean_l r_l), averaged over the coordinates: 1 for independent errors of the stated scale, L for
    equal ones. It is exact for directions that move all landmarks alike, and too large for those that move
    single ones.

    Args:
        residuals: (N, L, d) r; NaN for landmarks without truth.

    Source: the design effect of Kish, "Survey Sampling", 1965, section 5.4, times the errors' variance.
    """
    known = np.isfinite(residuals)
    count = known.sum(axis=1)
    means = np.where(known, residuals, 0.0).sum(axis=1) / np.maximum(count, 1)
    return float((count * means**2)[count > 0].mean())


def unobservable_names(result: FitResult, threshold: float = 1e-2, largest: int = 3) -> list[list[str]]:
    """The directions of `FitResult.unobservable` in words: their largest coordinates, by name.

    For example `transl[2] +0.97, betas[0] -0.21`: moving away and growing, which one picture hardly tells
    apart.
    """
    problem = result.problem
    names = [
        name
        for group in problem.model.groups
        if group.name in problem.stages[-1].free
        for name in (group.names or [f"{group.name}[{k}]" for k in range(group.size)])
    ]
    names += ["log focal"] if problem.stages[-1].focal else []
    return [
        [
            ", ".join(
                f"{names[k]} {direction[k]:+.2f}" for k in direction.abs().argsort(descending=True)[:largest]
            )
            for direction in directions
        ]
        for directions in result.unobservable(threshold)
    ]


def _carried(J: Float[Tensor, "batch n d columns"], S: Float[Tensor, "batch columns columns"]) -> Tensor:
    """J S J^T of each of n points, (B, n, d, d)."""
    moved = (J.flatten(1, 2) @ S.to(J)).view(J.shape)
    return moved @ J.transpose(2, 3)


def _every_vertex(topology: str, n_vertices: int) -> LandmarkEmbedding:
    scheme = LandmarkScheme(f"{topology}-vertices", [str(k) for k in range(n_vertices)])
    rows = np.arange(n_vertices)[:, None]
    return LandmarkEmbedding(scheme, topology, rows, np.ones_like(rows, dtype=float))
