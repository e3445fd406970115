"""Covariances of vertices and landmarks, against sampling, and against fits to repeated noise."""

import attrs
import numpy as np
import pytest
import torch

from partfit.fitting import LevenbergMarquardt
from partfit.fitting.uncertainty import (
    deviation,
    inflation_factor,
    landmark_covariance,
    unobservable_names,
    vertex_covariance,
)
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model(120)
EMBEDDING = synthetic_embedding(MODEL, 60)
FITTER = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-10))


def fitted(batch=2, focal=False, **options):
    problem, _ = synthetic_problem(MODEL, EMBEDDING, batch, noise_px=0.5, **options)
    first, last = problem.stages
    if focal:
        problem = attrs.evolve(problem, stages=(first, attrs.evolve(last, focal=True)), focal_deviation=0.1)
    return FITTER.fit(problem)


def sampled(result, item, count=4000):
    """States of an item drawn from the covariance of its parameters, so near that all is linear."""
    small = 1e-3
    covariance = result.covariance()[item].double()
    rng = np.random.default_rng(3)
    draws = rng.multivariate_normal(np.zeros(len(covariance)), covariance.numpy(), count, method="cholesky")
    state = result.problem.state(result.x, result.focal)[item].repeat(count, 1)
    return state + small * torch.as_tensor(draws), small


@pytest.mark.parametrize("focal", [False, True])
def test_vertices_spread_as_their_covariance_says(focal):
    result = fitted(focal=focal)
    states, small = sampled(result, 1)
    x, _ = result.problem.split(states) if not focal else (states[:, :-1], None)
    vertices = MODEL.vertices(x) / small
    expected = vertices.std(dim=0).square().sum(-1).sqrt()
    found = deviation(vertex_covariance(result))[1]
    torch.testing.assert_close(found, expected, rtol=0.06, atol=0)


def test_in_the_frame_of_the_model_the_rigid_motion_does_not_count():
    result = fitted()
    states, small = sampled(result, 0)
    shapes = MODEL.vertices(MODEL.without_rigid_motion(states)) / small
    found = deviation(vertex_covariance(result, frame="model"))[0]
    torch.testing.assert_close(found, shapes.std(dim=0).square().sum(-1).sqrt(), rtol=0.06, atol=0)
    assert (found < deviation(vertex_covariance(result))[0]).all()


@pytest.mark.parametrize("focal", [False, True])
def test_landmarks_spread_as_their_covariance_says(focal):
    result = fitted(focal=focal)
    states, small = sampled(result, 1)
    x = states[:, : MODEL.n_parameters]
    camera = result.camera.select([1] * len(x))
    if focal:
        camera = attrs.evolve(camera, focal=result.problem.camera.focal[1] * states[:, -1].exp())
    points = camera.project(MODEL.landmarks(EMBEDDING, x).points(x)) / small
    expected = torch.stack([torch.cov(points[:, k].T) for k in range(60)])
    found = landmark_covariance(result)[1]
    assert (found - expected).norm() < 0.06 * expected.norm()


def test_fitted_landmarks_are_nearer_to_the_truth_than_given_ones_and_by_as_much_as_stated():
    """Over 60 items: errors of the fitted landmarks over their deviations, whose ideal is 1."""
    problem, truth = synthetic_problem(MODEL, EMBEDDING, 60, noise_px=0.5)
    result = FITTER.fit(problem)
    exact = problem.camera.project(MODEL.landmarks(EMBEDDING, truth).points(truth))
    spread = deviation(landmark_covariance(result))
    assert spread.max() < 0.5 * 2**0.5
    error = (result.projected() - exact).norm(dim=-1)
    assert 0.85 < (error / spread).square().mean().sqrt() < 1.15


def test_inflation_makes_what_landmarks_tell_less():
    result = fitted()
    one, nine = (deviation(vertex_covariance(result, inflation)) for inflation in (1.0, 9.0))
    assert (nine > one).all()
    assert (nine <= 3 * one + 1e-12).all()


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_the_inflation_factor_of_equally_correlated_errors(shared):
    """Errors with the correlation c between any two: 1 + (L - 1) c."""
    rng = np.random.default_rng(0)
    n, L = 4000, 25
    errors = shared**0.5 * rng.normal(size=(n, 1, 2)) + (1 - shared) ** 0.5 * rng.normal(size=(n, L, 2))
    assert inflation_factor(errors) == pytest.approx(1 + (L - 1) * shared, rel=0.06)
    errors[:, 0] = np.nan
    assert inflation_factor(errors) == pytest.approx(1 + (L - 2) * shared, rel=0.06)


def test_the_inflation_factor_counts_scales_that_are_too_small():
    errors = 2 * np.random.default_rng(0).normal(size=(4000, 10, 2))
    assert inflation_factor(errors) == pytest.approx(4, rel=0.06)


def test_what_cannot_be_seen_is_named():
    """With a few landmarks on one spot of the model hardly any coefficient is told."""
    problem, _ = synthetic_problem(MODEL, EMBEDDING, 1, noise_px=0.5)
    points = problem.points.clone()
    points[:, 8:] = torch.nan
    (names,) = unobservable_names(FITTER.fit(attrs.evolve(problem, points=points)))
    assert len(names) > 5
    assert any("expression[" in name or "betas[" in name for name in names)
    (few,) = unobservable_names(fitted(1))
    assert len(few) < len(names)


def test_a_failed_item_has_no_covariance():
    problem, _ = synthetic_problem(MODEL, EMBEDDING, 2, noise_px=0.5)
    points = problem.points.clone()
    points[0] = torch.nan
    result = FITTER.fit(attrs.evolve(problem, points=points))
    for covariance in (vertex_covariance(result), landmark_covariance(result)):
        assert covariance[0].isnan().all()
        assert torch.isfinite(covariance[1]).all()
