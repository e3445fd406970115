"""What networks are trained with: the interfaces of losses and likelihoods, and the loss of visibility."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partfit.component import Component
from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets


class LossModule(nn.Module, ABC):
    """A loss for one scheme; its parameters, if any, are trained with the network's."""

    @abstractmethod
    def forward(self, distribution: LandmarkDistribution, targets: LandmarkTargets) -> Float[Tensor, ""]:
        """The loss of a batch: a finite scalar, whatever finite numbers come in.

        Landmarks of weight 0 do not matter; a batch without any weight has the loss 0.
        """


class Likelihood(LossModule):
    """A negative log-likelihood of the true positions: it also says what a head's scale outputs mean."""

    @abstractmethod
    def log_scale(self, raw: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """The logarithm of the scale, crop units, of the numbers that a head puts out for it."""

    @abstractmethod
    def deviation(self) -> Float[Tensor, " 2"]:
        """Standard deviation of the residual (x - mean) / scale of each coordinate under the density.

        Scale times this is the standard deviation of the position.
        """


class Loss(Component):
    """A loss, from which `module` makes the part that computes it for a scheme."""

    kind = "loss"

    @abstractmethod
    def module(self, scheme: LandmarkScheme) -> LossModule:
        """The loss for landmarks of a scheme; a `Likelihood` where it is one.

        A likelihood is also built on torch's device `meta`, where tensors have shapes but no values.

        Raises:
            InputError: if the scheme lacks what the loss needs, such as edges.
        """


def weighted_mean(
    values: Float[Tensor, "batch landmarks"], weight: Float[Tensor, "batch landmarks"]
) -> Float[Tensor, ""]:
    """sum(weight * values) / sum(weight) over batch and landmarks; 0 where all weights are 0.

    A value that is not finite does not matter where its weight is 0, nor does its gradient.
    """
    used = weight > 0
    total = (weight * values.masked_fill(~used, 0.0)).sum()
    return total / weight.sum().clamp_min(1e-12)


class VisibilityLoss(Loss):
    """Binary cross-entropy of the visibility, the mean over the landmarks of which it is known."""

    def module(self, scheme: LandmarkScheme) -> LossModule:
        """See `Loss.module`."""
        return _VisibilityModule()


class _VisibilityModule(LossModule):
    def forward(self, distribution: LandmarkDistribution, targets: LandmarkTargets) -> Float[Tensor, ""]:
        if distribution.visibility is None or targets.visible is None:
            return distribution.mean.new_zeros(())
        known = targets.visible.isfinite()
        truth = targets.visible.masked_fill(~known, 0.0)
        entropy = F.binary_cross_entropy_with_logits(distribution.visibility, truth, reduction="none")
        return weighted_mean(entropy, known.to(entropy) * (targets.weight > 0))
