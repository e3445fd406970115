"""Parameter groups and their priors."""

import numpy as np

from partfit.models import ParameterGroup


def test_samples_have_the_moments_of_the_prior():
    root = np.array([[2.0, 0.5], [0.0, 4.0], [1.0, -1.0]])
    group = ParameterGroup("pose", 2, prior_mean=[0.3, -0.2], sqrt_information=root)
    drawn = group.sample(np.random.default_rng(0), 100_000)
    assert np.allclose(drawn.mean(axis=0), [0.3, -0.2], atol=0.01)
    assert np.allclose(np.cov(drawn.T), np.linalg.inv(group.information), atol=0.005)
    half = group.sample(np.random.default_rng(0), 100_000, spread=0.5)
    assert np.allclose(np.cov(half.T), np.linalg.inv(group.information) / 4, atol=0.002)


def test_samples_keep_to_limits_and_to_the_mean_without_a_prior():
    group = ParameterGroup(
        "a", 3, prior_mean=[0.5, 2.0, 0.0], sqrt_information=[1.0, 0.0, 0.1], lower=[0, -np.inf, -1.0]
    )
    drawn = group.sample(np.random.default_rng(1), 1000)
    assert drawn[:, 0].min() == 0
    assert (drawn[:, 1] == 2.0).all()
    assert drawn[:, 2].min() == -1.0
    assert drawn[:, 2].max() > 5
    assert (group.sample(np.random.default_rng(1), 4, spread=0.0) == [0.5, 2.0, 0.0]).all()
