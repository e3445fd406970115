import math

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from partfit.errors import InputError, ShapeError
from partfit.fitting import FitProblem, FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.alignment import align_to_points
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.fitting.terms import RelativePoints
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection
from partfit.models.base import ParametricModel
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model()
EMBEDDING = synthetic_embedding(MODEL, 40, support=2)


class WithoutClosedForm(ParametricModel):
    """The synthetic model, differentiated automatically."""

    groups, topology = MODEL.groups, MODEL.topology

    def points(self, x):
        return MODEL.points(x)


def problem(batch=2, *, model=MODEL, noise=0.003, seed=0, **options):
    """Landmarks of random states with 3D points, moved by any offset, and those states."""
    p, truth = synthetic_problem(model, EMBEDDING, batch, seed=seed, **options)
    rng = np.random.default_rng(seed)
    points = MODEL.landmarks(EMBEDDING, truth).points(truth)
    points = points + torch.as_tensor(rng.normal(size=points.shape) * noise + rng.normal(size=(batch, 1, 3)))
    scale = torch.as_tensor(rng.uniform(0.5, 2, points.shape) * 0.003)
    return attrs.evolve(p, points_3d=points.to(p.points), scale_3d=scale.to(p.points)), truth


@pytest.mark.parametrize("model", [MODEL, WithoutClosedForm()])
@pytest.mark.parametrize("kernel", ["none", "huber", "cauchy"])
def test_gradient_and_jacobian_equal_automatic_differentiation(model, kernel):
    p, truth = problem(noise_px=0.5)
    p = attrs.evolve(p, model=model)
    objective = Objective(p, Stage(tuple(MODEL.slices), kernel=kernel, kernel_scale=1.0))
    x = truth + 0.01
    equations = objective.normal_equations(objective.evaluate(x))
    gradient = torch.func.jacrev(lambda v: objective.evaluate(v).cost.sum())(x)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-8, atol=1e-8)

    term, landmarks = RelativePoints(p), model.landmarks(EMBEDDING, x)
    root = torch.rand(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = term.jacobian(landmarks.linearize(x), root, tuple(MODEL.slices))
    automatic = torch.func.jacfwd(
        lambda v: (term.residual(landmarks.points(v)) * root[..., None]).flatten(1)
    )(x)
    expected = torch.stack([automatic[i, :, i] for i in range(2)])
    torch.testing.assert_close(own, expected, rtol=1e-8, atol=1e-8)


@given(st.tuples(*[st.floats(-10, 10)] * 3), st.integers(0, 5))
def test_the_common_origin_does_not_matter(offset, seed):
    p, truth = problem(seed=seed)
    points = MODEL.landmarks(EMBEDDING, truth).points(truth)
    moved = attrs.evolve(p, points_3d=p.points_3d + torch.tensor(offset, dtype=torch.float64))
    torch.testing.assert_close(RelativePoints(moved).residual(points), RelativePoints(p).residual(points))


def test_the_residuals_are_those_of_the_best_translation():
    p, truth = problem(batch=1)
    points = MODEL.landmarks(EMBEDDING, truth).points(truth)
    weights = 1 / p.scale_3d[0].numpy() * np.sqrt(EMBEDDING.reliability)[:, None]
    difference = (points - p.points_3d)[0].numpy()
    best = least_squares(lambda t: (weights * (difference - t)).ravel(), np.zeros(3), xtol=1e-15, ftol=1e-15)
    residual = RelativePoints(p).residual(points)[0].numpy()
    np.testing.assert_allclose(residual, weights * (difference - best.x), atol=1e-6)
    assert 0.5 * (residual**2).sum() == pytest.approx(best.cost, rel=1e-9)


def test_coordinates_without_a_finite_value_or_scale_are_left_out():
    p, truth = problem()
    points, scale = p.points_3d.clone(), p.scale_3d.clone()
    points[0, 3, 2] = torch.nan
    scale[0, 4, 0], scale[0, 5] = torch.inf, torch.tensor([0.0, -1.0, torch.nan])
    points[1] = torch.nan  # nothing is known of this item
    odd = attrs.evolve(p, points_3d=points, scale_3d=scale)
    where = MODEL.landmarks(EMBEDDING, truth).points(truth)
    residual = RelativePoints(odd).residual(where)
    assert torch.isfinite(residual).all()
    assert residual[0, 3, 2] == residual[0, 4, 0] == 0
    assert (residual[0, 3, :2] != 0).all()
    assert (residual[0, 5] == 0).all()
    assert (residual[1] == 0).all()
    result = LevenbergMarquardt().fit(odd)
    plain = LevenbergMarquardt().fit(attrs.evolve(p, points_3d=None, scale_3d=None))
    assert FitStatus.FAILED not in result.status
    torch.testing.assert_close(result.vertices()[1], plain.vertices()[1], rtol=0, atol=1e-6)


def test_relative_points_tell_the_shape_that_noisy_landmarks_do_not():
    p, truth = problem(noise=0.0, noise_px=2.0)
    p = attrs.evolve(p, scale_3d=p.scale_3d / 10)
    flat = attrs.evolve(p, points_3d=None, scale_3d=None)

    def error(q):
        difference = LevenbergMarquardt().fit(q).landmarks() - MODEL.landmarks(EMBEDDING, truth).points(truth)
        return (difference - difference.mean(1, keepdim=True)).norm(dim=-1).mean()

    assert error(p) < 0.1 * error(flat)


def test_the_start_takes_its_rotation_from_the_relative_points():
    p, truth = problem(noise=0.0, max_angle=3.0)
    rigid = MODEL.columns(("global_orient", "transl"))
    plain = truth.clone()
    plain[:, [i for i in range(truth.shape[1]) if i not in rigid]] = 0  # a state that the start can meet
    landmarks = MODEL.landmarks(EMBEDDING, plain).points(plain)
    start = closed_form_start(attrs.evolve(p, points_3d=landmarks + 3.0, points=p.camera.project(landmarks)))
    torch.testing.assert_close(MODEL.vertices(start), MODEL.vertices(plain), rtol=0, atol=1e-6)


def test_detections_with_and_without_relative_points_share_a_batch():
    p, _ = problem()
    camera = p.camera
    points, ones = p.points.numpy(), np.ones(40)
    relative, scale = p.points_3d[0].numpy(), np.full((40, 3), 0.01)
    detections = [
        Detection(
            EMBEDDING.scheme,
            points[0],
            points[0] * 0 + 1,
            ones,
            points_3d=relative,
            scale_3d=scale,
        ),
        Detection(EMBEDDING.scheme, points[1], points[1] * 0 + 1, ones),
    ]
    together = FitProblem.from_detections(MODEL, EMBEDDING, detections, camera, p.stages)
    assert torch.isfinite(together.points_3d[0]).all()
    assert not torch.isfinite(together.points_3d[1]).any()
    # seen from straight ahead, then turned to the ray of the middle of the landmarks
    middle = torch.cat([p.points[0].mean(0) - camera.principal[0], camera.focal[:1]])
    ahead = camera.rotation_towards(p.points.mean(1))[0] @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ahead, middle / middle.norm())
    distances = torch.cdist(together.points_3d[0], together.points_3d[0])
    torch.testing.assert_close(distances, torch.cdist(p.points_3d[0], p.points_3d[0]))
    confident = FitProblem.from_detections(
        MODEL, EMBEDDING, detections, camera, p.stages, weighting="confidence"
    )
    assert confident.points_3d is None


