"""Gradients through Theseus: against finite differences in float64, and against partfit's own."""

import gc
import math
import tracemalloc

import attrs
import numpy as np
import pytest
import torch

from partfit.fitting import Backward, FitLayer, FitStatus, LevenbergMarquardt, Stage
from partfit.models import SkinnedModel
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem
from partfit_theseus.fitter import TheseusFitter

MODEL = synthetic_model(n_betas=4, n_expression=3)
EMBEDDING = synthetic_embedding(MODEL, 50)
#: What gradients are taken by, and the step of the finite differences.
INPUTS = {"points": 1e-3, "scale": 1e-4, "focal": 3e-2, "principal": 1e-3, "betas": 1e-4, "start": 1e-6}
GIVEN = [name for name in INPUTS if name != "start"]
IMPLICIT = Backward(hessian="gauss-newton")
TRUNCATED = Backward("truncated", steps=3)
UNROLLED = Backward("unrolled", steps=3, damping=0.1)
OURS = [IMPLICIT, TRUNCATED, UNROLLED]


def theseus(**options):
    return TheseusFitter(TheseusFitter.Config(tolerance=1e-12, **options))


class Case:
    """A problem, a layer, and a random linear function of the parameters as the loss."""

    def __init__(self, backward, fitter=None, noise_px=1.5, model=MODEL, **changes):
        problem, truth = synthetic_problem(model, EMBEDDING, 2, noise_px=noise_px)
        self.weighted = noise_px > 0
        if not self.weighted:  # the prior's residuals vanish at the truth, too
            problem = attrs.evolve(problem, prior_weights=dict.fromkeys(model.slices, 0.0))
        self.problem = attrs.evolve(problem, **changes)
        self.layer = FitLayer(model, EMBEDDING, self.problem.stages, fitter or theseus(), backward)
        rng = np.random.default_rng(5)
        self.probe = torch.as_tensor(rng.normal(size=truth.shape))
        camera = self.problem.camera
        self.inputs = {
            "points": self.problem.points,
            "scale": self.problem.scale,
            "focal": camera.focal,
            "principal": camera.principal,
            "betas": torch.tensor(0.8, dtype=torch.float64),
        }
        if backward.mode == "unrolled":
            self.inputs["start"] = truth + 0.01 * torch.as_tensor(rng.normal(size=truth.shape))

    def fit(self, **inputs):
        values = {**self.inputs, **inputs}
        camera = attrs.evolve(self.problem.camera, focal=values["focal"], principal=values["principal"])
        weights = dict(self.problem.prior_weights)
        if self.weighted:
            weights["betas"] = values["betas"]
        return self.layer(
            values["points"], values["scale"], camera, prior_weights=weights, start=values.get("start")
        )

    def loss(self, **inputs):
        return (self.fit(**inputs).x * self.probe).sum()

    def direction(self, name):
        return torch.as_tensor(np.random.default_rng(len(name)).normal(size=self.inputs[name].shape))

    def gradient(self, name):
        leaf = self.inputs[name].clone().requires_grad_()
        self.loss(**{name: leaf}).backward()
        return leaf.grad

    def along(self, name):
        """The derivative along a random direction of an input, by backpropagation."""
        return (self.gradient(name) * self.direction(name)).sum().item()

    @torch.no_grad()
    def difference(self, name):
        """The same, by differences of the fit."""
        h, step = INPUTS[name], INPUTS[name] * self.direction(name)
        ahead, behind = (self.loss(**{name: self.inputs[name] + sign * step}) for sign in (1, -1))
        return ((ahead - behind) / (2 * h)).item()


@pytest.mark.parametrize("cost", ["closed-form", "autodiff"])
@pytest.mark.parametrize("name", list(INPUTS))
def test_unrolled_gradients_are_those_of_the_steps(name, cost):
    case = Case(UNROLLED, theseus(cost=cost))
    assert case.along(name) == pytest.approx(case.difference(name), rel=1e-6)


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "geman_mcclure"])
def test_unrolled_gradients_through_robust_kernels(kernel):
    case = Case(UNROLLED, stages=(Stage(tuple(MODEL.slices), 20, kernel, 1.2),))
    assert case.along("points") == pytest.approx(case.difference("points"), rel=1e-5)


def test_unrolled_steps_are_those_of_lm():
    ours, other = Case(UNROLLED), Case(UNROLLED, LevenbergMarquardt())
    torch.testing.assert_close(ours.fit().x, other.fit().x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options", [{}, {"cost": "autodiff"}, {"optimizer": "dogleg"}, {"linear_solver": "lu-dense"}]
)
def test_implicit_gradients_are_those_of_the_minimum_where_residuals_vanish(options):
    case = Case(IMPLICIT, theseus(**options), noise_px=0)
    for name in ("points", "focal", "principal"):
        assert case.along(name) == pytest.approx(case.difference(name), rel=1e-4)


