"""Negative log-likelihoods of landmark positions: fixed densities, and residual log-likelihood.

Convention: the residual is r = (x - mean) / scale (thesis eq. 3.18). Each loss is -log p(x) of a landmark's
position, both coordinates, in nats with x in crop units and with all constants unless said otherwise; the
loss of a batch is the mean over its landmarks, weighted by their importance. So losses can be compared.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.losses import Likelihood, Loss, weighted_mean
from partfit_likelihoods.densities import DENSITIES, Density, full_precision
from partfit_likelihoods.flow import RealNVP

#: A raw scale output, and so the logarithm of the scale, is free up to +-FREE, and never beyond twice that.
FREE = 10.0
#: Errors count as at most this, crop units, so that their squares over tiny scales stay finite.
FARTHEST = 1e6
#: Points along each axis of the grid on which the deviation of a learned density is computed.
GRID = 241


def soft_bound(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers x as they are where |x| <= FREE; beyond, sign(x) (FREE + e / (1 + e / FREE)), e = |x| - FREE.

    Bounded by 2 FREE, smooth, and of positive slope everywhere: an output that ran away can come back.
    """
    excess = F.relu(x.abs() - FREE)
    return x.clamp(-FREE, FREE) + x.sign() * excess / (1 + excess / FREE)


def position_error(
    distribution: LandmarkDistribution, targets: LandmarkTargets
) -> Float[Tensor, "batch landmarks 2"]:
    """True minus predicted positions, at most `FARTHEST`; 0, without a gradient, where the weight is 0."""
    error = full_precision(targets.points) - full_precision(distribution.mean)
    return error.masked_fill((targets.weight <= 0)[..., None], 0).clamp(-FARTHEST, FARTHEST)


def _residual(
    distribution: LandmarkDistribution, targets: LandmarkTargets
) -> tuple[Float[Tensor, "batch landmarks 2"], Float[Tensor, "batch landmarks 2"]]:
    """Residual r = (x - mean) / scale, and log scale; both 0, without a gradient, where the weight is 0."""
    unused = (targets.weight <= 0)[..., None]
    log_scale = full_precision(distribution.log_scale).masked_fill(unused, 0).clamp(-2 * FREE, 2 * FREE)
    return position_error(distribution, targets) * (-log_scale).exp(), log_scale


