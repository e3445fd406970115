"""The vertex-edge loss: neighbours keep their places relative to one another."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partfit.errors import InputError
from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.losses import Loss, LossModule, weighted_mean
from partfit_likelihoods.densities import full_precision
from partfit_likelihoods.likelihoods import position_error


def scheme_edges(scheme: LandmarkScheme) -> Int[np.ndarray, "edges 2"]:
    """The undirected edges of a scheme, each once: those of its triangles, or else those it draws.

    Raises:
        InputError: if it has neither.
    """
    pairs = scheme.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    pairs = np.unique(np.sort(pairs if len(pairs) else scheme.edges, axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        raise InputError(
            f"vertex-edge: expected a scheme with triangles or edges, found {scheme.name!r} without any. "
            "Train without this loss, or give the scheme triangles."
        )
    return pairs


class VertexEdge(Loss):
    """Squared error of the vectors along edges: weight * mean over edges of |e - e_true|^2.

    Thesis eq. 3.23 is the sum over edges; the mean does not depend on how many there are. In training it is
    added to a likelihood. The thesis gives no weight; the default makes it comparable to a likelihood: where
    errors are independent and of standard deviation s in each coordinate, the squares of a calibrated
    Gaussian likelihood count 1 nat a landmark, and an edge counts 4 s^2 times the weight, which is 1 at
    s = 0.016, 4 pixels of 256. Neighbours err alike, so that it counts less than that.
    """

    @attrs.frozen
    class Config:
        """Options of `VertexEdge`.

        Attributes:
            weight: What the mean squared error, crop units, is multiplied with.
        """

        weight: float = attrs.field(default=1000.0, validator=attrs.validators.gt(0))

    def module(self, scheme: LandmarkScheme) -> LossModule:
        """See `Loss.module`."""
        return _VertexEdgeModule(scheme_edges(scheme), self.config.weight)


class _VertexEdgeModule(LossModule):
    def __init__(self, edges: Int[np.ndarray, "edges 2"], weight: float) -> None:
        super().__init__()
        self._weight = weight
        self.edges: Tensor
        self.register_buffer("edges", torch.as_tensor(edges), persistent=False)

    def forward(self, distribution: LandmarkDistribution, targets: LandmarkTargets) -> Float[Tensor, ""]:
        """See `LossModule.forward`. The weight of an edge is the geometric mean of those of its ends."""
        error = position_error(distribution, targets)
        start, end = self.edges.unbind(dim=1)
        squares = (error[:, end] - error[:, start]).square().sum(dim=-1)
        weight = full_precision(targets.weight)
        return self._weight * weighted_mean(squares, (weight[:, start] * weight[:, end]).sqrt())
