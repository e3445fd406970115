"""What a network says about landmarks, and what it is compared with.

Convention: positions are in crop units: the crop spans [-0.5, 0.5] along x (right) and y (down), so that
pixel p of a crop of R pixels lies at (p + 0.5) / R - 0.5 (thesis section 4.5).
"""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Float
from torch import Tensor


@attrs.frozen(eq=False)
class LandmarkDistribution:
    """A distribution of each landmark's position: x = mean + scale * residual, thesis eq. 3.18.

    Attributes:
        mean: (B, L, 2) positions, crop units.
        log_scale: (B, L, 2) logarithm of the scale of each coordinate, crop units. What the scale is to the
            standard deviation is a matter of the likelihood, see `Likelihood.deviation`.
        visibility: (B, L) logit of the probability that the landmark is in sight; None if not predicted.
        start: (B, N) raw numbers of where the fit of a model may begin, see
            `partfit.learning.start_head.StartHead.prediction`; None if not predicted.
    """

    mean: Float[Tensor, "batch landmarks 2"]
    log_scale: Float[Tensor, "batch landmarks 2"]
    visibility: Float[Tensor, "batch landmarks"] | None = None
    start: Float[Tensor, "batch numbers"] | None = None

    @property
    def scale(self) -> Float[Tensor, "batch landmarks 2"]:
        """(B, L, 2) the scale, crop units, > 0."""
        return self.log_scale.exp()

    @property
    def confidence(self) -> Float[Tensor, "batch landmarks"]:
        """(B, L) in [0, 1]: 1 - scale, clipped, the mean of both coordinates. Source: thesis eq. 3.22."""
        return (1 - self.scale).clamp(0, 1).mean(dim=-1)


@attrs.frozen(eq=False)
class LandmarkTargets:
    """The truth about a batch of crops.

    Attributes:
        points: (B, L, 2) positions, crop units; finite everywhere, 0 where unknown.
        weight: (B, L) >= 0: importance of each landmark; 0 where its position is unknown.
        visible: (B, L) 1 where the landmark is in sight, 0 where it is hidden, NaN where that is unknown;
            None if nothing is known about it.
    """

    points: Float[Tensor, "batch landmarks 2"]
    weight: Float[Tensor, "batch landmarks"]
    visible: Float[Tensor, "batch landmarks"] | None = None

    @classmethod
    def of_points(cls, points: Float[Tensor, "batch landmarks 2"]) -> LandmarkTargets:
        """Targets of equal importance; those that are not finite get weight 0."""
        known = torch.isfinite(points).all(dim=-1)
        return cls(torch.where(known[..., None], points, 0.0), known.to(points))
