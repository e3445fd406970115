"""How good a network's landmarks, scales and visibilities are on labelled crops."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from torch import Tensor

from partfit.learning.batches import Batch
from partfit.learning.calibration import Calibration
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.networks import LandmarkNetwork

#: Median of |z| of a standard normal variable z.
_NORMAL_MEDIAN = 0.6744897501960817


@torch.no_grad()
def evaluate(
    network: LandmarkNetwork, batches: Iterable[Batch], calibration: Calibration | None = None
) -> dict[str, float]:
    """Means over the landmarks of all crops, those of weight 0 left out; the network sees them as in use.

    - `error_px`: mean distance to the truth, crop pixels (MLME, thesis eq. 4.1).
    - `error_box`: the same in units of the box's size, the root of its width times its height.
    - `nll`: the likelihood's loss, in nats a landmark, as it states it.
    - `rms_z`, `robust_z`: of z = error / standard deviation of each coordinate (as predicted, or calibrated),
      the root mean square, and the median of |z| over that of a normal variable. Both are 1 where the scales
      are right; the second is less than the first where a few errors are far greater than their scales say.
    - `visibility_auc`: the area under the ROC curve of the predicted visibility among the landmarks of one
      crop, averaged over crops with both visible and hidden ones. If visibility is predicted and known.

    Args:
        network: In training mode afterwards as before.
        batches: At least one, with a landmark whose place is known.
        calibration: Of the scales.
    """
    calibration = calibration or Calibration()
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    residual = network.likelihood.deviation()
    sums = torch.zeros(4, dtype=torch.float64)
    z: list[np.ndarray] = []
    areas: list[float] = []
    for batch in batches:
        batch = batch.to(device)
        distribution = network(batch.images)
        sums += _sums(network, batch, distribution).cpu()
        deviation = calibration.deviation(distribution, residual)
        errors = (batch.targets.points - distribution.mean) / deviation
        z.append(errors[batch.targets.weight > 0].flatten().cpu().double().numpy())
        areas += visibility_areas(distribution, batch.targets)
    network.train(was_training)
    weight, error_px, error_box, nll = sums.tolist()
    every_z = np.concatenate(z)
    values = {
        "error_px": error_px / weight,
        "error_box": error_box / weight,
        "nll": nll / weight,
        "rms_z": float(np.sqrt(np.mean(every_z**2))),
        "robust_z": float(np.median(np.abs(every_z))) / _NORMAL_MEDIAN,
    }
    return values | ({"visibility_auc": float(np.mean(areas))} if areas else {})


def _sums(network: LandmarkNetwork, batch: Batch, distribution: LandmarkDistribution) -> Float[Tensor, " 4"]:
    """Of a batch the total weight, and times it the mean errors (crop pixels, box sizes) and likelihood."""
    targets = batch.targets
    distance = (distribution.mean - targets.points).norm(dim=-1)
    width, height = (batch.boxes[:, 2:] - batch.boxes[:, :2]).unbind(dim=1)
    sides = torch.linalg.det(batch.matrix[:, :, :2]).abs().sqrt() / (width * height).sqrt()
    total = targets.weight.sum()
    nll = network.likelihood(distribution, targets) * total
    error = (targets.weight * distance).sum(dim=1)
    resolution = batch.images.shape[-1]
    return torch.stack([total, error.sum() * resolution, (error * sides).sum(), nll]).double()


def visibility_areas(distribution: LandmarkDistribution, targets: LandmarkTargets) -> list[float]:
    """The area under the ROC curve of visibility in each crop that has visible and hidden landmarks."""
    if distribution.visibility is None or targets.visible is None:
        return []
    areas = []
    for scores, truth in zip(
        distribution.visibility.cpu().numpy(), targets.visible.cpu().numpy(), strict=True
    ):
        known = np.isfinite(truth)
        visible = truth[known] > 0.5
        if 0 < visible.sum() < len(visible):
            areas.append(area_under_curve(scores[known], visible))
    return areas


def area_under_curve(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """The probability that a random positive has a higher score than a random negative; ties count half."""
    n_positive, n = int(positive.sum()), len(positive)
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * (n - n_positive)))
