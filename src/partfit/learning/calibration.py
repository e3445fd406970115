"""Calibration: factors that make standard deviations of what a network predicts, found on held-out samples.

A scale is ideal if the errors over it have the root mean square 1: it then is the standard deviation that a
`Detection` promises. Networks are too sure of themselves on samples that they were not trained on, and more
so where a landmark is hidden, so landmarks in sight and hidden ones have factors of their own:

    variance = p (f_visible s)^2 + (1 - p) (f_hidden s)^2,    s = scale * deviation of the likelihood,

p being the predicted probability that the landmark is in sight. A network that predicts none has one factor.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.arrays import pair_of_floats
from partfit.errors import ConfigError, InputError
from partfit.fitting.uncertainty import inflation_factor
from partfit.learning.batches import Batch
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.networks import LandmarkNetwork

#: With fewer hidden landmarks than this, a factor of their own would be noise.
_LEAST_HIDDEN = 100


@attrs.frozen
class Calibration:
    """What makes standard deviations of predicted scales; by default they are taken as they are.

    Attributes:
        visible: Factors on the scales of x and y of a landmark in sight.
        hidden: The same of a hidden landmark.
        usual: The typical standard deviation in a crop that shows the part, crop units: the median over the
            crops of the median over the landmarks. None if it was never measured.
        inflation: Of the calibrated errors, see `partfit.fitting.uncertainty.inflation_factor`.
    """

    visible: tuple[float, float] = attrs.field(default=(1.0, 1.0), converter=pair_of_floats)
    hidden: tuple[float, float] = attrs.field(default=(1.0, 1.0), converter=pair_of_floats)
    usual: float | None = None
    inflation: float = 1.0

    def __attrs_post_init__(self) -> None:
        numbers = [*self.visible, *self.hidden, 1.0 if self.usual is None else self.usual, self.inflation]
        if not all(0 < number < float("inf") for number in numbers):
            raise ConfigError(f"calibration: expected finite factors above 0, found {self}.")

    def deviation(
        self, distribution: LandmarkDistribution, residual: Float[Tensor, " 2"]
    ) -> Float[Tensor, "batch landmarks 2"]:
        """The standard deviation of each coordinate of what a network predicted, crop units.

        Args:
            distribution: What it predicted.
            residual: `deviation()` of its likelihood, which is slow to compute for some: do so once.
        """
        s = distribution.scale * residual.to(distribution.scale)
        if distribution.visibility is None:
            return s * s.new_tensor(self.visible)
        p = distribution.visibility.sigmoid()[..., None]
        squares = p * s.new_tensor(self.visible) ** 2 + (1 - p) * s.new_tensor(self.hidden) ** 2
        return s * squares.sqrt()


@torch.no_grad()
def calibrate(network: LandmarkNetwork, batches: Iterable[Batch]) -> Calibration:
    """The calibration that is ideal on some held-out samples, as far as factors can make it.

    Each factor is the root mean square of error over standard deviation: of x and of y, of the landmarks in
    sight and of the hidden ones, weighted by their importance. Where visibility is predicted, all factors are
    then scaled alike, for x and for y, so that the ratio is 1 over all landmarks together.

    Args:
        network: In evaluation mode afterwards as before.
        batches: Of samples that it was not trained on, cropped as in use, on the network's device.

    Raises:
        InputError: if there is no landmark whose place is known, or the network's errors are not finite.
    """
    training = network.training
    network.eval()
    try:
        seen = [(network(batch.images), batch.targets) for batch in batches]
    finally:
        network.train(training)
    if not any((targets.weight > 0).any() for _, targets in seen):
        raise InputError("Calibration needs landmarks whose places are known, found none.")
    factors, residual = Calibration(), network.likelihood.deviation()
    if all(distribution.visibility is not None for distribution, _ in seen):
        visible, n_visible = _ratio(residual, factors, seen, 1.0)
        hidden, n_hidden = _ratio(residual, factors, seen, 0.0)
        if n_visible >= _LEAST_HIDDEN and n_hidden >= _LEAST_HIDDEN:
            factors = Calibration(pair_of_floats(visible), pair_of_floats(hidden))
    overall = _ratio(residual, factors, seen)[0]
    visible, hidden = (overall.cpu() * torch.tensor(pair) for pair in (factors.visible, factors.hidden))
    factors = Calibration(pair_of_floats(visible), pair_of_floats(hidden))
    deviations = [factors.deviation(distribution, residual) for distribution, _ in seen]
    typical = torch.cat([deviation.flatten(1).median(dim=1)[0] for deviation in deviations])
    z = [
        ((targets.points - distribution.mean) / deviation).masked_fill(
            targets.weight[..., None] <= 0, torch.nan
        )
        for (distribution, targets), deviation in zip(seen, deviations, strict=True)
    ]
    inflation = max(inflation_factor(torch.cat(z).cpu().double().numpy()), 1e-6)
    return attrs.evolve(factors, usual=float(typical.median()), inflation=inflation)


def _ratio(
    residual: Float[Tensor, " 2"],
    calibration: Calibration,
    seen: Iterable[tuple[LandmarkDistribution, LandmarkTargets]],
    visible: float | None = None,
) -> tuple[Float[Tensor, " 2"], int]:
    """Root mean square of error over deviation of x and y, and of how many landmarks it is.

    Args:
        residual: See `Calibration.deviation`.
        calibration: Of the scales.
        seen: What was predicted, and the truth.
        visible: If given, only the landmarks whose visibility is known to be this.
    """
    total, weights, count = torch.zeros(2, dtype=torch.float64), 0.0, 0
    for distribution, targets in seen:
        weight = targets.weight
        if visible is not None:
            weight = weight * 0 if targets.visible is None else weight * (targets.visible == visible)
        z = (targets.points - distribution.mean) / calibration.deviation(distribution, residual)
        squares = (z.masked_fill(weight[..., None] <= 0, 0.0) ** 2 * weight[..., None]).double()
        total += squares.sum(dim=(0, 1)).cpu()
        weights += float(weight.sum(dtype=torch.float64))
        count += int((weight > 0).sum())
    if not torch.isfinite(total).all():
        raise InputError("Calibration needs finite predictions, found NaN or infinity.")
    # exact predictions, as of a toy, leave nothing to calibrate
    return (total / max(weights, 1e-12)).sqrt().clamp_min(1e-6), count