@pytest.mark.parametrize("name", GIVEN)
def test_implicit_gradients_are_those_of_lm_with_the_same_matrix(name):
    """With residuals, neither is exact, but both are J^T J's."""
    ours = Case(IMPLICIT)
    other = Case(IMPLICIT, LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-10)))
    expected = other.gradient(name)
    torch.testing.assert_close(ours.gradient(name), expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


@pytest.mark.parametrize("name", GIVEN)
def test_implicit_gradients_with_the_full_hessian_are_exact(name):
    case = Case(Backward())
    assert case.along(name) == pytest.approx(case.difference(name), rel=1e-5)


@pytest.mark.parametrize("name", GIVEN)
def test_truncation_matters_less_the_more_steps_are_kept(name):
    errors = []
    for steps in (1, 3, 6):
        case = Case(Backward("truncated", steps=steps))
        exact = case.difference(name)
        errors.append(abs(case.along(name) - exact) / abs(exact))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_parameters_at_a_limit_do_not_move(backward):
    middle = Case(IMPLICIT).fit().parameters["betas"][:, 0].detach().min().item()
    betas = attrs.evolve(MODEL.coefficients[0], upper=[middle - 0.05, math.inf, math.inf, math.inf])
    model = SkinnedModel(MODEL.arrays, MODEL.topology, [betas, MODEL.coefficients[1]], MODEL.poses)
    case = Case(attrs.evolve(backward, steps=8, damping=1e-6), model=model)
    if backward.mode == "unrolled":
        case.inputs["start"][:, 0] = middle - 0.05
    leaf = case.inputs["points"].clone().requires_grad_()
    x = case.fit(points=leaf).x
    assert (x[:, 0] == middle - 0.05).all()
    assert not torch.autograd.grad(x[:, 0].sum(), leaf, retain_graph=True)[0].any()
    assert torch.autograd.grad(x.sum(), leaf)[0].any()


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_an_item_that_fails_leaves_the_others_their_gradients(backward):
    case = Case(backward)
    alone = case.inputs["points"].clone().requires_grad_()
    case.fit(points=alone).x[1].sum().backward()
    points = case.inputs["points"].clone()
    points[0] = math.nan
    points.requires_grad_()
    result = case.fit(points=points)
    assert result.status[0] is FitStatus.FAILED
    assert result.status[1] is not FitStatus.FAILED
    assert torch.isfinite(result.x).all()
    result.x.sum().backward()
    assert not points.grad[0].any()
    torch.testing.assert_close(points.grad[1], alone.grad[1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_landmarks_left_out_have_no_gradient_and_spoil_none(backward):
    case = Case(backward)
    scale, points = case.inputs["scale"].clone(), case.inputs["points"].clone()
    scale[:, 0], scale[:, 1], scale[:, 2] = math.inf, 0.0, math.nan
    points[:, 3] = math.nan
    scale.requires_grad_()
    points.requires_grad_()
    case.fit(scale=scale, points=points).x.sum().backward()
    assert torch.isfinite(scale.grad).all()
    assert not scale.grad[:, :4].any()
    assert not points.grad[:, :4].any()
    assert (points.grad[:, 4:] != 0).all()


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_figures_and_statuses(backward):
    result = Case(backward).fit()
    assert torch.isfinite(result.cost).all()
    assert not result.cost.requires_grad
    assert all(result.messages)
    if backward.mode == "unrolled":
        assert set(result.status) == {FitStatus.MAX_ITERATIONS}
        assert result.iterations.tolist() == [6, 6]


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_a_stage_that_reweighs_what_the_mesh_hides_and_relative_points(backward):
    """Gradients reach 3D points and their scales."""
    problem, truth = synthetic_problem(MODEL, EMBEDDING, 2, noise_px=1.0)
    points = (MODEL.landmarks(EMBEDDING, truth).points(truth) + 1e-3).requires_grad_()
    scale = torch.full_like(points, 2e-3).requires_grad_()
    stages = (Stage(tuple(MODEL.slices), 20, hidden_scale=4.0),)
    problem = attrs.evolve(problem, points_3d=points, scale_3d=scale, stages=stages, start=truth)
    theseus().fit_with_gradients(problem, backward).x.sum().backward()
    for leaf in (points, scale):
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.any()


def tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("backward", OURS, ids=lambda b: b.mode)
def test_nothing_waits_for_the_garbage_collector(backward):
    """An objective of Theseus refers to itself: what it holds is let go all the same."""
    case = Case(backward)
    points = case.inputs["points"].clone().requires_grad_()

    def call():
        points.grad = None
        case.fit(points=points).x.sum().backward()

    call()
    gc.collect()
    before = tensors()
    gc.disable()
    try:
        for _ in range(3):
            call()
        after = tensors()
    finally:
        gc.enable()
    assert after <= before


@pytest.mark.slow
@pytest.mark.parametrize("backward", [None, *OURS, Backward()], ids=lambda b: str(b))
def test_nothing_grows_over_200_calls(backward):
    case = Case(backward or IMPLICIT)
    points = case.inputs["points"].clone().requires_grad_(backward is not None)

    def call():
        points.grad = None
        if backward is None:
            case.layer.fitter.fit(case.problem)
        else:
            case.fit(points=points).x.sum().backward()

    for _ in range(3):
        call()
    gc.collect()
    before = tensors()
    tracemalloc.start()
    held = []
    for n in range(200):
        call()
        if n in (60, 199):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert tensors() <= before
    assert held[1] - held[0] < 50_000
