"""What each loss costs: `python benchmarks/loss_cost.py`."""

from __future__ import annotations

import time

import numpy as np
import torch

import partfit
from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.losses import Likelihood, LossModule

BATCH, LANDMARKS, REPEATS = 32, 1609, 10
NAMES = ("ngll", "laplace", "l1", "l2", "resll", "resll-exp", "vertex-edge")


def step_seconds(module: LossModule, raw: torch.Tensor, targets: LandmarkTargets) -> float:
    """Seconds of one forward and backward pass, the median of `REPEATS`."""
    seconds = []
    for _ in range(REPEATS):
        outputs = raw.clone().requires_grad_()
        start = time.perf_counter()
        scale = outputs[..., 2:]
        log_scale = module.log_scale(scale) if isinstance(module, Likelihood) else scale
        module(LandmarkDistribution(outputs[..., :2], log_scale), targets).backward()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    """Print a line for each loss."""
    torch.manual_seed(0)
    corner = np.arange(LANDMARKS - 41)
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + 40], 1), np.stack([corner + 1, corner + 41, corner + 40], 1)]
    )
    scheme = LandmarkScheme("strip", [f"p{i}" for i in range(LANDMARKS)], triangles=triangles)
    raw, points = torch.randn(BATCH, LANDMARKS, 4), 0.2 * torch.randn(BATCH, LANDMARKS, 2)
    print(f"{BATCH} crops of {LANDMARKS} landmarks, {torch.get_num_threads()} threads: milliseconds")
    for name in NAMES:
        module = partfit.create("loss", name).module(scheme)
        print(f"{name:<12}{1000 * step_seconds(module, raw, LandmarkTargets.of_points(points)):8.1f}")


if __name__ == "__main__":
    main()
