"""Landmarks that follow the outline: chosen before a stage, each item for itself."""

import attrs
import numpy as np
import pytest
import torch

from partfit.errors import InputError, ShapeError
from partfit.fitting import FitProblem, LevenbergMarquardt, Stage
from partfit.fitting.contours import with_contour_frozen
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import ContourEmbedding
from partfit.models.contour import landmark_points
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model()
PLAIN = synthetic_embedding(MODEL, 40, 3)
CONTOUR = [3, 17, 5]


class ByTranslation(ContourEmbedding):
    """Takes choice 0 left of the optical axis, else 1."""

    def choose(self, model, x, camera):
        return (x[:, model.slices["transl"]][:, 0] > 0).long()


def contour(**changes):
    rng = np.random.default_rng(3)
    rows = {
        "contour": CONTOUR,
        "choices_indices": rng.integers(0, 300, (2, 3, 4)),
        "choices_weights": rng.dirichlet(np.ones(4), (2, 3)),
        "reliability": np.linspace(0.5, 1, 40),
    }
    return ByTranslation(PLAIN.scheme, PLAIN.topology, PLAIN.indices, PLAIN.weights, **{**rows, **changes})


def fixed(embedding, choice):
    """The plain embedding with one choice in the contour's rows."""
    indices = np.pad(embedding.indices, ((0, 0), (0, 1)))
    weights = np.pad(embedding.weights, ((0, 0), (0, 1)))
    indices[CONTOUR], weights[CONTOUR] = embedding.choices_indices[choice], embedding.choices_weights[choice]
    return LandmarkEmbedding(PLAIN.scheme, PLAIN.topology, indices, weights, embedding.reliability)


def problem_of(embedding, sides):
    """A problem whose items stand left (-1) or right (1) of the axis, with landmarks of the contour."""
    problem, truth = synthetic_problem(MODEL, PLAIN, batch=len(sides), noise_px=0.5)
    truth[:, MODEL.slices["transl"]] = torch.tensor([[0.05 * side, 0.0, 0.9] for side in sides]).to(truth)
    points = problem.camera.project(landmark_points(MODEL, embedding, truth, problem.camera))
    return attrs.evolve(problem, embedding=embedding, points=points), truth


def test_landmarks_take_the_rows_of_their_own_item():
    embedding = contour()
    problem, truth = problem_of(embedding, [-1, 1])
    points = landmark_points(MODEL, embedding, truth, problem.camera)
    for item, choice in enumerate([0, 1]):
        expected = fixed(embedding, choice).apply(MODEL.points(truth)[item].numpy())
        assert np.allclose(points[item], expected, atol=1e-12)


