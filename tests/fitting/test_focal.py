"""The focal length as a parameter of a fit."""

import attrs
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from partfit.errors import InputError
from partfit.fitting import Backward, FitStatus, LevenbergMarquardt
from partfit.fitting.objective import Objective
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model()
EMBEDDING = synthetic_embedding(MODEL, 120)
FITTER = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-12))


def problem(batch=3, wrong=1.3, deviation=0.3, noise_px=0.2, **changes):
    """Fits whose camera says `wrong` times the focal length by which the landmarks were made."""
    made, truth = synthetic_problem(MODEL, EMBEDDING, batch, noise_px=noise_px)
    first, last = made.stages
    camera = attrs.evolve(made.camera, focal=wrong * made.camera.focal)
    stages = (first, attrs.evolve(last, focal=True, iterations=60))
    given = attrs.evolve(made, camera=camera, stages=stages, focal_deviation=deviation, **changes)
    return given, truth, made.camera.focal


def test_gradient_and_matrix_are_those_of_the_cost():
    p, truth, focal = problem(batch=1)
    state = p.state(truth, focal)
    objective = Objective(p, p.stages[-1])
    equations = objective.normal_equations(objective.evaluate(state))
    gradient = torch.func.jacrev(lambda s: objective.evaluate(s).cost.sum())(state)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-8, atol=1e-8)

    def residuals(s):
        return objective.evaluate(s[None]).residuals[0].flatten()

    J = torch.func.jacrev(residuals)(state[0])
    expected = J.T @ J + objective.information
    torch.testing.assert_close(equations.hessian[0], expected, rtol=1e-8, atol=1e-8)


def test_the_minimum_is_the_one_scipy_finds():
    p, _, _ = problem(batch=1)
    result = FITTER.fit(p)
    objective = Objective(p, p.stages[-1])
    root = np.linalg.cholesky(objective.information.numpy() + 1e-12 * np.eye(MODEL.n_parameters + 1)).T

    def residuals(s):
        state = torch.as_tensor(s)[None]
        data = objective.evaluate(state).residuals[0].flatten().numpy()
        return np.concatenate([data, root @ (s - objective.mean.numpy())])

    found = p.state(result.x, result.focal)[0].numpy()
    other = least_squares(residuals, found + 1e-3, xtol=1e-15, ftol=1e-15, gtol=1e-12)
    assert result.cost.item() == pytest.approx(other.cost, rel=1e-6)
    assert result.focal.item() == pytest.approx(p.camera.focal.item() * np.exp(other.x[-1]), rel=1e-4)


def test_estimating_it_brings_a_wrong_focal_length_and_the_distance_nearer():
    p, truth, focal = problem(batch=8)
    known = attrs.evolve(p, stages=[attrs.evolve(s, focal=False) for s in p.stages], focal_deviation=0.0)
    free, fixed = FITTER.fit(p), FITTER.fit(known)
    assert set(free.status) == {FitStatus.CONVERGED}
    depth = truth[:, -1]

    def off(result):
        return (result.x[:, -1] / depth).log().abs().median()

    assert (free.focal / focal).log().abs().median() < 0.5 * np.log(1.3)
    assert off(free) < 0.7 * off(fixed)
    assert (free.cost < fixed.cost).all()
    torch.testing.assert_close(free.camera.focal, free.focal)
    assert fixed.focal is None
    torch.testing.assert_close(fixed.camera.focal, p.camera.focal)


def test_a_narrow_prior_keeps_it():
    p, _, _ = problem(deviation=1e-6)
    torch.testing.assert_close(FITTER.fit(p).focal, p.camera.focal, rtol=1e-5, atol=0)


def test_projections_are_those_of_the_estimated_camera():
    p, _, _ = problem()
    result = FITTER.fit(p)
    away = (result.projected() - p.points).square().sum(-1).mean(1).sqrt()
    torch.testing.assert_close(away, result.rms_px, rtol=1e-9, atol=1e-12)


def test_covariance_tells_how_well_it_is_known():
    """Its deviations cover its errors, and are below the prior's."""
    p, _, focal = problem(batch=40, wrong=1.0)
    deviation = FITTER.fit(p).covariance()[:, -1, -1].sqrt()
    assert (deviation < 0.3).all()
    z = (FITTER.fit(p).focal / focal).log() / deviation
    assert 0.6 < z.square().mean().sqrt() < 1.4


@pytest.mark.parametrize("backward", [Backward(), Backward("unrolled", steps=3, damping=0.1)])
def test_gradients_reach_it_and_pass_through_it(backward):
    p, truth, _ = problem(batch=2)
    p = attrs.evolve(p, start=truth)  # unrolled steps depend on it
    direction = torch.as_tensor(np.random.default_rng(0).normal(size=p.points.shape))

    def loss(points):
        result = FITTER.fit_with_gradients(attrs.evolve(p, points=points), backward)
        return result.focal.sum() / 100 + result.x.sum()

    points = p.points.clone().requires_grad_()
    loss(points).backward()
    with torch.no_grad():
        numeric = (loss(p.points + 1e-3 * direction) - loss(p.points - 1e-3 * direction)) / 2e-3
    assert (points.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-5)


def test_freeing_it_without_a_prior_is_refused():
    p, _, _ = problem()
    with pytest.raises(InputError, match="focal_deviation > 0"):
        attrs.evolve(p, focal_deviation=0.0)
