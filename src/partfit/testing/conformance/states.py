"""States of models that the suites look at, and what they ask of embeddings."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import ContourEmbedding, ParametricModel


def towards_camera(model: ParametricModel, x: torch.Tensor, rotvecs: torch.Tensor) -> torch.Tensor:
    """The states turned by rotvecs and brought before a camera at the origin, which sees them whole.

    The model's front is +z: half a turn about x makes it face the camera.
    """
    x = x.clone()
    x[:, model.slices[rigid_group(model, "rotvec")]] = rotvecs.to(x)
    points = model.points(x)
    middle = points.mean(dim=1)
    distance = 4 * (points - middle[:, None]).norm(dim=2).max()
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype) * distance
    x[:, model.slices[rigid_group(model, "euclidean")]] += ahead - middle
    return x


def plausible_states(model: ParametricModel, free: Collection[str], batch: int) -> torch.Tensor:
    """States drawn from the prior of the free groups, within their limits; the mean of the others."""
    rng = np.random.default_rng(0)
    drawn = [group.sample(rng, batch, 1.0 if group.name in free else 0.0) for group in model.groups]
    return torch.as_tensor(np.concatenate(drawn, axis=1))


def resting(model: ParametricModel) -> torch.Tensor:
    """(1, P) the means of the priors: the typical shape at rest, in the model's own frame."""
    return torch.as_tensor(np.concatenate([group.prior_mean for group in model.groups]))[None]


def limits(model: ParametricModel) -> tuple[torch.Tensor, torch.Tensor]:
    """(P,) the smallest and the largest allowed values."""
    lower, upper = (
        torch.as_tensor(np.concatenate([getattr(group, end) for group in model.groups]))
        for end in ("lower", "upper")
    )
    return lower, upper


def rigid_group(model: ParametricModel, kind: str) -> str:
    """The name of the rigid rotation (`rotvec`) or translation (`euclidean`)."""
    names = [g.name for g in model.groups if g.rigid and g.kind == kind and g.size == 3]
    assert len(names) == 1, f"a model needs one rigid {kind} group of size 3, found {names}"
    return names[0]


def random_rows(model: ParametricModel, n: int = 12, k: int = 3) -> LandmarkEmbedding:
    """Landmarks on random points of the model."""
    rng = np.random.default_rng(0)
    return LandmarkEmbedding(
        LandmarkScheme("conformance", [f"p{i}" for i in range(n)]),
        model.topology.name,
        rng.integers(0, model.topology.n_points, (n, k)),
        rng.dirichlet(np.ones(k), n),
    )


def check_embedding(embedding: LandmarkEmbedding, model: ParametricModel) -> None:
    """Its rows, and those of its contour, are convex and lie on the model."""
    model.check_embedding(embedding)
    rows = [embedding.weights]
    if isinstance(embedding, ContourEmbedding):
        rows.append(embedding.choices_weights)
    for weights in rows:
        assert (weights >= -1e-9).all(), "the weights of a row must not be negative"
        assert np.allclose(weights.sum(axis=-1), 1), "the weights of a row must sum to 1"