def test_a_fit_equals_that_with_the_rows_fixed():
    embedding = contour()
    problem, _ = problem_of(embedding, [-1, 1, -1])
    result = LevenbergMarquardt().fit(problem)
    assert (result.rms_px < 0.2).all()
    for item, choice in enumerate([0, 1, 0]):
        alone = FitProblem(
            MODEL,
            fixed(embedding, choice),
            problem.points[[item]],
            problem.scale[[item]],
            problem.confidence[[item]],
            problem.camera.select([item]),
            problem.stages,
        )
        other = LevenbergMarquardt().fit(alone)
        torch.testing.assert_close(result.x[[item]], other.x, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.cost[[item]], other.cost, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(
        result.landmarks(), landmark_points(MODEL, embedding, result.x, problem.camera), rtol=0, atol=0
    )
    assert result.covariance().isfinite().all()


def test_what_other_items_choose_changes_nothing():
    embedding = contour()
    problem, _ = problem_of(embedding, [-1, 1, -1])
    other, _ = problem_of(embedding, [-1, -1, 1])
    mixed = attrs.evolve(problem, points=torch.cat([problem.points[:1], other.points[1:]]))
    first, second = LevenbergMarquardt().fit(problem), LevenbergMarquardt().fit(mixed)
    assert torch.equal(first.x[0], second.x[0])


def test_a_frozen_contour_carries_scales_and_3d_points_along():
    embedding = contour()
    problem, truth = problem_of(embedding, [-1, 1])
    points_3d = torch.randn(2, 40, 3, dtype=torch.float64)
    problem = attrs.evolve(
        problem, points_3d=points_3d, scale_3d=torch.ones_like(points_3d), scale=problem.scale * 3
    )
    frozen = with_contour_frozen(problem, truth)
    assert frozen.points.shape == (2, 40 + 2 * 3, 2)
    for item in range(2):
        own = slice(40 + 3 * item, 43 + 3 * item)
        assert torch.equal(frozen.points[item, own], problem.points[item, CONTOUR])
        assert torch.equal(frozen.points_3d[item, own], points_3d[item, CONTOUR])
        others = [k for k in range(40, 46) if not own.start <= k < own.stop]
        assert frozen.scale[item, others].isinf().all()
        assert frozen.scale[item, CONTOUR].isinf().all()
        assert frozen.scale_3d[item, CONTOUR].isinf().all()
    assert np.allclose(frozen.embedding.reliability[40:43], embedding.reliability[CONTOUR])
    assert with_contour_frozen(frozen, truth) is frozen


def test_hidden_landmarks_of_a_contour_are_scaled():
    embedding = contour()
    problem, _ = problem_of(embedding, [-1, 1])
    stage = Stage(problem.stages[-1].free, hidden_scale=4.0)
    result = LevenbergMarquardt().fit(attrs.evolve(problem, stages=(problem.stages[0], stage)))
    factors = result.problem.scale / problem.scale
    assert set(factors.unique().tolist()) == {1.0, 4.0}
    assert result.problem.embedding is embedding


def test_places_that_are_not_known_give_nan_and_no_residual():
    reliability = np.ones(40)
    reliability[[2, 9]] = 0
    embedding = attrs.evolve(PLAIN, reliability=reliability)
    problem, _ = synthetic_problem(MODEL, embedding, batch=2)
    wild = problem.points.clone()
    wild[:, [2, 9]] += 500
    result = LevenbergMarquardt().fit(attrs.evolve(problem, points=wild))
    assert (result.rms_px < 0.01).all()
    unknown = result.projected().isnan().all(-1)
    assert unknown.nonzero()[:, 1].tolist() == [2, 9, 2, 9]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"contour": [3, 17, 40]}, InputError, r"different points out of 0\.\.39"),
        ({"contour": [3, 17, 3]}, InputError, "different points"),
        ({"choices_indices": np.zeros((2, 2, 4))}, ShapeError, r"\(A, 3, K\)"),
        ({"choices_weights": np.ones((2, 3, 3)) / 3}, ShapeError, "choices_weights"),
        ({"choices_weights": np.ones((2, 3, 4))}, InputError, "each sum to 1"),
        ({"choices_indices": np.full((2, 3, 4), -1)}, InputError, "indices >= 0"),
    ],
)
def test_faulty_contours_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        contour(**changes)


def test_a_choice_beyond_the_model_is_refused():
    with pytest.raises(InputError, match="refers to point 999"):
        MODEL.check_embedding(contour(choices_indices=np.full((2, 3, 4), 999)))


def test_a_contour_needs_its_choice():
    with pytest.raises(TypeError, match="choose"):
        ContourEmbedding(
            LandmarkScheme("a", ["a"]),
            "plane",
            [[0]],
            [[1.0]],
            contour=[0],
            choices_indices=[[[0]]],
            choices_weights=[[[1.0]]],
        )


def test_the_hash_tells_choices_apart():
    one = contour()
    assert one.hash == contour().hash
    assert one.hash != contour(choices_indices=one.choices_indices[::-1]).hash
    assert one.hash != contour(contour=[17, 3, 5]).hash
