"""Fits that start in closed form reach the minimum that fits from the truth reach."""

import attrs
import numpy as np
import pytest
import torch

from partfit.fitting import LevenbergMarquardt, Stage
from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model(300, 20, 10)
EMBEDDING = synthetic_embedding(MODEL, 120)
ALL = tuple(MODEL.slices)
BATCH = 40
FITTER = LevenbergMarquardt()


def posed(yaw, kernel="none"):
    """Problems of heads turned by a yaw, degrees, to either side and by any angle in the picture."""
    problem, truth = synthetic_problem(MODEL, EMBEDDING, BATCH, max_angle=0.2, seed=yaw)
    rng = np.random.default_rng(yaw)
    side = np.radians(yaw) * rng.choice([-1.0, 1.0], size=BATCH)
    roll = rng.uniform(-np.pi, np.pi, size=BATCH)
    side, roll = (
        rotvec_to_matrix(torch.as_tensor(np.outer(a, e))) for a, e in ((side, [0, 1, 0]), (roll, [0, 0, 1]))
    )
    where = MODEL.slices["global_orient"]
    before = MODEL.landmarks(EMBEDDING, truth).points(truth).mean(1)
    truth[:, where] = matrix_to_rotvec(roll @ rotvec_to_matrix(truth[:, where]) @ side)
    truth[:, MODEL.slices["transl"]] += before - MODEL.landmarks(EMBEDDING, truth).points(truth).mean(1)
    exact = problem.camera.project(MODEL.landmarks(EMBEDDING, truth).points(truth))
    points = exact + 0.5 * torch.as_tensor(rng.normal(size=exact.shape))
    stages = (Stage(("global_orient", "transl"), 10, kernel), Stage(ALL, 30, kernel))
    scale = torch.full_like(points, 0.5)
    return attrs.evolve(problem, points=points, scale=scale, stages=stages), truth, exact, rng


def reached(problem, truth):
    """The fit, and which items cost at most 0.1 % more than where they end that start from the truth."""
    result, best = FITTER.fit(problem), FITTER.fit(attrs.evolve(problem, start=truth))
    return result, result.cost <= 1.001 * best.cost


@pytest.mark.parametrize("yaw", [0, 30, 60, 75])
def test_any_turn(yaw):
    problem, truth, _, _ = posed(yaw)
    assert reached(problem, truth)[1].all()


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "geman_mcclure"])
def test_a_third_of_gross_outliers(kernel):
    problem, truth, exact, rng = posed(45, kernel)
    lost = torch.as_tensor(rng.random(exact.shape[:2]) < 0.3)
    anywhere = torch.as_tensor(rng.uniform(0, 256, size=exact.shape))
    result, there = reached(
        attrs.evolve(problem, points=anywhere.where(lost[..., None], problem.points)), truth
    )
    assert there.double().mean() >= 0.97
    error = (result.projected() - exact).square().sum(-1).mean(1).sqrt()
    assert error[there].max() < (3.0 if kernel == "huber" else 0.6)


@pytest.mark.parametrize("half", [False, True])
def test_missing_landmarks(half):
    problem, truth, _, rng = posed(60)
    x = EMBEDDING.apply(MODEL.arrays.v_template)[:, 0]
    missing = x * rng.choice([-1, 1], size=(BATCH, 1)) > 0 if half else rng.random((BATCH, 120)) < 0.4
    points = torch.where(torch.as_tensor(missing)[..., None], torch.nan, problem.points)
    assert reached(attrs.evolve(problem, points=points), truth)[1].all()


@pytest.mark.parametrize("wrong", [0.7, 1.3])
@pytest.mark.parametrize("joint", [False, True])
def test_a_wrong_focal_length(wrong, joint):
    problem, truth, exact, _ = posed(30)
    first, last = problem.stages
    camera = attrs.evolve(problem.camera, focal=wrong * problem.camera.focal)
    problem = attrs.evolve(
        problem,
        camera=camera,
        stages=(first, attrs.evolve(last, focal=joint)),
        focal_deviation=0.3 if joint else 0.0,
    )
    start = truth.clone()  # as much nearer or farther away
    start[:, -1] += (wrong - 1) * MODEL.landmarks(EMBEDDING, truth).points(truth)[..., 2].mean(1)
    result, there = reached(problem, start)
    assert there.all()
    assert (result.projected() - exact).square().sum(-1).mean(1).sqrt().max() < 0.7
