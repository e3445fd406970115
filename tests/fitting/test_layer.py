"""Gradients through a fit, against finite differences of the fit itself, in float64."""

import gc
import math

import attrs
import numpy as np
import pytest
import torch

from partfit.fitting import Backward, FitLayer, FitStatus, LevenbergMarquardt, Stage
from partfit.models import SkinnedModel
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model()
EMBEDDING = synthetic_embedding(MODEL, 60)
FITTER = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-10))
UNROLLED = Backward("unrolled", steps=3, damping=0.1)
#: What gradients are taken by, and the step of the finite differences.
INPUTS = {"points": 1e-3, "scale": 1e-4, "focal": 3e-2, "principal": 1e-3, "betas": 1e-4, "start": 1e-6}


class Case:
    """A problem, a layer, and a random linear function of the parameters as the loss."""

    def __init__(self, backward, noise_px=1.5, model=MODEL, **changes):
        embedding = synthetic_embedding(model, 60)
        problem, truth = synthetic_problem(model, embedding, 2, noise_px=noise_px)
        if noise_px == 0:  # the prior's residuals vanish at the truth, too
            problem = attrs.evolve(problem, prior_weights=dict.fromkeys(model.slices, 0.0))
        self.problem = attrs.evolve(problem, **changes)
        self.layer = FitLayer(model, embedding, self.problem.stages, FITTER, backward)
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
        weights = {**self.problem.prior_weights, "betas": values["betas"]}
        if not any(self.problem.prior_weights.values()) and self.problem.prior_weights:
            weights["betas"] = 0 * values["betas"]
        return self.layer(
            values["points"], values["scale"], camera, prior_weights=weights, start=values.get("start")
        )

    def loss(self, **inputs):
        return (self.fit(**inputs).x * self.probe).sum()

    def derivative(self, name):
        """Along a random direction of an input: by backpropagation, and by differences of the fit."""
        base, h = self.inputs[name], INPUTS[name]
        rng = np.random.default_rng(len(name))
        direction = torch.as_tensor(rng.normal(size=base.shape))
        leaf = base.clone().requires_grad_()
        self.loss(**{name: leaf}).backward()
        with torch.no_grad():
            ahead, behind = (self.loss(**{name: base + sign * h * direction}) for sign in (1, -1))
        return (leaf.grad * direction).sum().item(), ((ahead - behind) / (2 * h)).item()


@pytest.mark.parametrize("name", ["points", "scale", "focal", "principal", "betas"])
def test_implicit_gradients_are_those_of_the_minimum(name):
    analytic, numeric = Case(Backward()).derivative(name)
    assert analytic == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "geman_mcclure"])
def test_implicit_gradients_through_robust_kernels(kernel):
    stages = (Stage(("global_orient", "transl"), 10), Stage(tuple(MODEL.slices), 60, kernel, 1.2))
    analytic, numeric = Case(Backward(), stages=stages).derivative("points")
    assert analytic == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("name", list(INPUTS))
def test_unrolled_gradients_are_those_of_the_steps(name):
    analytic, numeric = Case(UNROLLED).derivative(name)
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_parameters_at_a_limit_do_not_move():
    """With a limit that the minimum meets, the others move as they do along it."""
    middle = Case(Backward()).fit().parameters["betas"][:, 0].detach().min().item()
    groups = [
        attrs.evolve(group, upper=np.r_[middle - 0.05, np.full(group.size - 1, np.inf)])
        if group.name == "betas"
        else group
        for group in MODEL.coefficients
    ]
    case = Case(Backward(), model=SkinnedModel(MODEL.arrays, MODEL.topology, groups, MODEL.poses))
    leaf = case.inputs["points"].clone().requires_grad_()
    x = case.fit(points=leaf).x
    assert (x[:, 0] == middle - 0.05).all()
    (gradient,) = torch.autograd.grad(x[:, 0].sum(), leaf, retain_graph=True)
    assert not gradient.any()
    analytic, numeric = case.derivative("points")
    assert analytic == pytest.approx(numeric, rel=1e-5)


def test_the_gauss_newton_matrix_is_exact_where_residuals_vanish_and_nowhere_else():
    exact = Case(Backward(hessian="gauss-newton"), noise_px=0)
    analytic, numeric = exact.derivative("points")
    assert analytic == pytest.approx(numeric, rel=1e-4)
    noisy = Case(Backward(hessian="gauss-newton"))
    analytic, numeric = noisy.derivative("points")
    assert abs(analytic - numeric) > 0.01 * abs(numeric)


def test_truncation_matters_less_the_more_steps_are_kept():
    errors = []
    for steps in (1, 2, 4):
        case = Case(Backward("truncated", steps=steps))
        analytic, numeric = case.derivative("points")
        errors.append(abs(analytic - numeric) / abs(numeric))
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


@pytest.mark.parametrize("backward", [Backward(), Backward("truncated"), UNROLLED], ids=lambda b: b.mode)
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
    torch.testing.assert_close(points.grad[1], alone.grad[1], rtol=1e-9, atol=1e-12)


def test_landmarks_left_out_have_no_gradient_and_spoil_none():
    """Infinite, zero and NaN scales, and a landmark that is not finite."""
    case = Case(Backward())
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


def test_vertices_have_gradients_too():
    case = Case(Backward())
    points = case.inputs["points"].clone().requires_grad_()
    case.fit(points=points).vertices().square().sum().backward()
    assert torch.isfinite(points.grad).all()
    assert points.grad.any()


def test_the_gradient_is_taken_where_it_vanishes():
    """However roughly the fitter stops, the solution that is differentiated is the minimum."""
    exact = Case(Backward())
    rough = Case(Backward())
    rough.layer.fitter = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-2))
    torch.testing.assert_close(rough.fit().x, exact.fit().x, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backward", [Backward(), Backward("truncated"), UNROLLED], ids=lambda b: b.mode)
def test_nothing_grows_over_many_calls(backward):
    case = Case(backward)
    points = case.inputs["points"].clone().requires_grad_()

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def call():
        points.grad = None
        case.fit(points=points).x.sum().backward()

    call()
    before = tensors()
    for _ in range(20):
        call()
    assert tensors() <= before
