"""Contours in a fit: their rows are chosen before a stage and stay during it."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partfit.fitting.problem import FitProblem
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models.contour import ContourEmbedding


def with_contour_frozen(problem: FitProblem, x: Float[Tensor, "batch state"]) -> FitProblem:
    """The problem with fixed rows in place of a contour: those that each item chooses in its state x.

    All items share the rows of an embedding. So the rows of the contour that every item has chosen are
    added behind those of the scheme, and an item takes part in the former with its own only; in the
    contour's rows of the scheme, with none. What others chose has weight 0 for an item, and does not change
    its fit.
    """
    embedding = problem.embedding
    if not isinstance(embedding, ContourEmbedding):
        return problem
    parameters, focal = problem.split(x)
    camera = problem.camera if focal is None else attrs.evolve(problem.camera, focal=focal)
    batch, contour = len(x), torch.as_tensor(embedding.contour.copy(), device=x.device)
    mine = torch.eye(batch, dtype=torch.bool, device=x.device)  # item, item whose rows they are

    def scattered(values: Tensor, missing: float) -> Tensor:
        kept = values.clone()
        kept[:, contour] = missing
        chosen = mine.reshape(batch, batch, *[1] * (values.ndim - 1))
        added = torch.where(chosen, values[:, None, contour], missing)
        return torch.cat([kept, added.flatten(1, 2)], dim=1)

    return attrs.evolve(
        problem,
        embedding=_extended(embedding, *embedding.chosen_rows(problem.model, parameters, camera)),
        points=scattered(problem.points, torch.nan),
        scale=scattered(problem.scale, torch.inf),
        confidence=scattered(problem.confidence, 0.0),
        points_3d=None if problem.points_3d is None else scattered(problem.points_3d, torch.nan),
        scale_3d=None if problem.scale_3d is None else scattered(problem.scale_3d, torch.inf),
    )


def _extended(
    embedding: ContourEmbedding,
    indices: Int[np.ndarray, "batch contour k"],
    weights: Float[np.ndarray, "batch contour k"],
) -> LandmarkEmbedding:
    """The embedding's rows, followed by rows of its contour."""
    batch, n, width = indices.shape
    scheme, names = embedding.scheme, [embedding.scheme.names[i] for i in embedding.contour]
    width = max(width, embedding.indices.shape[1])

    def joined(own: np.ndarray, added: np.ndarray) -> np.ndarray:
        both = (own, added.reshape(batch * n, -1))
        return np.concatenate([np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in both])

    return LandmarkEmbedding(
        LandmarkScheme(
            f"{scheme.name}-frozen",
            [*scheme.names, *(f"{name}-{item}" for item in range(batch) for name in names)],
            scheme.version,
        ),
        embedding.topology,
        joined(embedding.indices, indices),
        joined(embedding.weights, weights),
        np.concatenate([embedding.reliability, np.tile(embedding.reliability[embedding.contour], batch)]),
    )