class _DensityModule(Likelihood):
    """-log p of a fixed density of the residual: sum over the coordinates of -log p(r) + log scale."""

    def __init__(self, density: Density) -> None:
        super().__init__()
        self._density = density

    def forward(self, distribution: LandmarkDistribution, targets: LandmarkTargets) -> Float[Tensor, ""]:
        r, log_scale = _residual(distribution, targets)
        nats = (log_scale - self._density.log_density(r)).sum(dim=-1)
        return weighted_mean(nats, full_precision(targets.weight))

    def log_scale(self, raw: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        return soft_bound(full_precision(raw))

    def deviation(self) -> Float[Tensor, " 2"]:
        return torch.full((2,), self._density.deviation)


class GaussianLikelihood(Loss):
    """Negative Gaussian log-likelihood (NGLL): sum of r^2 / 2 + log sigma + log(2 pi) / 2.

    The scale is exp(raw): the standard deviation. Source: thesis eq. 3.14, with its constant.
    """

    def module(self, scheme: LandmarkScheme) -> Likelihood:
        """See `Loss.module`."""
        return _DensityModule(DENSITIES["gaussian"])


class LaplaceLikelihood(Loss):
    """Negative Laplace log-likelihood (NLLL): sum of |r| + log sigma + log 2.

    The scale is exp(raw): the mean absolute deviation. The standard deviation is sqrt(2) times that.
    """

    def module(self, scheme: LandmarkScheme) -> Likelihood:
        """See `Loss.module`."""
        return _DensityModule(DENSITIES["laplace"])


class _ConstantModule(_DensityModule):
    """A fixed density of one scale for all landmarks, which the network's scale outputs do not change."""

    def __init__(self, density: Density, scale: float) -> None:
        super().__init__(density)
        self._log_scale = math.log(scale)

    def log_scale(self, raw: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        return torch.full_like(full_precision(raw), self._log_scale)


@attrs.frozen
class _ConstantScale:
    """Options of `L1` and `L2`.

    Attributes:
        scale: The scale of every coordinate, crop units. It scales the loss, and is what the network says its
            scale is; where the loss is least does not depend on it.
    """

    scale: float = attrs.field(default=0.02, validator=attrs.validators.gt(0))


class L2(Loss):
    """Squared error, as the Gaussian log-likelihood of one constant scale (thesis section 3.3.3)."""

    Config = _ConstantScale

    def module(self, scheme: LandmarkScheme) -> Likelihood:
        """See `Loss.module`."""
        return _ConstantModule(DENSITIES["gaussian"], self.config.scale)


class L1(Loss):
    """Absolute error, as the Laplace log-likelihood of one constant scale (thesis section 3.3.3)."""

    Config = _ConstantScale

    def module(self, scheme: LandmarkScheme) -> Likelihood:
        """See `Loss.module`."""
        return _ConstantModule(DENSITIES["laplace"], self.config.scale)


@attrs.frozen
class ResidualConfig:
    """Options of `ResLL` and `ResLLExp`.

    Attributes:
        base: The density Q.
        residual: Whether the density of the residual is Q G, G being the flow's with a normal base; otherwise
            it is the flow's alone, with the base Q.
        counting: `thesis` counts each term once, as eq. 3.21. `rle` counts as the published code of residual
            log-likelihood estimation does: -log G once for each coordinate, that is twice a landmark, and log
            sigma once with G and once with Q.
        layers: Coupling layers of the flow.
        hidden: Width of their networks.
    """

    base: Literal["gaussian", "laplace"] = "laplace"
    residual: bool = True
    counting: Literal["thesis", "rle"] = "thesis"
    layers: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    hidden: int = attrs.field(default=64, validator=attrs.validators.ge(1))


class ResidualModule(Likelihood):
    """Residual log-likelihood: -log Q(r) - log G(r) + sum of log sigma, with one flow for all landmarks.

    Attributes:
        flow: The flow of which G is the density.
    """

    def __init__(self, config: ResidualConfig) -> None:
        """Build it with a flow that is the identity."""
        super().__init__()
        self._config = config
        self._q = DENSITIES[config.base]
        self._flow_base = DENSITIES["gaussian"] if config.residual else self._q
        self.flow = RealNVP(config.layers, config.hidden)
        twice = config.counting == "rle"
        self._flow_count = 2 if twice else 1
        self._scale_count = 2 if twice and config.residual else 1

    def forward(self, distribution: LandmarkDistribution, targets: LandmarkTargets) -> Float[Tensor, ""]:
        """See `LossModule.forward`."""
        r, log_scale = _residual(distribution, targets)
        energy = self._energy(r, self.log_g(r.reshape(-1, 2)).reshape(r.shape[:-1]))
        nats = energy + self._scale_count * log_scale.sum(dim=-1)
        return weighted_mean(nats, full_precision(targets.weight))

    def log_g(self, r: Float[Tensor, "points 2"]) -> Float[Tensor, " points"]:
        """Density of the flow: log G(r) = log base(f^-1(r)) + log |det df^-1/dr|. Source: thesis eq. 3.15."""
        z, log_det = self.flow.inverse(r)
        return self._flow_base.log_density(z).sum(dim=-1) + log_det

    def deviation(self) -> Float[Tensor, " 2"]:
        """See `Likelihood.deviation`: that of the density proportional to exp(-loss) as a function of r.

        With the counting of the thesis that is Q G, made to integrate to 1. Computed by quadrature on a fixed
        grid of the flow's base variable z, which in r is dense where G is.
        """
        reach = self._flow_base.reach
        with torch.no_grad():
            axis = torch.linspace(-reach, reach, GRID, device=next(self.parameters()).device)
            z = torch.cartesian_prod(axis, axis)
            r, log_det = self.flow(z)
            log_g = self._flow_base.log_density(z).sum(dim=-1) - log_det
            log_density = -self._energy(r, log_g) / self._scale_count
            weight = torch.softmax(log_density + log_det, dim=0)[:, None]  # dr = exp(log_det) dz
            mean = (weight * r).sum(dim=0)
            return (weight * (r - mean).square()).sum(dim=0).sqrt()

    def _energy(
        self, r: Float[Tensor, "*shape 2"], log_g: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """What the loss counts of the densities at r, without the scale."""
        energy = -self._flow_count * log_g
        return energy - self._q.log_density(r).sum(dim=-1) if self._config.residual else energy


class _SigmoidResidualModule(ResidualModule):
    def log_scale(self, raw: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        return F.logsigmoid(soft_bound(full_precision(raw)))


class _ExponentialResidualModule(ResidualModule):
    def log_scale(self, raw: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        return soft_bound(full_precision(raw))


class ResLL(Loss):
    """Residual log-likelihood with the scale sigmoid(raw), at most the crop. Source: thesis eq. 3.21."""

    Config = ResidualConfig

    def module(self, scheme: LandmarkScheme) -> ResidualModule:
        """See `Loss.module`."""
        return _SigmoidResidualModule(self.config)


class ResLLExp(Loss):
    """Residual log-likelihood with the scale exp(raw). Source: thesis section 3.3.3, ResLL Exp."""

    Config = ResidualConfig

    def module(self, scheme: LandmarkScheme) -> ResidualModule:
        """See `Loss.module`."""
        return _ExponentialResidualModule(self.config)
