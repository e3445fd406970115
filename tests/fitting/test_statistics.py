"""Whether covariances hold over problems drawn from the prior, and whether errors respect the bound.

Few problems by default, so that the bounds are those of chance: 3.5 standard errors and what curvature adds.
The standard error of a ratio is that between items; that of a coverage at most sqrt(0.9 0.1 / n) of n items,
as if all coordinates of an item were covered together. The slow test has fixed and narrow bounds; where one
coordinate is a group of its own, twice as many problems, since 2 % are two standard errors of 1000.
"""

import attrs
import pytest
import torch

from partfit.fitting import FitStatus, LevenbergMarquardt
from partfit.fitting.uncertainty import landmark_covariance, vertex_covariance
from partfit.testing.drawn import calibration, drawn_problem
from partfit.testing.synthetic import synthetic_embedding, synthetic_model

MODEL = synthetic_model(120)
EMBEDDING = synthetic_embedding(MODEL, 80)
FITTER = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-8))


class Sample:
    """Fits of drawn problems, and all that is known about their errors."""

    def __init__(self, batch, focal_deviation):
        self.drawn = drawn_problem(MODEL, EMBEDDING, batch, focal_deviation=focal_deviation)
        self.result = FITTER.fit(self.drawn.problem)
        assert set(self.result.status) == {FitStatus.CONVERGED}
        self.errors, self.covariance = self.drawn.errors(self.result), self.result.covariance()

    def groups(self):
        """Errors and covariances of each parameter group."""
        for name, where in self.drawn.names.items():
            yield name, self.errors[:, where], self.covariance[:, where, where]

    def points(self):
        """Those of the vertices, in both frames, and of the landmarks."""
        x, true = self.result.x, self.drawn.problem.split(self.drawn.states)[0]
        own = [MODEL.vertices(MODEL.without_rigid_motion(v)) for v in (x, true)]
        yield "vertices", MODEL.vertices(x) - MODEL.vertices(true), vertex_covariance(self.result)
        yield "shape", own[0] - own[1], vertex_covariance(self.result, frame="model")
        exact = self.drawn.projected(self.drawn.states)
        yield "landmarks", self.result.projected() - exact, landmark_covariance(self.result)


@pytest.mark.parametrize("focal_deviation", [0.0, 0.1])
def test_covariances_hold_up_to_chance(focal_deviation):
    sample = Sample(150, focal_deviation)
    chance = 3.5 * (0.9 * 0.1 / 150) ** 0.5
    for name, errors, covariances in [*sample.groups(), *sample.points()]:
        found = calibration(errors, covariances)
        assert abs(found.ratio - 1) < 0.05 + 3.5 * found.ratio_error, name
        assert abs(found.coverage - 0.9) < 0.01 + chance, name


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "focal_deviation"), [(1000, 0.0), (2000, 0.1)])
def test_covariances_hold(batch, focal_deviation):
    sample = Sample(batch, focal_deviation)
    whole = calibration(sample.errors, sample.covariance)
    assert 0.9 < whole.ratio < 1.1
    for name, errors, covariances in [*sample.groups(), *sample.points()]:
        found = calibration(errors, covariances)
        assert 0.9 < found.ratio < 1.1, name
        assert 0.88 < found.coverage < 0.92, name


@pytest.mark.parametrize("focal_deviation", [0.0, 0.1])
def test_no_error_is_below_the_van_trees_bound(focal_deviation):
    """Beyond chance. It is well below what the prior alone says, so that this means something."""
    sample = Sample(150, focal_deviation)
    bound = sample.drawn.van_trees_bound().diagonal()
    assert (bound * sample.drawn.information.diagonal() < 0.6).all()
    for name, where in sample.drawn.names.items():
        square = sample.errors[:, where].square().sum(1)
        chance = 3.5 * square.std() / len(square) ** 0.5
        assert square.mean() > bound[where].sum() - chance, name


def test_the_bound_is_that_of_a_linear_problem():
    """With next to nothing to know but one coefficient, that the landmarks tell linearly."""
    drawn = drawn_problem(MODEL, EMBEDDING, 2)
    tight = drawn.information + 1e12 * torch.eye(len(drawn.information), dtype=torch.float64)
    tight[0, 0] = 1.0
    step = torch.zeros(MODEL.n_parameters, dtype=torch.float64)
    step[0] = 1e-4
    moved = (drawn.projected(drawn.states + step) - drawn.projected(drawn.states)) / 1e-4 / 0.5
    expected = 1 / (1 + moved.square().sum() / 2)
    bound = attrs.evolve(drawn, information=tight).van_trees_bound()[0, 0]
    torch.testing.assert_close(bound, expected, rtol=1e-4, atol=0)


def test_covariances_that_are_too_small_are_found_out():
    sample = Sample(150, 0.0)
    found = calibration(sample.errors, sample.covariance / 2)
    assert found.ratio > 1.5
    assert found.coverage < 0.8