@given(st.floats(-300, 900), st.floats(-300, 700))
def test_the_rotation_towards_a_pixel_does_not_roll(x, y):
    camera = Camera.for_images([(640, 480)], dtype=torch.float64)
    rotation = camera.rotation_towards(torch.tensor([[x, y]], dtype=torch.float64))[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    seen = camera.project(rotation[None, None, :, 2])[0, 0]
    torch.testing.assert_close(seen, torch.tensor([x, y], dtype=torch.float64))
    assert rotation[0, 1].item() == pytest.approx(
        rotation[1, 0].item(), abs=1e-12
    )  # of least angle: its axis has no z


def test_relative_points_are_checked():
    p, _ = problem()
    with pytest.raises(InputError, match="together"):
        attrs.evolve(p, scale_3d=None)
    with pytest.raises(ShapeError, match="points_3d"):
        attrs.evolve(p, points_3d=p.points_3d[:, :3])
    with pytest.raises(InputError, match="inverse_scale"):
        attrs.evolve(p, weighting="confidence")
    points = p.points[0].numpy()
    with pytest.raises(InputError, match="together"):
        Detection(EMBEDDING.scheme, points, points * 0 + 1, np.ones(40), points_3d=np.ones((40, 3)))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_mirrored_shape_is_turned_not_reflected(side):
    shape = np.random.default_rng(0).normal(size=(1, 20, 3))
    target = torch.as_tensor(shape * [side, 1, 1])
    rotation = align_to_points(torch.as_tensor(shape), target, torch.ones(1, 20, dtype=torch.float64))[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation).item() == pytest.approx(1)
    if side == 1:
        torch.testing.assert_close(rotation, torch.eye(3, dtype=torch.float64))


def test_reliability_weighs_relative_points_too():
    p, truth = problem(batch=1)
    reliability = np.where(np.arange(40) < 20, 0.25, 1.0)
    doubtful = attrs.evolve(p, embedding=attrs.evolve(EMBEDDING, reliability=reliability))
    scale = torch.where(torch.arange(40)[:, None] < 20, p.scale_3d * 2, p.scale_3d)
    points = MODEL.landmarks(EMBEDDING, truth).points(truth)
    expected = RelativePoints(attrs.evolve(p, scale_3d=scale)).residual(points)
    torch.testing.assert_close(RelativePoints(doubtful).residual(points), expected)


def test_landmarks_below_the_least_confidence_are_left_out():
    p, _ = problem()
    confidence = torch.ones_like(p.confidence)
    confidence[:, :10] = 0.4
    wrong = attrs.evolve(
        p, points=p.points.clone(), points_3d=p.points_3d.clone(), confidence=confidence, min_confidence=0.5
    )
    wrong.points[:, :10] += 50
    wrong.points_3d[:, :10] += 1
    left_out = attrs.evolve(p, points=p.points.clone(), points_3d=p.points_3d.clone())
    left_out.points[:, :10] = torch.nan
    left_out.points_3d[:, :10] = torch.nan
    found, expected = (LevenbergMarquardt().fit(q).vertices() for q in (wrong, left_out))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_vague_relative_points_do_not_turn_the_start():
    p, _ = problem(batch=8, noise=1.0, noise_px=0.5, max_angle=3.0)
    vague = attrs.evolve(p, scale_3d=torch.full_like(p.scale_3d, 1.0))
    flat = attrs.evolve(p, points_3d=None, scale_3d=None)
    torch.testing.assert_close(closed_form_start(vague), closed_form_start(flat))
    assert not torch.allclose(closed_form_start(p), closed_form_start(flat))


@pytest.mark.parametrize("stray", [math.nan, math.inf, 2e4])
def test_unusable_landmarks_do_not_turn_the_relative_points(stray):
    p, _ = problem(batch=1)
    points, scale = p.points[0].numpy().copy(), np.ones((40, 2))
    points[7], scale[7] = stray, math.inf
    relative = {"points_3d": p.points_3d[0].numpy(), "scale_3d": np.full((40, 3), 0.01)}
    detection = Detection(EMBEDDING.scheme, points, scale, np.ones(40), box=[0, 0, 1, 1], **relative)
    posed = FitProblem.from_detections(MODEL, EMBEDDING, [detection], p.camera, p.stages)
    middle = torch.as_tensor(np.delete(points, 7, axis=0).mean(axis=0, keepdims=True))
    expected = p.camera.rotation_towards(middle)
    torch.testing.assert_close(posed.points_3d, p.points_3d @ expected.transpose(1, 2))


def test_confidence_weighting_refuses_what_acts_on_scales():
    p, _ = synthetic_problem(MODEL, EMBEDDING)
    with pytest.raises(InputError, match="hidden_scale"):
        attrs.evolve(p, weighting="confidence", stages=(Stage((), hidden_scale=2.0),))
