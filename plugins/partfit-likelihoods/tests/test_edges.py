"""The vertex-edge loss, against a plain loop."""

import numpy as np
import pytest
import torch

import partfit
from partfit.errors import InputError
from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit_likelihoods.edges import scheme_edges

TRIANGLES = np.array([[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5]])
EDGES = {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5)}
NAMES = [f"p{i}" for i in range(7)]
STRIP = LandmarkScheme("strip", NAMES, triangles=TRIANGLES, edges=[[0, 6]])


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    points, mean = torch.randn(2, 3, 7, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(3, 7, generator=generator, dtype=torch.float64)
    weight[0, 2] = weight[2, 5] = 0
    return LandmarkDistribution(mean, torch.zeros_like(mean)), LandmarkTargets(points, weight)


def looped(distribution, targets, edges, factor):
    total = weights = 0.0
    for mean, points, weight in zip(distribution.mean, targets.points, targets.weight, strict=True):
        for i, j in edges:
            if weight[i] > 0 and weight[j] > 0:
                error = (mean[j] - mean[i]) - (points[j] - points[i])
                total += (weight[i] * weight[j]) ** 0.5 * (error**2).sum()
                weights += (weight[i] * weight[j]) ** 0.5
    return factor * total / weights


def test_edges_are_those_of_the_triangles_each_once():
    assert {tuple(edge) for edge in scheme_edges(STRIP).tolist()} == EDGES
    assert len(scheme_edges(STRIP)) == len(EDGES)


def test_drawn_edges_serve_where_there_are_no_triangles():
    scheme = LandmarkScheme("lines", NAMES, edges=[[3, 1], [1, 3], [5, 6], [2, 2]])
    assert scheme_edges(scheme).tolist() == [[1, 3], [5, 6]]


def test_a_scheme_without_edges_is_an_error():
    with pytest.raises(InputError, match="expected a scheme with triangles or edges, found 'dots'"):
        partfit.create("loss", "vertex-edge").module(LandmarkScheme("dots", NAMES))


def test_it_is_the_mean_over_edges_of_both_ends():
    distribution, targets = case()
    module = partfit.create("loss", "vertex-edge", weight=30.0).module(STRIP)
    torch.testing.assert_close(module(distribution, targets), looped(distribution, targets, EDGES, 30.0))


def test_a_shift_of_all_landmarks_costs_nothing():
    _, targets = case()
    shifted = LandmarkDistribution(targets.points + 0.3, torch.zeros_like(targets.points))
    assert partfit.create("loss", "vertex-edge").module(STRIP)(shifted, targets) < 1e-20


def test_the_order_of_landmarks_does_not_matter():
    distribution, targets = case()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    permuted = LandmarkScheme("permuted", NAMES, triangles=torch.argsort(order).numpy()[TRIANGLES])
    other = LandmarkDistribution(distribution.mean[:, order], distribution.log_scale[:, order])
    moved = LandmarkTargets(targets.points[:, order], targets.weight[:, order])
    loss = partfit.create("loss", "vertex-edge")
    torch.testing.assert_close(loss.module(permuted)(other, moved), loss.module(STRIP)(distribution, targets))


def test_its_size_is_that_of_a_likelihood():
    """Independent errors of 4 pixels of 256 cost about what a calibrated Gaussian counts: 1 nat."""
    points = torch.zeros(200, 7, 2)
    error = 4 / 256 * torch.randn(200, 7, 2, generator=torch.Generator().manual_seed(0))
    targets = LandmarkTargets(points, torch.ones(200, 7))
    module = partfit.create("loss", "vertex-edge").module(STRIP)
    loss = module(LandmarkDistribution(error, torch.zeros_like(error)), targets)
    squares = (error / (4 / 256)).square().sum(dim=-1).mean() / 2
    assert loss.item() == pytest.approx(squares.item(), rel=0.1)
